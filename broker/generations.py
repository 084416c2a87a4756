"""Generations of an agent's conversation: how one ends, and what the next begins with.

A generation begins with an entry `context_compaction`. Its `data` is `{reason,
instructions}` when a person asked for it, and then the next turn's worker adds a second
one with the summary; or `{reason, summary, first_kept_entry_id, tokens_before,
summarised_by, details}`. Nothing of an older generation is changed or removed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from broker import agents, entries, json, leases, lineage
from broker.database import Database, Row, Transaction
from broker.entries import NewEntry
from broker.lineage import Segment
from broker.turns import Turn

Reason = Literal["manual", "threshold", "overflow"]

ENTRY: Final = "context_compaction"
# A summary is made from all that was said since the last, not from what one turn reads.
WHOLE: Final = 5_000
# Only an entry with a summary has this key in its JSON; in a text it would be escaped.
_HAS_SUMMARY: Final = '%"summary":%'
_IS_EDITED: Final = '%"edited":true%'


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """A summary and what it stands for, as its entry keeps them in `data`."""

    reason: Reason
    summary: str
    first_kept_entry_id: int | None
    tokens_before: int
    summarised_by: str
    details: dict[str, Any]


def compact(tx: Transaction, agent_id: str, instructions: str | None) -> int:
    """Begin a new generation with an empty conversation; return its number.

    The entries of the old one stay, readable under their generation. A turn that runs
    ends in the generation in which it began; the next one's worker makes the summary.
    """
    generation = int(agents.require_active(tx, agent_id)["generation"]) + 1
    _move(tx, agent_id, generation)
    entries.append(
        tx,
        agent_id,
        generation,
        None,
        NewEntry(
            type="context_compaction",
            role=None,
            content=[{"type": "text", "text": instructions or "asked for"}],
            data={"reason": "manual", "instructions": instructions},
        ),
    )
    agents.refresh(tx, agent_id)
    return generation


def summarise(tx: Transaction, turn: Turn, compaction: Compaction) -> None:
    """Give the turn's generation the summary that it begins with."""
    leases.guard(tx, turn.id, turn.epoch)
    _append(tx, turn, turn.agent["generation"], compaction)


def advance(
    tx: Transaction, turn: Turn, compaction: Compaction, *, with_prompt: bool
) -> int:
    """Move the agent and its turn into a new generation, headed by the summary; return
    its number. `with_prompt` takes the frozen prompt along.

    When a person has asked for a generation meanwhile, it is that one, and its summary
    is this: the turn's kept tail goes with it, but not the old prompt.
    """
    leases.guard(tx, turn.id, turn.epoch)
    old, current = int(turn.agent["generation"]), _current(tx, turn.agent["id"])
    generation = current if current > old else old + 1
    _move(tx, turn.agent["id"], generation)
    _append(tx, turn, generation, compaction)
    if with_prompt and current == old:
        _copy_prompt(tx, turn, generation)
    return generation


def find_request(database: Database, turn: Turn) -> str | None:
    """Return what a person said who asked for the turn's generation; None when nobody
    did. A generation that somebody asked for begins with that."""
    row = database.read_one(
        "SELECT type, data FROM entries WHERE agent_id = ? AND generation = ?"
        " ORDER BY id LIMIT 1",
        turn.agent["id"],
        turn.agent["generation"],
    )
    if row is None or row["type"] != ENTRY:
        return None
    data = json.load(row["data"]) or {}
    return None if "summary" in data else data.get("instructions") or ""


def find_later_request(tx: Transaction, turn: Turn) -> str | None:
    """Return what a person said who has asked for a generation after the turn's."""
    row = tx.one(
        "SELECT data FROM entries WHERE agent_id = ? AND generation > ?"
        " AND type = 'context_compaction' ORDER BY generation DESC, id DESC LIMIT 1",
        turn.agent["id"],
        turn.agent["generation"],
    )
    return None if row is None else (json.load(row["data"]) or {}).get("instructions")


def conversation_before(tx: Transaction, turn: Turn) -> list[Row]:
    """Return what was said before the turn's generation, oldest first: the newest
    conversation that there was, with its summary, and without the turn's own part."""
    agent_id = turn.agent["id"]
    segments = lineage.trace(tx, agent_id)
    found = (_newest_said(tx, turn, segment) for segment in segments)
    generation = next((each for each in found if each is not None), None)
    if generation is None:
        return []
    rows = entries.rebuild(tx, agent_id, generation, turn.id, WHOLE)
    return [row for row in rows if row["turn_id"] != turn.id]


