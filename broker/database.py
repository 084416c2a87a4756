"""The one module that opens the database, and the one path by which it is written.

`Database.read` runs a query; `Database.write` is a short transaction: a lock of this
process, then a fair gate across processes (a `flock` on a sidecar file), then BEGIN
IMMEDIATE. After COMMIT it runs what the transaction asked for: hints, then doorbells.
No transaction may be open across a model call, a sandbox run or a network wait.

Nothing else may open the SQLite file, not even to read it: closing any descriptor of it
drops every POSIX lock that this process holds on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast

from peewee import Database as PeeweeDatabase
from playhouse.cysqlite_ext import CySqliteDatabase

from broker.doorbell import Bells
from broker.settings import Durability

Row = dict[str, Any]

BUSY_TIMEOUT_SECONDS: Final = 5
# A backstop only: the scheduler checkpoints every few seconds, holding the gate.
AUTOCHECKPOINT_PAGES: Final = 10_000
_FULL, _NORMAL = 2, 1


@dataclass(slots=True)
class GateWaits:
    """How long writers of this process have waited for the gate."""

    count: int = 0
    total_seconds: float = 0.0
    worst_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one wait."""
        self.count += 1
        self.total_seconds += seconds
        self.worst_seconds = max(self.worst_seconds, seconds)


class Transaction:
    """An open write transaction; it dies with its `with` block."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, None] = {}
        self._hints: dict[tuple[str, str], None] = {}

    @property
    def for_update(self) -> str:
        """The suffix that locks the rows of a SELECT, where a dialect needs one."""
        return self._database.for_update

    @property
    def dialect(self) -> Dialect:
        """The dialect in use."""
        return self._database.dialect

    def execute(self, sql: str, *params: object) -> list[Row]:
        """Run one statement to its end; return its rows."""
        return self._database.run(sql, params)

    def one(self, sql: str, *params: object) -> Row | None:
        """Run one statement; return its first row, if any."""
        rows = self.execute(sql, *params)
        return rows[0] if rows else None

    def ring(self, channel: str) -> None:
        """Ring the channel once this is committed."""
        self._channels[channel] = None

    def hint(self, task_type: str, task_id: str) -> None:
        """Hint the task to its workers once this is committed."""
        self._hints[task_type, task_id] = None

    def committed(self, bells: Bells, hint: Callable[[str, str], None]) -> None:
        """Hint and ring; only `Database.write` calls this, after COMMIT."""
        for task_type, task_id in self._hints:
            hint(task_type, task_id)
        for channel in self._channels:
            bells.ring(channel)


class Dialect(Protocol):
    """What differs between the stores; everything above speaks one SQL."""

    name: str
    for_update: str

    def connect(self) -> PeeweeDatabase:
        """Return the peewee database, lazily connecting per thread."""

    def session(self) -> AbstractContextManager[object]:
        """Hold a connection for one read or one transaction."""

    def gate(self) -> AbstractContextManager[object]:
        """Wait for this process's turn to write."""

    def alone(self) -> AbstractContextManager[object]:
        """Wait until no other process migrates, and keep them waiting."""

    def begin(self, *, durable: bool) -> None:
        """Begin a write transaction, the only one: event ids are in commit order."""

    def translate(self, sql: str) -> str:
        """Turn `?` placeholders into the driver's."""

    def truncate_log(self) -> None:
        """Empty the write-ahead log, where that is ours to do."""

    def close(self) -> None:
        """Close what this thread (or, with a pool, this process) holds open."""

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the database, where that is ours to do."""

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by part: `database`, `wal`."""


