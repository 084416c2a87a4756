"""The PostgreSQL dialect: the same SQL, other machinery for order and waking.

Connections come from a pool and go back after each read or transaction. Doorbells are
LISTEN/NOTIFY. Only `broker.open_broker` imports this, so SQLite homes need no psycopg.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, cast

import psycopg
from peewee import Database as PeeweeDatabase
from playhouse.pool import PooledPostgresqlDatabase

from broker.doorbell import Bell

POOL_CONNECTIONS: Final = 16
POOL_WAIT_SECONDS: Final = 10
# Any constant does; it names the advisory lock under which everything is written.
WRITE_LOCK: Final = 0x52_4F_4F_53
# And the one under which one process at a time migrates.
MIGRATION_LOCK: Final = 0x52_4F_4F_54


class PostgresDialect:
    """One database that many machines may share."""

    name = "postgres"
    for_update = " FOR UPDATE"

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Any = None

    def connect(self) -> PeeweeDatabase:
        """Return the pooled database; nothing connects before the first statement."""
        self._database = PooledPostgresqlDatabase(
            self._url,
            max_connections=POOL_CONNECTIONS,
            timeout=POOL_WAIT_SECONDS,
            prefer_psycopg3=True,
        )
        return cast(PeeweeDatabase, self._database)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Borrow a connection from the pool."""
        if not self._database.is_closed():
            yield
            return
        with self._database.connection_context():
            yield

    def gate(self) -> AbstractContextManager[object]:
        """PostgreSQL schedules its writers itself."""
        return nullcontext()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """An advisory lock of the session, which ends with it at the latest."""
        self._database.execute_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        try:
            yield
        finally:
            self._database.execute_sql(
                "SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,)
            )

    def begin(self, *, durable: bool) -> None:
        """BEGIN, one writer at a time; deltas do not wait for the disk.

        Sequences hand out ids before COMMIT: the lock makes the two orders the same. It
        comes first, because taken after a row lock it deadlocks with whoever takes that
        row while holding it (a post and the end of a turn do).
        """
        self._database.begin()
        self._database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
        if not durable:
            self._database.execute_sql("SET LOCAL synchronous_commit TO off")

    def translate(self, sql: str) -> str:
        """psycopg wants `%s`."""
        return _translate(sql)

    def truncate_log(self) -> None:
        """PostgreSQL does this by itself."""

    def close(self) -> None:
        """Close the pool."""
        self._database.close_all()

    def checkpoint(self) -> None:
        """PostgreSQL does this by itself."""

    def sizes(self) -> dict[str, int]:
        """The size of the database; PostgreSQL looks after its own WAL."""
        with self.session():
            cursor = self._database.execute_sql(
                "SELECT pg_database_size(current_database())"
            )
            return {"database": int(cursor.fetchone()[0]), "wal": 0}


@functools.cache
def _translate(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresBells:
    """Doorbells as NOTIFY; one listening connection per channel and process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._sender: tuple[int, psycopg.Connection[Any]] | None = None
        self._bells: list[PostgresBell] = []

    def ring(self, channel: str) -> None:
        """Notify every listener; a lost connection is opened again once."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    self._connection().execute(
                        "SELECT pg_notify(%s, '')", (_channel(channel),)
                    )
                    return
                except psycopg.OperationalError:
                    self._sender = None
                    if attempt == 2:
                        return  # a lost ring costs a second, not the message

    def listen(self, channel: str, *, wake_all: bool = True) -> Bell:
        """LISTEN on a connection of its own."""
        bell = PostgresBell(self._url, _channel(channel), wake_all=wake_all)
        self._bells.append(bell)
        return bell

    def close(self) -> None:
        """Close every bell and the sending connection."""
        for bell in self._bells:
            bell.close()
        with self._lock:
            if self._sender is not None:
                self._sender[1].close()
                self._sender = None

    def _connection(self) -> psycopg.Connection[Any]:
        if self._sender is None or self._sender[0] != os.getpid():
            self._sender = (os.getpid(), psycopg.connect(self._url, autocommit=True))
        return self._sender[1]


class PostgresBell:
    """A thread that listens and counts; waiters wait for the count."""

    def __init__(self, url: str, channel: str, *, wake_all: bool) -> None:
        self._url, self._channel, self._wake_all = url, channel, wake_all
        self._changed = threading.Condition()
        self._generation = 0
        self._nudges = 0
        self._closed = False
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    @property
    def generation(self) -> int:
        """How often it rang."""
        return self._generation

    @property
    def is_closed(self) -> bool:
        """Whether it will never ring again: then a wait returns at once."""
        return self._closed

    def wait(self, seen: int, timeout_seconds: float) -> bool:
        """Block until the generation passes `seen`, a nudge, or the time is over."""
        with self._changed:
            nudges = self._nudges
            self._changed.wait_for(
                lambda: (
                    self._closed or self._generation > seen or self._nudges > nudges
                ),
                timeout_seconds,
            )
            return not self._closed and (
                self._generation > seen or self._nudges > nudges
            )

    def nudge(self) -> None:
        """Wake one thread of this process that waits."""
        with self._changed:
            self._nudges += 1
            self._changed.notify()

    def close(self) -> None:
        """Let every waiter return; the listening thread ends within a second."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _listen(self) -> None:
        while not self._closed:
            with contextlib.suppress(psycopg.OperationalError):
                self._listen_once()
            if not self._closed:
                time.sleep(0.2)  # the server is away; waiters still look every second

    def _listen_once(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f'LISTEN "{self._channel}"')
            self._rang()  # for what rang before anybody listened here
            while not self._closed:
                if list(connection.notifies(timeout=1.0, stop_after=1)):
                    self._rang()

    def _rang(self) -> None:
        with self._changed:
            self._generation += 1
            if self._wake_all:
                self._changed.notify_all()
            else:
                self._changed.notify()


def _channel(name: str) -> str:
    return "roost_" + name.replace("-", "_").replace(".", "_")