def oldest_unfinished(tx: Transaction, turn: Turn) -> int | None:
    """Return the first entry of the agent's turns that wait to be tried again. They are
    in nobody's conversation now, but will be: what compacts may not pass them."""
    row = tx.one(
        "SELECT MIN(entries.id) AS id FROM tasks JOIN entries"
        " ON entries.turn_id = tasks.id AND entries.agent_id = tasks.agent_id"
        " WHERE tasks.agent_id = ? AND tasks.type = 'turn' AND tasks.id <> ?"
        " AND tasks.status IN ('queued', 'running', 'waiting')"
        " AND tasks.started_at IS NOT NULL",
        turn.agent["id"],
        turn.id,
    )
    return row["id"] if row else None


def _newest_said(tx: Transaction, turn: Turn, segment: Segment) -> int | None:
    """The newest generation before the turn's in which anything was said."""
    row = tx.one(
        "SELECT generation FROM entries WHERE agent_id = ? AND generation < ?"
        " AND generation <= ? AND id <= ?"
        " AND (type IN ('user_message', 'wake', 'assistant_message', 'tool_result')"
        " OR (type = 'context_compaction' AND data LIKE ?))"
        " ORDER BY generation DESC LIMIT 1",
        segment.agent_id,
        turn.agent["generation"],
        segment.generation,
        segment.last_id,
        _HAS_SUMMARY,
    )
    return None if row is None else int(row["generation"])


def answers_cut_off(database: Database, turn: Turn, first_kept: int) -> list[Row]:
    """Return the turn's answers that a compaction has taken out of its own part; none
    from before a person gave the turn another text."""
    rows = database.read(
        "SELECT * FROM entries WHERE turn_id = ? AND type = 'assistant_message'"
        " AND id < ? AND id > COALESCE((SELECT MAX(id) FROM entries WHERE turn_id = ?"
        " AND type = 'user_message' AND data LIKE ?), 0) ORDER BY id",
        turn.id,
        first_kept,
        turn.id,
        _IS_EDITED,
    )
    return [entries.shape(row) for row in rows]


def model_of(database: Database, turn_id: str, step: int) -> str | None:
    """Return the model that gave an answer, if its step is still known."""
    row = database.read_one(
        "SELECT name FROM steps WHERE task_id = ? AND number = ? AND kind = 'model'",
        turn_id,
        step,
    )
    return None if row is None else str(row["name"])


def _current(tx: Transaction, agent_id: str) -> int:
    row = tx.one(f"SELECT generation FROM agents WHERE id = ?{tx.for_update}", agent_id)
    return int(row["generation"]) if row else 0


def _move(tx: Transaction, agent_id: str, generation: int) -> None:
    tx.execute("UPDATE agents SET generation = ? WHERE id = ?", generation, agent_id)


def _append(
    tx: Transaction, turn: Turn, generation: int, compaction: Compaction
) -> None:
    """It names the turn that made it, whose own part may have been cut."""
    entries.append(
        tx,
        turn.agent["id"],
        generation,
        turn.id,
        NewEntry(
            type="context_compaction",
            role=None,
            content=[{"type": "text", "text": compaction.summary}],
            data=asdict(compaction),
        ),
    )


def _copy_prompt(tx: Transaction, turn: Turn, generation: int) -> None:
    old = turn.agent["generation"]
    rows = tx.execute(
        "SELECT type, role, content FROM entries WHERE agent_id = ? AND generation = ?"
        " AND type IN ('tools_config', 'system_prompt') ORDER BY id",
        _owner_of_prompt(tx, turn.agent["id"], old),
        old,
    )
    frozen = [
        NewEntry(type=row["type"], role=row["role"], content=json.load(row["content"]))
        for row in rows
    ]
    entries.append(tx, turn.agent["id"], generation, None, *frozen)


def _owner_of_prompt(tx: Transaction, agent_id: str, generation: int) -> str:
    """A fork has the frozen prompt of the agent that it was forked from."""
    row = tx.one(
        "SELECT entries.agent_id FROM agents JOIN entries"
        " ON entries.id = agents.prompt_entry_id"
        " WHERE agents.id = ? AND entries.generation = ?",
        agent_id,
        generation,
    )
    return row["agent_id"] if row else agent_id