class Database:
    """The store: reads, and the one write path."""

    def __init__(self, dialect: Dialect, bells: Bells) -> None:
        self._dialect = dialect
        self._bells = bells
        self._local = threading.local()
        self.gate_waits = GateWaits()
        self.hint: Callable[[str, str], None] = _hint_nobody
        self.peewee = dialect.connect()

    @property
    def dialect(self) -> Dialect:
        """The dialect in use."""
        return self._dialect

    @property
    def for_update(self) -> str:
        """The row-locking suffix of this dialect."""
        return self._dialect.for_update

    def read(self, sql: str, *params: object) -> list[Row]:
        """Run one query outside any transaction."""
        with self._dialect.session():
            return self.run(sql, params)

    def read_one(self, sql: str, *params: object) -> Row | None:
        """Run one query; return its first row, if any."""
        rows = self.read(sql, *params)
        return rows[0] if rows else None

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Open the one write transaction of this thread; commit at the block's end.

        `durable=False` is for stream deltas: they survive the death of the process, but
        perhaps not a loss of power.
        """
        if getattr(self._local, "writing", False):
            raise RuntimeError("write() inside write(): pass the transaction down")
        transaction = Transaction(self)
        self._local.writing = True
        try:
            with self._dialect.session(), self._gate():
                self._dialect.begin(durable=durable)
                try:
                    yield transaction
                except BaseException:
                    self.peewee.rollback()
                    raise
                self.peewee.commit()
        finally:
            self._local.writing = False
        transaction.committed(self._bells, self.hint)

    def run(self, sql: str, params: Sequence[object]) -> list[Row]:
        """Run one statement on this thread's connection; only this package calls it."""
        cursor = self.peewee.execute_sql(self._dialect.translate(sql), params)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def truncate_log(self) -> None:
        """Fold the whole write-ahead log in and empty it; readers may make it wait."""
        with self._dialect.session(), self._dialect.gate():
            self._dialect.truncate_log()

    def checkpoint(self) -> None:
        """Copy the WAL into the database; one process does, holding the gate."""
        with self._dialect.session(), self._dialect.gate():
            self._dialect.checkpoint()

    def sizes(self) -> dict[str, int]:
        """Bytes on disk by part."""
        return self._dialect.sizes()

    def close(self) -> None:
        """Close what this thread (or, with a pool, this process) holds open."""
        self._dialect.close()

    @contextmanager
    def _gate(self) -> Iterator[None]:
        began = time.monotonic()
        with self._dialect.gate():
            self.gate_waits.add(time.monotonic() - began)
            yield


def make_private(path: Path) -> None:
    """Make an SQLite file that only its owner reads, before SQLite makes it.

    Safe because it is new: no connection of this process can hold a lock on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _hint_nobody(task_type: str, task_id: str) -> None:
    """A store without queues still works: the scheduler hints what nobody hinted."""


@dataclass(slots=True)
class SqliteDialect:
    """One file on this machine, through the SQLite that cysqlite carries."""

    path: Path
    durability: Durability
    name: str = "sqlite"
    for_update: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _gate_file: tuple[int, int] | None = None
    _database: Any = None
    _sync: threading.local = field(default_factory=threading.local)

    def connect(self) -> PeeweeDatabase:
        """Open (and, the first time, lay out) the file."""
        make_private(self.path)
        self._database = CySqliteDatabase(
            str(self.path),
            rank_functions=False,
            timeout=BUSY_TIMEOUT_SECONDS,
            # auto_vacuum comes first: it only takes before the first table exists.
            pragmas=[
                ("auto_vacuum", "incremental"),
                ("journal_mode", "wal"),
                ("synchronous", _NORMAL),
                ("foreign_keys", 1),
                ("wal_autocheckpoint", AUTOCHECKPOINT_PAGES),
            ],
            lock_type="immediate",
        )
        # Behind the gate: turning a new file to WAL needs it alone, and SQLite's busy
        # handler does not wait for two that turn it at once.
        with self.gate():
            self._database.connect(reuse_if_open=True)
        return cast(PeeweeDatabase, self._database)

    def session(self) -> AbstractContextManager[object]:
        """A thread keeps its connection: opening one costs more than a commit."""
        return nullcontext()

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Take this process's lock, then the flock that is fair across processes."""
        with self._lock:
            descriptor = self._gate_descriptor()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def alone(self) -> AbstractContextManager[object]:
        """The gate lets one process in: that is enough here."""
        return self.gate()

    def begin(self, *, durable: bool) -> None:
        """BEGIN IMMEDIATE, with the durability that this transaction needs."""
        wanted = _FULL if durable and self.durability == "power" else _NORMAL
        connection = self._database.connection()
        if getattr(self._sync, "level", None) != (id(connection), wanted):
            connection.execute(f"PRAGMA synchronous={wanted}")
            self._sync.level = (id(connection), wanted)
        self._database.begin("immediate")

    def translate(self, sql: str) -> str:
        """SQLite speaks `?` itself."""
        return sql

    def truncate_log(self) -> None:
        """TRUNCATE: the file ends at its last page, and the log is empty."""
        self._database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the gate and this thread's connection; others end with theirs."""
        if not self._database.is_closed():
            self._database.close()
        with self._lock:
            if self._gate_file is not None:
                os.close(self._gate_file[1])
                self._gate_file = None

    def checkpoint(self) -> None:
        """PASSIVE: it never waits for readers, the next one does the rest."""
        self._database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def sizes(self) -> dict[str, int]:
        """`stat` opens nothing, so it drops no lock."""
        wal = self.path.with_name(self.path.name + "-wal")
        return {
            "database": self.path.stat().st_size if self.path.exists() else 0,
            "wal": wal.stat().st_size if wal.exists() else 0,
        }

    def _gate_descriptor(self) -> int:
        """A flock belongs to the open file: a forked child must open its own."""
        if self._gate_file is None or self._gate_file[0] != os.getpid():
            path = self.path.with_name(self.path.name + ".gate")
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._gate_file = (os.getpid(), os.open(path, flags, 0o600))
        return self._gate_file[1]
