"""An agent's history: appended entries, each with its parent, in generations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broker import json
from broker.database import Database, Row, Transaction
from broker.times import now_us, rfc3339

# How much of a generation is rebuilt at most: a turn may not cost more with age.
HISTORY_LIMIT: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry before it has an id."""

    type: str
    role: str | None
    content: list[dict[str, Any]]
    step: int | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    data: dict[str, Any] | None = None


def append(
    tx: Transaction,
    agent_id: str,
    generation: int,
    turn_id: str | None,
    *entries: NewEntry,
) -> list[int]:
    """Append entries behind the agent's last one; return their ids."""
    found = tx.one(
        f"SELECT last_entry_id FROM agents WHERE id = ?{tx.for_update}", agent_id
    )
    parent = found["last_entry_id"] if found else None
    ids: list[int] = []
    for entry in entries:
        parent = _append_one(tx, agent_id, generation, turn_id, parent, entry)
        ids.append(parent)
    tx.execute("UPDATE agents SET last_entry_id = ? WHERE id = ?", parent, agent_id)
    return ids


def _append_one(
    tx: Transaction,
    agent_id: str,
    generation: int,
    turn_id: str | None,
    parent: int | None,
    entry: NewEntry,
) -> int:
    row = tx.execute(
        "INSERT INTO entries (agent_id, parent_id, generation, type, role, content,"
        " turn_id, step, tool_call_id, tool_name, status, usage, data, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        agent_id,
        parent,
        generation,
        entry.type,
        entry.role,
        json.dump(entry.content),
        turn_id,
        entry.step,
        entry.tool_call_id,
        entry.tool_name,
        entry.status,
        None if entry.usage is None else json.dump(entry.usage),
        None if entry.data is None else json.dump(entry.data),
        now_us(),
    )[0]
    return int(row["id"])


def rebuild(tx: Transaction, agent_id: str, generation: int, turn_id: str) -> list[Row]:
    """Return what a turn goes on from: the generation's newest entries, oldest first,
    and behind them the turn's own.

    A turn's entries are a block: its message (the last, where a retry edited it), its
    calls and results, its answer. A turn
    that waits to be tried again lies unfinished between others, so its block is left
    out of their history and moved to the end of its own.
    """
    rows = tx.execute(
        "SELECT * FROM entries WHERE agent_id = ? AND generation = ?"
        " AND (turn_id IS NULL OR turn_id <> ?) ORDER BY id DESC LIMIT ?",
        agent_id,
        generation,
        turn_id,
        HISTORY_LIMIT,
    )
    own = tx.execute(
        "SELECT * FROM entries WHERE turn_id = ? AND id >= (SELECT MAX(id) FROM entries"
        " WHERE turn_id = ? AND type = 'user_message') ORDER BY id",
        turn_id,
        turn_id,
    )
    unfinished = _unfinished_turns(tx, agent_id, turn_id)
    past = [shape(row) for row in reversed(rows) if row["turn_id"] not in unfinished]
    if len(rows) == HISTORY_LIMIT:
        past = _from_a_message_on(past)
    return [*past, *(shape(row) for row in own)]


def _unfinished_turns(tx: Transaction, agent_id: str, turn_id: str) -> set[str]:
    rows = tx.execute(
        "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn' AND id <> ?"
        " AND status IN ('queued', 'running', 'waiting') AND started_at IS NOT NULL",
        agent_id,
        turn_id,
    )
    return {row["id"] for row in rows}


def _from_a_message_on(past: list[Row]) -> list[Row]:
    starts = (i for i, row in enumerate(past) if row["type"] == "user_message")
    return past[next(starts, len(past)) :]


def find_prompt(database: Database, agent_id: str, generation: int) -> str | None:
    """Return the frozen system prompt of a generation, if it has one yet."""
    row = database.read_one(
        "SELECT content FROM entries WHERE agent_id = ? AND generation = ?"
        " AND type = 'system_prompt' ORDER BY id LIMIT 1",
        agent_id,
        generation,
    )
    return None if row is None else str(json.load(row["content"])[0]["text"])


def list_after(
    database: Database,
    agent_id: str,
    *,
    after: int = 0,
    generation: int | None = None,
    limit: int = 200,
) -> list[Row]:
    """List an agent's entries with a greater id, oldest first."""
    rows = database.read(
        "SELECT * FROM entries WHERE agent_id = ? AND id > ?"
        + (" AND generation = ?" if generation is not None else "")
        + " ORDER BY id LIMIT ?",
        *(agent_id, after, generation, limit)
        if generation is not None
        else (agent_id, after, limit),
    )
    return [shape(row) for row in rows]


def shape(row: Row) -> Row:
    """Give a row the shape that the contract promises."""
    return {
        **row,
        "content": json.load(row["content"]),
        "usage": json.load(row["usage"]),
        "data": json.load(row["data"]),
        "created_at": rfc3339(row["created_at"]),
    }
