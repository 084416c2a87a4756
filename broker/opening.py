"""Open a home: the database, the bells and the two hint queues of one process."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from broker.database import Database, Dialect, SqliteDialect
from broker.doorbell import Bells, UnixBells
from broker.migrate import migrate
from broker.queue import EXECS, TURNS, HintQueue, open_queue
from broker.settings import Settings


@dataclass
class Broker:
    """What a process holds of one home."""

    settings: Settings
    database: Database
    bells: Bells

    @cached_property
    def turns(self) -> HintQueue:
        """Hints for turns."""
        return open_queue(TURNS, self.settings, self.bells)

    @cached_property
    def execs(self) -> HintQueue:
        """Hints for execs."""
        return open_queue(EXECS, self.settings, self.bells)

    def hint(self, task_type: str, task_id: str) -> None:
        """Hint a task to our workers; other types are claimed over HTTP."""
        if task_type == "turn":
            self.turns.hint(task_id)
        elif task_type in ("exec", "prompt"):
            self.execs.hint(task_id)

    def close(self) -> None:
        """Give back what this process holds of the home."""
        for queue in (self.__dict__.get(TURNS), self.__dict__.get(EXECS)):
            if queue is not None:
                queue.storage.close()
        self.database.close()
        self.bells.close()


def open_broker(settings: Settings, *, migrated: bool = True) -> Broker:
    """Open the home, making it if it is new and migrating it unless told not to."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as undo:
        bells = _bells(settings)
        undo.callback(bells.close)
        database = Database(_dialect(settings), bells)
        undo.callback(database.close)
        if migrated:
            migrate(database, settings.home / "backups")
        undo.pop_all()
    broker = Broker(settings=settings, database=database, bells=bells)
    database.hint = broker.hint
    return broker


def _dialect(settings: Settings) -> Dialect:
    if settings.on_sqlite:
        return SqliteDialect(settings.database_path, settings.durability)
    from broker.postgres import PostgresDialect

    return PostgresDialect(settings.database_url)


def _bells(settings: Settings) -> Bells:
    if settings.on_sqlite:
        return UnixBells(settings.run_directory)
    from broker.postgres import PostgresBells

    return PostgresBells(settings.database_url)
