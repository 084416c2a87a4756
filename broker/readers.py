"""Readers: whoever reads the event log under a name, and what each of them has read.

An agent sees what is global and what is scoped to it. Any other name sees what is
global and, if a task has that name, what is scoped to that task. Nobody sees what is
scoped to another (G10). What one has read stays unread for all others (G12).

What is unread has no row, so a new reader costs nothing and an ack costs one insert.
Only in an agent's own scope it is the other way round: its inputs are marked, unread,
as they come in, and all else there is what it has put out itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from broker import events
from broker.database import Database, Row, Transaction
from broker.errors import NotFound
from broker.events import EventFilter, Window
from broker.states import Priority

GLOBAL: Final = "global"

_LOG: Final = (
    "events LEFT JOIN marks ON marks.reader = ? AND marks.event_id = events.id WHERE"
)
# An agent has few inputs among much that it put out: a CROSS JOIN has SQLite begin with
# the marks.
_INBOX: Final = (
    "marks CROSS JOIN events WHERE marks.reader = ? AND marks.event_id = events.id AND"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A name and what it sees; `own_scope` is its own, `is_agent` says whose."""

    name: str
    own_scope: str | None
    is_agent: bool

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes whose events this reader sees."""
        return (GLOBAL, self.own_scope) if self.own_scope else (GLOBAL,)


def name_of(source: str) -> str:
    """Return the name under which a source reads: `agent/scout` is `scout`."""
    kind, _, id = source.partition("/")
    return id if kind in ("agent", "task") and id else source


def get(store: Transaction | Database, named: str) -> Reader:
    """Return the reader of that name; raise NotFound for an agent that there is not."""
    name = name_of(named)
    if _has(store, "agents", name):
        return Reader(name=name, own_scope=f"agent/{name}", is_agent=True)
    if named.startswith("agent/"):
        raise NotFound("agent", name)
    own_scope = f"task/{name}" if _has(store, "tasks", name) else None
    return Reader(name=name, own_scope=own_scope, is_agent=False)


def _has(store: Transaction | Database, table: str, id: str) -> bool:
    run = store.execute if isinstance(store, Transaction) else store.read
    return bool(run(f"SELECT 1 AS x FROM {table} WHERE id = ?", id))


def list_page(
    database: Database,
    reader: Reader,
    wanted: EventFilter,
    window: Window,
    *,
    unread: bool | None = None,
) -> list[Row]:
    """List what the reader sees, each with `read`; only the unread ones, or only those
    read, where `unread` says so."""
    scopes = [s for s in reader.scopes if wanted.scope in (None, s)]
    if not scopes:
        return []
    # One statement: of two reads, the second would see what the first has missed. One
    # part for each scope: each goes along its own index and stops at the limit.
    parts = [_part(reader, scope, wanted, window, unread) for scope in scopes]
    rows = database.read(
        " UNION ALL ".join(sql for sql, _ in parts)
        + f" ORDER BY id {window.direction} LIMIT ?",
        *(param for _, params in parts for param in params),
        window.limit,
    )
    return [{**events.shape(row), "read": bool(row["is_read"])} for row in rows]


def _part(
    reader: Reader,
    scope: str,
    wanted: EventFilter,
    window: Window,
    unread: bool | None,
) -> tuple[str, list[object]]:
    is_inbox = reader.is_agent and scope == reader.own_scope
    is_unread = "marks.read_at IS NULL"
    if is_inbox:
        is_unread += " AND marks.event_id IS NOT NULL"
    where, filtered = events.conditions(replace(wanted, scope=scope))
    if unread is not None:
        where += f" AND {'' if unread else 'NOT '}({is_unread})"
    tables = _INBOX if is_inbox and unread else _LOG
    sql = (
        f"SELECT * FROM (SELECT events.*, CASE WHEN {is_unread} THEN 0 ELSE 1 END"
        f" AS is_read FROM {tables} events.id > ? AND events.id < ?{where}"
        f" ORDER BY events.id {window.direction} LIMIT ?) AS part"
    )
    return sql, [reader.name, *window.bounds, *filtered, window.limit]


def ack(tx: Transaction, reader: Reader, event_id: int) -> Row:
    """Note that the reader, and nobody else, has read an event; return it. Again
    changes nothing. What the reader does not see is not there for it.

    A message that an agent is to answer is answered all the same: what takes it back
    is `inbox.withdraw`.
    """
    event = events.find(tx, event_id)
    if event is None or event["scope"] not in reader.scopes:
        raise NotFound("event", str(event_id))
    events.mark_read_by(tx, reader.name, event_id, Priority(event["priority"]))
    return {**event, "read": True}
