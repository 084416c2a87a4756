"""The queue of hints: Huey on SQLite with a doorbell, or on Redis or PostgreSQL.

A hint says "look at task N" and nothing more. The truth is the task's row, so losing or
doubling a hint is harmless, and queue.db may be deleted: the scheduler rebuilds it.

The web process must enqueue work whose code it may not import. So this module owns the
Huey instances and the named stubs; `workers` binds their bodies.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import huey.consumer
from huey.api import Huey
from huey.registry import Message
from huey.storage import CySqliteStorage, PostgresStorage, RedisStorage

from broker.database import make_private
from broker.doorbell import FALLBACK_SECONDS, Bell, Bells
from broker.errors import SettingsError
from broker.settings import Settings

TURNS: Final = "turns"
EXECS: Final = "execs"
# The names under which stubs and bodies meet.
TAKE_TURN: Final = "take"
RUN_EXEC: Final = "run"

Body = Callable[[str], None]


def _refuse(value: object) -> object:
    raise TypeError(
        f"A hint carries ids only; {type(value).__name__} cannot go into the queue."
    )


# Made once: json.dumps makes a new encoder for each call that has options.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), default=_refuse)


class JSONSerializer:
    """Messages as JSON. Pickle would run whatever somebody wrote into the file."""

    def serialize(self, data: Any) -> bytes:
        """Turn a message (or a plain JSON value) into bytes; refuse anything else."""
        if isinstance(data, Message):
            data = {"message": data._asdict()}
        return _ENCODER.encode(data).encode()

    def deserialize(self, data: bytes) -> Any:
        """Turn bytes back; nothing but Message is ever built from them."""
        value = json.loads(data)
        if isinstance(value, dict) and set(value) == {"message"}:
            return Message(**_with_tuple_args(value["message"]))
        return value


def _with_tuple_args(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "args": tuple(fields["args"] or ())}


class Storage(CySqliteStorage):  # type: ignore[misc]
    """Huey's SQLite storage; its dequeue is one statement and blocks on a doorbell."""

    blocking = True

    def __init__(
        self,
        name: str = "huey",
        *,
        bells: Bells,
        read_timeout_seconds: float = FALLBACK_SECONDS,
        **options: Any,
    ) -> None:
        self._bells = bells
        self._channel = f"queue.{name}"
        self._read_timeout_seconds = read_timeout_seconds
        self._bell: Bell | None = None
        self._bell_lock = threading.Lock()
        # NORMAL: a hint lost with the power is offered again by the scheduler.
        super().__init__(name, pragmas={"synchronous": 1}, strict_fifo=True, **options)

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        """Insert and commit, then ring."""
        self._autocommit(
            "insert into task (queue, data, priority) values (?, ?, ?)",
            (self.name, data, priority or 0),
        )
        self._bells.ring(self._channel)

    def dequeue(self) -> bytes | None:
        """Take the next hint, waiting up to the read timeout for one."""
        bell = self.bell
        deadline = time.monotonic() + self._read_timeout_seconds
        while True:
            seen = bell.generation
            data = self._take()
            if data is not None:
                bell.nudge()  # there may be more than one behind a single ring
                return data
            if not bell.wait(seen, deadline - time.monotonic()):
                return None

    @property
    def bell(self) -> Bell:
        """This process's bell for this queue; only consumers ever listen."""
        with self._bell_lock:
            if self._bell is None:
                self._bell = self._bells.listen(self._channel, wake_all=False)
            return self._bell

    def stop_waiting(self) -> None:
        """Let every blocked dequeue return now (used when draining)."""
        self.bell.close()

    def _take(self) -> bytes | None:
        rows = self._autocommit(
            "delete from task where id = (select id from task where queue = ? "
            "order by priority desc, id limit 1) returning data",
            (self.name,),
        )
        return bytes(rows[0][0]) if rows else None

    def _autocommit(self, sql: str, params: tuple[object, ...]) -> list[Any]:
        """Run one statement as a transaction of its own, without the cursor and the two
        context managers of Huey's `sql`."""
        with self.lock:
            rows: list[Any] = self.conn.execute(sql, params).fetchall()
            return rows


class Consumer(huey.consumer.Consumer):  # type: ignore[misc]
    """Huey's consumer, which also tells whoever asks that a drain has begun."""

    def stop(self, graceful: bool = False) -> None:
        """Begin the drain, end the blocking dequeues, then do as Huey does."""
        self.stop_flag.set()
        self.huey.drain.set()
        if isinstance(self.huey.storage, Storage):
            self.huey.storage.stop_waiting()
        super().stop(graceful)


class HintQueue(Huey):  # type: ignore[misc]
    """One named queue with one named task, whose body is bound later, or never."""

    def __init__(self, name: str, task_name: str, **options: Any) -> None:
        super().__init__(name, results=False, serializer=JSONSerializer(), **options)
        self.drain = threading.Event()
        self._body: Body | None = None
        stub = self.task(name=task_name)(self._run)
        self._task_name = self._registry.task_to_string(stub.task_class)

    def hint(self, task_id: str) -> None:
        """Say "look at this task" to whoever consumes this queue.

        This is Huey's own message, written without the Task and the Message that
        calling a stub makes of it first: 0.1 of the 0.9 ms from idle (bench/wake.py).
        """
        fields = {"id": task_id, "name": self._task_name, "args": (task_id,)}
        self.storage.enqueue(self.serializer.serialize({"message": fields}))

    def execute(self, task: Any, timestamp: object = None) -> None:  # noqa: ARG002
        """Run the hint's body, and nothing of what Huey does around one.

        A hint is never scheduled, revoked, retried or kept; all that is the task row's.
        Huey would ask the store twice before a hint and write to it after each.
        """
        task.execute()

    def bind(self, body: Body) -> None:
        """Give the stub its body; done once, by the consumer process."""
        self._body = body

    def create_consumer(self, **options: Any) -> Consumer:
        """Build the consumer that `huey_consumer` runs."""
        return Consumer(self, **options)

    def _run(self, task_id: str) -> None:
        if self._body is None:
            raise RuntimeError(
                f"No body is bound to the {self.name!r} queue in this process."
            )
        self._body(task_id)


def open_queue(name: str, settings: Settings, bells: Bells) -> HintQueue:
    """Open one of the two queues on the store that ROOST_QUEUE_URL names."""
    task_name = {TURNS: TAKE_TURN, EXECS: RUN_EXEC}[name]
    url = settings.queue_url
    if url.startswith("sqlite:///"):
        make_private(settings.queue_path)
        return HintQueue(
            name,
            task_name,
            storage_class=Storage,
            bells=bells,
            filename=str(settings.queue_path),
        )
    if url.startswith("redis://"):
        return HintQueue(name, task_name, storage_class=RedisStorage, url=url)
    if url.startswith("postgresql://"):
        return HintQueue(name, task_name, storage_class=PostgresStorage, dsn=url)
    raise SettingsError(f"ROOST_QUEUE_URL {url!r} names no queue that Roost knows.")
