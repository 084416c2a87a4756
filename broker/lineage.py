"""Lineages: whose entries an agent's history is made of, newest first.

An agent that was not forked has one segment, its own. A fork goes on from an entry of
another agent: behind its own segment stands that agent's, up to the entry, and so on
to the first. Entries are shared by reference; nothing is ever copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.database import Database, Row, Transaction

# How many forks of forks there may be: each is one more row to read before a turn.
DEPTH_LIMIT: Final = 100
NO_END: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The entries of one agent up to one of them; its own have no end."""

    agent_id: str
    last_id: int = NO_END
    # A turn may end in the generation before: nothing newer than the entry is shared.
    generation: int = NO_END
    # The turn in which the fork began: it is history there, whatever becomes of it.
    turn_id: str | None = None

    def has(self, entry: Row) -> bool:
        """Whether an entry lies in it."""
        return bool(
            entry["agent_id"] == self.agent_id
            and entry["id"] <= self.last_id
            and entry["generation"] <= self.generation
        )


def trace(tx: Transaction | Database, agent_id: str) -> list[Segment]:
    """Return an agent's segments, its own first."""
    segments = [Segment(agent_id=agent_id)]
    while base := _base_of(tx, segments[-1]):
        segments.append(base)
    return segments


def _base_of(tx: Transaction | Database, segment: Segment) -> Segment | None:
    run = tx.execute if isinstance(tx, Transaction) else tx.read
    rows = run(
        "SELECT entries.agent_id, entries.id, entries.generation, entries.turn_id"
        " FROM agents JOIN entries ON entries.id = agents.fork_entry_id"
        " WHERE agents.id = ?",
        segment.agent_id,
    )
    if not rows:
        return None
    return Segment(
        agent_id=rows[0]["agent_id"],
        last_id=rows[0]["id"],
        generation=rows[0]["generation"],
        turn_id=rows[0]["turn_id"],
    )
