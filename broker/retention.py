"""Retention: what is forgotten, class by class, and the space given back.

An agent's entries are its memory and are never forgotten here. Everything else has an
age. It runs outside the write path: a thousand rows at a time, each its own short
transaction, and then an incremental vacuum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from broker.database import Database
from broker.errors import SettingsError
from broker.times import SECOND_US, now_us

DAY_US: Final = 86_400 * SECOND_US
BATCH_ROWS: Final = 1_000
VACUUM_PAGES: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionClass:
    """A class of rows that are forgotten after `keep_days`.

    `condition` has one placeholder, the instant before which a row is old. The newest
    row of a table always stays: SQLite would give its id again.
    """

    name: str
    table: str
    key: str
    condition: str
    keep_days: float
    why: str


CLASSES: Final = (
    RetentionClass(
        name="deltas",
        table="events",
        key="id",
        condition="kind IN ('message_update', 'tool_execution_update')"
        " AND created_at < ?",
        keep_days=2,
        why="message_end and the update log hold the same text whole",
    ),
    RetentionClass(
        name="receipts",
        table="receipts",
        key="key",
        condition="created_at < ?",
        keep_days=2,
        why="nobody retries a request after two days",
    ),
    RetentionClass(
        name="output",
        table="updates",
        key="id",
        condition="kind IN ('stdout', 'stderr', 'input') AND created_at < ?",
        keep_days=30,
        why="what an exec printed; its result stays with the task",
    ),
    RetentionClass(
        name="events",
        table="events",
        key="id",
        condition="created_at < ? AND NOT EXISTS (SELECT 1 FROM marks"
        " WHERE marks.event_id = events.id AND marks.read_at IS NULL)",
        keep_days=90,
        why="the log; unread events stay however old",
    ),
    RetentionClass(
        name="marks",
        table="marks",
        key="event_id",
        condition="read_at < ?",
        keep_days=90,
        why="who read what",
    ),
    RetentionClass(
        name="steps",
        table="steps",
        key="task_id",
        condition="task_id IN (SELECT id FROM tasks WHERE finished_at < ?"
        " AND (status <> 'failed' OR dropped_at IS NOT NULL))",
        keep_days=90,
        why="the journal of finished turns",
    ),
    RetentionClass(
        name="updates",
        table="updates",
        key="id",
        condition="task_id IN (SELECT id FROM tasks WHERE finished_at < ?"
        " AND (status <> 'failed' OR dropped_at IS NOT NULL))",
        keep_days=90,
        why="the log of finished tasks",
    ),
    RetentionClass(
        name="meters",
        table="meters",
        key="key",
        condition="updated_at < ? AND (key LIKE 'turn/%' OR key LIKE 'day/%')"
        " AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = SUBSTR(meters.key, 6)"
        " AND tasks.finished_at IS NULL)",
        keep_days=90,
        why="what turns and days have used; agents' sums stay",
    ),
    RetentionClass(
        name="artifacts",
        table="artifacts",
        key="id",
        condition="created_at < ?",
        keep_days=90,
        why="large results and images; the history keeps their head and tail",
    ),
    RetentionClass(
        name="tasks",
        table="tasks",
        key="seq",
        condition="finished_at < ? AND (status <> 'failed' OR dropped_at IS NOT NULL)",
        keep_days=90,
        why="finished work; dead letters stay until retried or dropped",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many rows of a class are, or would be, forgotten."""

    name: str
    rows: int
    keep_days: float
    why: str


def plan(database: Database, keep_days: Mapping[str, float]) -> list[Forgotten]:
    """Count what `forget` would forget; change nothing."""
    return [
        Forgotten(
            name=each.name,
            rows=_count(database, each, keep_days),
            keep_days=keep_days.get(each.name, each.keep_days),
            why=each.why,
        )
        for each in _checked(keep_days)
    ]


def forget(database: Database, keep_days: Mapping[str, float]) -> Iterator[Forgotten]:
    """Forget what is old, class by class, and give the space back."""
    for each in _checked(keep_days):
        rows = 0
        while batch := _delete_batch(database, each, keep_days):
            rows += batch
        days = keep_days.get(each.name, each.keep_days)
        yield Forgotten(name=each.name, rows=rows, keep_days=days, why=each.why)
    vacuum(database)


def vacuum(database: Database) -> None:
    """Give free pages back to the file system, a few at a time."""
    if database.dialect.name != "sqlite":
        return
    free = int(database.read("PRAGMA freelist_count")[0]["freelist_count"])
    for _ in range(0, free, VACUUM_PAGES):
        with database.write(durable=False) as tx:
            tx.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    database.truncate_log()


def _checked(keep_days: Mapping[str, float]) -> tuple[RetentionClass, ...]:
    known = [each.name for each in CLASSES]
    for name in keep_days:
        if name not in known:
            raise SettingsError(f"No class {name!r}; there are: {', '.join(known)}.")
    return CLASSES


def _cutoff(each: RetentionClass, keep_days: Mapping[str, float]) -> int:
    return now_us() - int(keep_days.get(each.name, each.keep_days) * DAY_US)


def _where(each: RetentionClass) -> str:
    newest = f"{each.key} < (SELECT MAX({each.key}) FROM {each.table})"
    return each.condition if each.key == "task_id" else f"{newest} AND {each.condition}"


def _count(
    database: Database, each: RetentionClass, keep_days: Mapping[str, float]
) -> int:
    # What an earlier class of the same table forgets is gone by then: counted once.
    earlier = [
        other for other in CLASSES[: CLASSES.index(each)] if other.table == each.table
    ]
    sql = f"SELECT COUNT(*) AS n FROM {each.table} WHERE {_where(each)}"
    sql += "".join(f" AND NOT ({other.condition})" for other in earlier)
    cutoffs = [_cutoff(other, keep_days) for other in (each, *earlier)]
    return int(database.read(sql, *cutoffs)[0]["n"])


def _delete_batch(
    database: Database, each: RetentionClass, keep_days: Mapping[str, float]
) -> int:
    with database.write(durable=False) as tx:
        rows = tx.execute(
            f"DELETE FROM {each.table} WHERE {each.key} IN (SELECT {each.key}"
            f" FROM {each.table} WHERE {_where(each)} LIMIT {BATCH_ROWS})"
            f" AND {_where(each)} RETURNING 1 AS x",
            _cutoff(each, keep_days),
            _cutoff(each, keep_days),
        )
    return len(rows)
