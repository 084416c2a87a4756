"""Agents as rows: make, change, read, stop; and what state each is in."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, Final

from broker import events, json
from broker.database import Database, Row, Transaction
from broker.errors import BadId, Conflict, NotFound
from broker.times import now_us, rfc3339

_ID: Final = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
# The ids that Roost gives to tasks of its own.
_TASK_ID: Final = re.compile(r"(turn|exec|prompt)-[0-9]+")
ID_LENGTH: Final = 64
# `unread` counts no further than this: the exact depth of a flood helps nobody.
UNREAD_SHOWN: Final = 10_000
# Meters count billionths of a dollar (broker.budgets).
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """What a caller wants an agent to be; None leaves a field as it is."""

    name: str | None = None
    system: str | None = None
    model: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] | None = None


def check_id(id: str) -> str:
    """Return the id, or raise BadId with the rule."""
    if len(id) > ID_LENGTH or not _ID.fullmatch(id):
        raise BadId(id)
    return id


def upsert(
    tx: Transaction,
    id: str | None,
    change: AgentChange,
    *,
    parent_id: str | None = None,
) -> tuple[str, bool]:
    """Make the agent, or change the one that has this id; True when it was made. One
    that was stopped comes back to work.

    `parent_id` is the agent that makes it, if an agent does.
    """
    if id is not None and tx.one("SELECT 1 AS x FROM agents WHERE id = ?", id):
        tx.execute("UPDATE agents SET archived_at = NULL WHERE id = ?", id)
        update(tx, id, change)
        return id, False
    if id is not None:
        _refuse_task_id(tx, id)
    made = _insert(tx, check_id(id) if id else _free_id(tx), change, parent_id)
    # Nothing was made when somebody else was faster: then there is one to change.
    return (made, True) if made else upsert(tx, id, change)


def exists(tx: Transaction, id: str) -> bool:
    """Whether there is an agent of this id, stopped or not."""
    return tx.one("SELECT 1 AS x FROM agents WHERE id = ?", id) is not None


def _refuse_task_id(tx: Transaction, id: str) -> None:
    """One name, one thing: tools, `why` and `show` take either kind of id."""
    is_taken = tx.one("SELECT 1 AS x FROM tasks WHERE id = ?", id) is not None
    if is_taken or _TASK_ID.fullmatch(id):
        raise Conflict(f"{id} is the id of a task. Choose another for the agent.")


def update(tx: Transaction, id: str, change: AgentChange) -> None:
    """Change what the caller named; the rest stays."""
    columns, values = ["updated_at = ?"], [now_us()]
    for name, value in _columns(change).items():
        columns.append(f"{name} = ?")
        values.append(value)
    row = tx.one(
        f"UPDATE agents SET {', '.join(columns)} WHERE id = ? RETURNING id",
        *values,
        id,
    )
    if row is None:
        raise NotFound("agent", id)
    refresh(tx, id)


def archive(tx: Transaction, id: str) -> None:
    """Stop the agent: it takes no more turns and its history stays."""
    row = tx.one(
        "UPDATE agents SET archived_at = COALESCE(archived_at, ?) WHERE id = ?"
        " RETURNING id",
        now_us(),
        id,
    )
    if row is None:
        raise NotFound("agent", id)
    refresh(tx, id)


def require_active(tx: Transaction, id: str) -> Row:
    """Return the agent's row, locked; raise NotFound, or Conflict when archived."""
    row = tx.one(f"SELECT * FROM agents WHERE id = ?{tx.for_update}", id)
    if row is None:
        raise NotFound("agent", id)
    if row["archived_at"] is not None:
        raise Conflict(
            f"Agent {id} is stopped. Start it again with POST /api/v1/agents."
        )
    return row


def refresh(tx: Transaction, id: str | None) -> None:
    """Set the agent's state from its turns; a no-op for tasks of no agent."""
    if id is None:
        return
    now = now_us()
    tx.execute(
        "UPDATE agents SET last_activity_at = ?, updated_at = ?, state = CASE"
        " WHEN archived_at IS NOT NULL THEN 'stopped'"
        " WHEN turn_id IS NOT NULL THEN COALESCE("
        "  (SELECT status FROM tasks WHERE tasks.id = agents.turn_id), 'idle')"
        " WHEN EXISTS (SELECT 1 FROM tasks WHERE tasks.agent_id = agents.id"
        "  AND tasks.type = 'turn' AND tasks.status = 'queued') THEN 'queued'"
        " ELSE 'idle' END WHERE id = ?",
        now,
        now,
        id,
    )


