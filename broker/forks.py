"""Forks and labels: an agent that goes on from an entry of another, and names for
entries.

A fork shares its past by reference (`broker.lineage`): making one writes one row,
however long the history is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from broker import agents, json, lineage
from broker.agents import AgentChange
from broker.database import Database, Row, Transaction
from broker.errors import BadLabel, Conflict, NotFound
from broker.lineage import DEPTH_LIMIT, Segment
from broker.times import now_us, rfc3339

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFork:
    """Where a fork begins (an entry, a label, else the last entry), and what is to be
    other than in its base."""

    entry_id: int | None = None
    label: str | None = None
    id: str | None = None
    name: str | None = None
    model: str | None = None
    system: str | None = None


def fork(tx: Transaction, base_id: str, wanted: NewFork) -> str:
    """Make an agent that goes on from an entry of another; return its id."""
    base = _get(tx, base_id)
    segments = lineage.trace(tx, base_id)
    entry = _entry(tx, base_id, segments, _start(tx, base, wanted))
    depth = len(segments) - _place(segments, entry)
    if depth >= DEPTH_LIMIT:
        raise Conflict(f"Agent {base_id} is a fork {depth} deep; that is the limit.")
    if wanted.id and tx.one("SELECT 1 AS x FROM agents WHERE id = ?", wanted.id):
        raise Conflict(f"There is an agent {wanted.id} already; choose another id.")
    id, _ = agents.upsert(tx, wanted.id, _change(base, wanted))
    tx.execute(
        "UPDATE agents SET generation = ?, last_entry_id = ?, fork_agent_id = ?,"
        " fork_entry_id = ?, prompt_entry_id = ? WHERE id = ?",
        entry["generation"],
        entry["id"],
        entry["agent_id"],
        entry["id"],
        _prompt_id(tx, base, entry["generation"]) if wanted.system is None else None,
        id,
    )
    return id


def put_label(tx: Transaction, agent_id: str, name: str, entry_id: int) -> Row:
    """Name an entry of an agent's history; a name that exists moves."""
    if not _LABEL.fullmatch(name):
        raise BadLabel(name)
    _get(tx, agent_id)
    _entry(tx, agent_id, lineage.trace(tx, agent_id), entry_id)
    row = tx.execute(
        "INSERT INTO labels (agent_id, name, entry_id, created_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (agent_id, name) DO UPDATE SET entry_id = excluded.entry_id,"
        " created_at = excluded.created_at RETURNING *",
        agent_id,
        name,
        entry_id,
        now_us(),
    )[0]
    return _shape(row)


def get_label(database: Database, agent_id: str, name: str) -> Row:
    """Return a label as the API shows it; raise NotFound."""
    row = database.read_one(
        "SELECT * FROM labels WHERE agent_id = ? AND name = ?", agent_id, name
    )
    if row is None:
        raise NotFound("label", name)
    return _shape(row)


def list_labels(
    database: Database, agent_id: str, *, after: str = "", limit: int = 200
) -> list[Row]:
    """List an agent's labels by name."""
    rows = database.read(
        "SELECT * FROM labels WHERE agent_id = ? AND name > ? ORDER BY name LIMIT ?",
        agent_id,
        after,
        limit,
    )
    return [_shape(row) for row in rows]


def drop_label(tx: Transaction, agent_id: str, name: str) -> Row:
    """Take a name away from its entry, which stays; return the label as it was."""
    row = tx.one(
        "DELETE FROM labels WHERE agent_id = ? AND name = ? RETURNING *", agent_id, name
    )
    if row is None:
        raise NotFound("label", name)
    return _shape(row)


def _get(tx: Transaction, agent_id: str) -> Row:
    row = tx.one(f"SELECT * FROM agents WHERE id = ?{tx.for_update}", agent_id)
    if row is None:
        raise NotFound("agent", agent_id)
    return row


def _start(tx: Transaction, base: Row, wanted: NewFork) -> int:
    if wanted.entry_id is not None:
        return wanted.entry_id
    if wanted.label is not None:
        sql = "SELECT entry_id FROM labels WHERE agent_id = ? AND name = ?"
        row = tx.one(sql, base["id"], wanted.label)
        if row is None:
            raise NotFound("label", wanted.label)
        return int(row["entry_id"])
    if base["last_entry_id"] is None:
        raise Conflict(f"Agent {base['id']} has no history yet to go on from.")
    return int(base["last_entry_id"])


def _entry(
    tx: Transaction, agent_id: str, segments: list[Segment], entry_id: int
) -> Row:
    """Return the entry's place; raise NotFound, or Conflict when it is not theirs."""
    entry = tx.one(
        "SELECT id, agent_id, generation FROM entries WHERE id = ?", entry_id
    )
    if entry is None:
        raise NotFound("entry", str(entry_id))
    if not any(segment.has(entry) for segment in segments):
        raise Conflict(
            f"Entry {entry_id} is not in the history of agent {agent_id};"
            f" it is one of agent {entry['agent_id']}."
        )
    return entry


def _place(segments: list[Segment], entry: Row) -> int:
    return next(i for i, segment in enumerate(segments) if segment.has(entry))


def _change(base: Row, wanted: NewFork) -> AgentChange:
    return AgentChange(
        name=wanted.name,
        system=base["system"] if wanted.system is None else wanted.system,
        model=wanted.model or base["model"],
        tools=json.load(base["tools"]),
        metadata=json.load(base["metadata"]),
    )


def _prompt_id(tx: Transaction, base: Row, generation: int) -> int | None:
    """The prompt that the base has frozen for a generation, if it has one."""
    row = tx.one(
        "SELECT id FROM entries WHERE id = ? AND generation = ?",
        base["prompt_entry_id"],
        generation,
    ) or tx.one(
        "SELECT id FROM entries WHERE agent_id = ? AND generation = ?"
        " AND type = 'system_prompt' ORDER BY id LIMIT 1",
        base["id"],
        generation,
    )
    return row["id"] if row else None


def _shape(row: Row) -> Row:
    return {**row, "created_at": rfc3339(row["created_at"])}
