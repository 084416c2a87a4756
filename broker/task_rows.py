"""Rows of tasks: queue one, find one. What moves a task on is in `tasks`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broker import agents, events, json, updates
from broker.database import Database, Row, Transaction
from broker.errors import Conflict, NotFound, TooManyWaiting
from broker.events import NewEvent
from broker.states import Priority, Stream
from broker.times import now_us

# Back-pressure: this many tasks may be queued in all.
QUEUED_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task before it is queued."""

    type: str
    payload: dict[str, Any]
    id: str | None = None
    agent_id: str | None = None
    parent_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    # It stands behind others of its priority.
    yields: bool = False
    # None: that of its parent, if it has one.
    cause_id: int | None = None
    key: str | None = None
    # The turn that waits for its end, so that nobody else has to be told of it.
    awaited_by: str | None = None

    @property
    def rank(self) -> int:
        """What queued tasks are ordered by, before their age."""
        return 2 * self.priority.rank + int(self.yields)


def create(
    tx: Transaction, new: NewTask, *, hint: bool = True, is_bounded: bool = True
) -> tuple[Row, bool]:
    """Queue a task; an id that exists gives that task back, and False.

    Only what takes the place of a task that has just ended is not bounded.
    """
    if found := _existing(tx, new):
        return found, False
    if is_bounded:
        _refuse_flood(tx)
    now = now_us()
    row = _insert(tx, new, now, hinted_at=now if hint else None)
    if row is None:  # somebody else made it between our look and our insert
        return create(tx, new, hint=hint, is_bounded=is_bounded)
    updates.append(tx, row["id"], "spawn", {"type": new.type})
    if new.type != "turn":
        _tell(tx, row)
    if hint:
        tx.hint(new.type, row["id"])
    return row, True


def _tell(tx: Transaction, row: Row) -> None:
    """Say on the bus that somebody asks for work (G25); a turn's message says so."""
    events.append(
        tx,
        NewEvent(
            stream=Stream.SIGNALS,
            scope=f"task/{row['id']}",
            subject=row["id"],
            kind="command",
            body="Task request",
            payload={"action": "spawn", "task_id": row["id"], "type": row["type"]},
            cause_id=row["cause_id"],
        ),
    )


def _existing(tx: Transaction, new: NewTask) -> Row | None:
    if new.key is not None:
        same_key = tx.one("SELECT * FROM tasks WHERE key = ?", new.key)
        if same_key is not None:
            return same_key
    if new.id is None:
        return None
    found = find(tx, agents.check_id(new.id))
    if found is None and agents.exists(tx, new.id):
        raise Conflict(f"There is an agent {new.id}. Choose another id for the task.")
    if found is not None and found["type"] != new.type:
        raise Conflict(
            f"Task {found['id']} exists and is of type {found['type']!r}, "
            f"not {new.type!r}. Choose another id."
        )
    return found


def _refuse_flood(tx: Transaction) -> None:
    # A probe at the limit's offset: the index is walked only when there is a backlog.
    full = tx.one(
        "SELECT 1 AS x FROM tasks WHERE status = 'queued' LIMIT 1 OFFSET ?",
        QUEUED_LIMIT - 1,
    )
    if full:
        raise TooManyWaiting("The number of queued tasks", QUEUED_LIMIT)


def _insert(
    tx: Transaction, new: NewTask, now: int, hinted_at: int | None
) -> Row | None:
    while True:
        id = new.id or f"{new.type}-{agents.next_number(tx, new.type)}"
        if new.id is None and agents.exists(tx, id):
            continue
        row = tx.one(
            "INSERT INTO tasks (id, type, status, agent_id, parent_id, payload,"
            " metadata, rank, attempts, crashes, epoch, hinted_at, cause_id, key,"
            " awaited_by, created_at, updated_at)"
            " VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, 0, 0, 0, ?,"
            " COALESCE(?, (SELECT cause_id FROM tasks WHERE id = ?)), ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING RETURNING *",
            id,
            new.type,
            new.agent_id,
            new.parent_id,
            json.dump(new.payload),
            json.dump(new.metadata),
            new.rank,
            hinted_at,
            new.cause_id,
            new.parent_id,
            new.key,
            new.awaited_by,
            now,
            now,
        )
        if row is not None or new.id is not None:
            return row


def find(tx: Transaction | Database, id: str) -> Row | None:
    """Return the task's row, or None."""
    sql = "SELECT * FROM tasks WHERE id = ?"
    return tx.one(sql, id) if isinstance(tx, Transaction) else tx.read_one(sql, id)


def get(tx: Transaction | Database, id: str) -> Row:
    """Return the task's row; raise NotFound."""
    row = find(tx, id)
    if row is None:
        raise NotFound("task", id)
    return row
