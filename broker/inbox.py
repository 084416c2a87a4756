"""An agent's inbox: what it has not read yet, and how to change or take back one of it.

An input can be changed until a turn reads it: its own has not begun, and no other turn
has taken it in. The event stays as it was sent; the reader's mark has the other text.
"""

from __future__ import annotations

from typing import Final

from broker import agents, events, tasks
from broker.database import Database, Row, Transaction
from broker.errors import Conflict, NotFound
from broker.times import now_us
from broker.turns import MESSAGES

WITHDRAWN: Final = "The message was withdrawn."

_MESSAGES: Final = ", ".join(repr(kind) for kind in sorted(MESSAGES))
# What is said goes before what happened, as in the line of turns (G20).
_PLACE: Final = (
    f"2 * marks.rank + CASE WHEN events.kind IN ({_MESSAGES}) THEN 0 ELSE 1 END"
)
_SELECT: Final = (
    "SELECT events.*, marks.text AS new_text, marks.turn_id, marks.read_at,"
    " tasks.status AS turn_status, tasks.started_at AS turn_started_at"
    " FROM marks JOIN events ON events.id = marks.event_id"
    " LEFT JOIN tasks ON tasks.id = marks.turn_id WHERE marks.reader = ?"
)
# The turn that would read it has not begun; one that has absorbed it has.
_IS_OPEN: Final = (
    " AND read_at IS NULL AND (turn_id IS NULL OR turn_id IN (SELECT id FROM tasks"
    " WHERE status = 'queued' AND started_at IS NULL AND absorbed_by IS NULL))"
)


def list_page(
    database: Database, agent_id: str, *, after: int | None = None, limit: int = 100
) -> list[Row]:
    """List what the agent has not read, most urgent first; `after` is the event that
    the page before ended with."""
    agents.get_or_suggest(database, agent_id)
    params: list[object] = [agent_id]
    where = " AND marks.read_at IS NULL"
    if after is not None:
        where += f" AND ({_PLACE}, events.id) > (?, ?)"
        params += [_place_of(database, agent_id, after), after]
    rows = database.read(
        f"{_SELECT}{where} ORDER BY {_PLACE}, events.id LIMIT ?", *params, limit
    )
    return [_shape(row) for row in rows]


def _place_of(database: Database, agent_id: str, event_id: int) -> int:
    """The place of an input, also of one that has been read since."""
    row = database.read_one(
        f"SELECT {_PLACE} AS place FROM marks JOIN events ON events.id = marks.event_id"
        " WHERE marks.reader = ? AND marks.event_id = ?",
        agent_id,
        event_id,
    )
    if row is None:
        raise NotFound("event", str(event_id))
    return int(row["place"])


def edit(tx: Transaction, agent_id: str, event_id: int, text: str) -> Row:
    """Have the agent read another text; raise Conflict once it reads, or has read."""
    _require(tx, agent_id, event_id)
    changed = tx.one(
        f"UPDATE marks SET text = ? WHERE reader = ? AND event_id = ?{_IS_OPEN}"
        " RETURNING event_id",
        text,
        agent_id,
        event_id,
    )
    row = _require(tx, agent_id, event_id)
    if changed is None:
        raise _too_late(agent_id, row)
    return _shape(row)


def withdraw(tx: Transaction, agent_id: str, event_id: int) -> Row:
    """Take an input back, and cancel the turn that was to answer it; raise Conflict
    once it is read, or has been."""
    row = _require(tx, agent_id, event_id)
    changed = tx.one(
        f"UPDATE marks SET read_at = ? WHERE reader = ? AND event_id = ?{_IS_OPEN}"
        " RETURNING turn_id",
        now_us(),
        agent_id,
        event_id,
    )
    if changed is None:
        raise _too_late(agent_id, row)
    if changed["turn_id"] is not None:
        tasks.cancel(tx, changed["turn_id"], WITHDRAWN)
    return _shape(_require(tx, agent_id, event_id))


def withdraw_some(tx: Transaction, agent_id: str, limit: int = 100) -> list[int]:
    """Take back up to `limit` messages, oldest first, of those that no turn reads yet;
    return their events. News of tasks stays: nobody has sent it."""
    _require_agent(tx, agent_id)
    rows = tx.execute(
        "UPDATE marks SET read_at = ? WHERE reader = ? AND event_id IN (SELECT event_id"
        " FROM marks JOIN events ON events.id = marks.event_id"
        f" WHERE reader = ? AND events.kind IN ({_MESSAGES}){_IS_OPEN}"
        " ORDER BY event_id LIMIT ?) RETURNING event_id, turn_id",
        now_us(),
        agent_id,
        agent_id,
        limit,
    )
    for row in rows:
        if row["turn_id"] is not None:
            tasks.cancel(tx, row["turn_id"], WITHDRAWN)
    return sorted(row["event_id"] for row in rows)


def _require(tx: Transaction, agent_id: str, event_id: int) -> Row:
    _require_agent(tx, agent_id)
    row = tx.one(f"{_SELECT} AND marks.event_id = ?", agent_id, event_id)
    if row is None:
        raise NotFound("event", str(event_id))
    return row


def _require_agent(tx: Transaction, agent_id: str) -> None:
    if tx.one("SELECT 1 AS x FROM agents WHERE id = ?", agent_id) is None:
        raise NotFound("agent", agent_id)


def _too_late(agent_id: str, row: Row) -> Conflict:
    what = f"Event {row['id']} of agent {agent_id}"
    if row["read_at"] is not None:
        return Conflict(f"{what} has been read, or was withdrawn.")
    turn = f"{row['turn_id']}, which is {row['turn_status']}"
    if row["turn_status"] == "failed":
        return Conflict(f"{what} was read by {turn}. Retry or drop that turn.")
    return Conflict(
        f"{what} is being read by {turn}. Send another message, or cancel that turn."
    )


def _shape(row: Row) -> Row:
    return {
        **events.shape(row),
        "read": row["read_at"] is not None,
        "text": row["new_text"] or row["body"],
        "turn_id": row["turn_id"],
        "turn_status": row["turn_status"],
    }