def get(database: Database, id: str) -> Row:
    """Return the agent as the API shows it."""
    row = database.read_one(f"{_SELECT} WHERE id = ?", _today(), id)
    if row is None:
        raise NotFound("agent", id, nearest=_nearest(database, id))
    return shape(database, row)


def get_or_suggest(database: Database, id: str) -> None:
    """Raise NotFound, with the nearest id there is, unless the agent exists."""
    if database.read_one("SELECT 1 AS x FROM agents WHERE id = ?", id) is None:
        raise NotFound("agent", id, nearest=_nearest(database, id))


def list_page(database: Database, *, after: str = "", limit: int = 100) -> list[Row]:
    """List agents by id, those stopped included."""
    rows = database.read(
        f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", _today(), after, limit
    )
    return [shape(database, row) for row in rows]


_SELECT: Final = (
    "SELECT agents.*, (SELECT spent_nano_usd FROM meters"
    " WHERE meters.key = 'day/' || agents.id || '/' || ?) AS nano_usd FROM agents"
)


def shape(database: Database, row: Row) -> Row:
    """Give a row the shape that the contract promises."""
    return {
        "id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "model": row["model"],
        "system": row["system"],
        "tools": json.load(row["tools"]),
        "generation": row["generation"],
        "unread": events.unread_count(database, row["id"], up_to=UNREAD_SHOWN),
        "turn_id": row["turn_id"],
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
        "last_activity_at": rfc3339(row["last_activity_at"]),
        "cost_usd_today": (row.get("nano_usd") or 0) / _NANO,
        "metadata": json.load(row["metadata"]),
        "forked_from": _forked_from(row),
    }


def _forked_from(row: Row) -> Row | None:
    if row["fork_entry_id"] is None:
        return None
    return {"agent_id": row["fork_agent_id"], "entry_id": row["fork_entry_id"]}


def _insert(
    tx: Transaction, id: str, change: AgentChange, parent_id: str | None
) -> str | None:
    now = now_us()
    columns = {
        "name": id,
        "system": "",
        "metadata": "{}",
        **_columns(change),
        "id": id,
        "state": "idle",
        "generation": 1,
        "parent_id": parent_id,
        "created_at": now,
        "updated_at": now,
    }
    row = tx.one(
        f"INSERT INTO agents ({', '.join(columns)})"
        f" VALUES ({', '.join('?' * len(columns))})"
        " ON CONFLICT (id) DO NOTHING RETURNING id",
        *columns.values(),
    )
    return row["id"] if row else None


def _columns(change: AgentChange) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("name", "system", "model"):
        if (text := getattr(change, name)) is not None:
            values[name] = text
    for name in ("tools", "metadata"):
        if (value := getattr(change, name)) is not None:
            values[name] = json.dump(value)
    return values


def _free_id(tx: Transaction) -> str:
    while True:
        id = f"agent-{next_number(tx, 'agent')}"
        if not tx.one("SELECT 1 AS x FROM agents WHERE id = ?", id):
            return id


def next_number(tx: Transaction, prefix: str) -> int:
    """Count one further for a prefix; numbers are never given twice."""
    row = tx.execute(
        "INSERT INTO counters (prefix, value) VALUES (?, 1) ON CONFLICT (prefix)"
        " DO UPDATE SET value = counters.value + 1 RETURNING value",
        prefix,
    )[0]
    return int(row["value"])


def _nearest(database: Database, id: str) -> str | None:
    known = [row["id"] for row in database.read("SELECT id FROM agents LIMIT 1000")]
    close = difflib.get_close_matches(id, known, n=1)
    return close[0] if close else None


def _today() -> str:
    """The day in UTC, as it stands in the key of a day's meter."""
    return (rfc3339(now_us()) or "")[:10]
