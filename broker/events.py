"""The event log: append, list by cursor, and each reader's marks.

Ids are in commit order on every store, so `id > cursor` never skips and never repeats.
A mark says that a reader has something to read (`read_at` is NULL), or has read it.
What no mark means is in `broker.readers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broker import json
from broker.database import Database, Row, Transaction
from broker.errors import NotFound
from broker.states import Priority, Stream
from broker.times import now_us, rfc3339

# The doorbell that every watcher of events listens on.
CHANNEL: Final = "events"
PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event before it has an id."""

    stream: Stream
    scope: str
    kind: str
    body: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    subject: str | None = None
    source: str | None = None
    cause_id: int | None = None
    # How many agents have passed it on; None: as many as its cause.
    hop: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events a reader wants; None means all."""

    stream: str | None = None
    scope: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of a list: between two ids, from one end, so many."""

    after: int = 0
    before: int | None = None
    newest_first: bool = False
    limit: int = PAGE

    @property
    def bounds(self) -> tuple[int, int]:
        """The ids between which the part lies."""
        return self.after, 2**62 if self.before is None else self.before

    @property
    def direction(self) -> str:
        """The order, in SQL."""
        return "DESC" if self.newest_first else "ASC"


def append(tx: Transaction, *events: NewEvent) -> list[int]:
    """Append events in order; return their ids. A key seen before gives the old id."""
    now = now_us()
    ids = [_append_one(tx, event, now) for event in events]
    tx.ring(CHANNEL)
    return ids


def _append_one(tx: Transaction, event: NewEvent, now: int) -> int:
    row = tx.one(
        "INSERT INTO events (stream, scope, subject, kind, priority, body, payload,"
        " source, cause_id, hop, created_at, key)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " COALESCE(?, (SELECT hop FROM events WHERE id = ?), 0), ?, ?)"
        " ON CONFLICT (key) DO NOTHING RETURNING id",
        event.stream,
        event.scope,
        event.subject,
        event.kind,
        event.priority,
        json.clean(event.body),
        json.dump(event.payload),
        event.source,
        event.cause_id,
        event.hop,
        event.cause_id,
        now,
        event.key,
    )
    if row is None:
        row = tx.execute("SELECT id FROM events WHERE key = ?", event.key)[0]
    return int(row["id"])


def emit_turn(
    tx: Transaction,
    agent_id: str,
    turn_id: str,
    kind: str,
    payload: dict[str, Any],
    *,
    cause_id: int | None,
) -> int:
    """Append one event of a turn's own stream; its cause is the turn's."""
    return append(
        tx,
        NewEvent(
            stream=Stream.TASK_OUTPUT,
            scope=f"agent/{agent_id}",
            subject=turn_id,
            kind=kind,
            payload={"turn_id": turn_id, **payload},
            cause_id=cause_id,
        ),
    )[0]


def quiet(tx: Transaction, event_id: int) -> None:
    """Let an event wake nobody; only for one that this very transaction appended."""
    tx.execute("UPDATE events SET priority = ? WHERE id = ?", Priority.NORMAL, event_id)


def take(tx: Transaction, reader: str, event_id: int, turn_id: str) -> None:
    """Note which turn of the reader takes an event."""
    tx.execute(
        "UPDATE marks SET turn_id = ? WHERE reader = ? AND event_id = ?",
        turn_id,
        reader,
        event_id,
    )


def mark_read(tx: Transaction, turn_id: str) -> None:
    """Note that a turn's inputs have been read."""
    tx.execute(
        "UPDATE marks SET read_at = ? WHERE turn_id = ? AND read_at IS NULL",
        now_us(),
        turn_id,
    )


def find(tx: Transaction | Database, event_id: int) -> Row | None:
    """Return the event as the API shows it."""
    sql = "SELECT * FROM events WHERE id = ?"
    row = (
        tx.one(sql, event_id)
        if isinstance(tx, Transaction)
        else tx.read_one(sql, event_id)
    )
    return None if row is None else shape(row)


def parse_id(id: str) -> int:
    """Return an event's id as it stands in a path; raise NotFound for anything else."""
    if id.isascii() and id.isdigit() and len(id) <= 18:
        return int(id)
    raise NotFound("event", id)


def list_after(
    database: Database, wanted: EventFilter, *, after: int, limit: int = PAGE
) -> list[Row]:
    """List events with a greater id, oldest first."""
    where, params = conditions(wanted)
    rows = database.read(
        f"SELECT * FROM events WHERE id > ?{where} ORDER BY id LIMIT ?",
        after,
        *params,
        limit,
    )
    return [shape(row) for row in rows]


def list_page(database: Database, wanted: EventFilter, window: Window) -> list[Row]:
    """List the events of a window, from the end that it names."""
    where, params = conditions(wanted)
    rows = database.read(
        f"SELECT * FROM events WHERE id > ? AND id < ?{where}"
        f" ORDER BY id {window.direction} LIMIT ?",
        *window.bounds,
        *params,
        window.limit,
    )
    return [shape(row) for row in rows]


def newest_id(database: Database) -> int:
    """Return the id of the newest event; 0 when there is none."""
    row = database.read_one("SELECT MAX(id) AS id FROM events")
    return int((row or {}).get("id") or 0)


def mark(
    tx: Transaction,
    reader: str,
    event_id: int,
    priority: Priority,
    turn_id: str | None = None,
) -> None:
    """Note that the reader has this event to read."""
    tx.execute(
        "INSERT INTO marks (reader, event_id, rank, turn_id) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (reader, event_id) DO NOTHING",
        reader,
        event_id,
        priority.rank,
        turn_id,
    )


def mark_read_by(
    tx: Transaction, reader: str, event_id: int, priority: Priority
) -> None:
    """Note that the reader has read this event, or sent it: then it is born read."""
    tx.execute(
        "INSERT INTO marks (reader, event_id, rank, read_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (reader, event_id) DO UPDATE"
        " SET read_at = COALESCE(marks.read_at, excluded.read_at)",
        reader,
        event_id,
        priority.rank,
        now_us(),
    )


def unread_count(
    tx: Transaction | Database,
    reader: str,
    *,
    up_to: int,
    ranks: tuple[int, int] = (0, len(Priority)),
) -> int:
    """Count the reader's unread events of these ranks, stopping at `up_to`."""
    sql = (
        "SELECT COUNT(*) AS n FROM (SELECT 1 FROM marks"
        " WHERE reader = ? AND rank BETWEEN ? AND ? AND read_at IS NULL LIMIT ?)"
        " AS unread"
    )
    run = tx.execute if isinstance(tx, Transaction) else tx.read
    return int(run(sql, reader, *ranks, up_to)[0]["n"])


def shape(row: Row) -> Row:
    """Give a row the shape that the contract promises."""
    return {
        "id": row["id"],
        "stream": row["stream"],
        "scope": row["scope"],
        "subject": row["subject"],
        "kind": row["kind"],
        "priority": row["priority"],
        # A reader's own, where it was edited before it was read.
        "body": row.get("edited") or row["body"],
        "payload": json.load(row["payload"]),
        "source": row["source"],
        "cause_id": row["cause_id"],
        "hop": row["hop"],
        "created_at": rfc3339(row["created_at"]),
    }


def conditions(wanted: EventFilter) -> tuple[str, list[str]]:
    """Return a filter as SQL (` AND stream = ?`), with its parameters."""
    clauses, params = "", []
    for column in ("stream", "scope", "subject"):
        value = getattr(wanted, column)
        if value is not None:
            clauses += f" AND {column} = ?"
            params.append(value)
    return clauses, params
