"""Live: waiting for events and tasks, and event streams that lose nothing.

Streams read the database by cursor and are woken by the doorbell; nothing is fanned out
in memory, so nothing can be dropped. When the process is told to end, every stream gets
a last event and ends.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from broker import Broker, events, tasks, updates
from broker.doorbell import FALLBACK_SECONDS, Bell
from broker.events import EventFilter
from webapp.problems import ProblemError

HEARTBEAT_SECONDS: Final = 15.0
RETRY_MS: Final = 1000
PAGE: Final = 500
# Each stream holds a thread of its process; the rest must stay for requests.
STREAMS_LIMIT: Final = 40

Found = TypeVar("Found")
Row = dict[str, Any]


class Live:
    """The waiting side of one web process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._bells: dict[str, Bell] = {}
        self._streams = 0

    def stop(self) -> None:
        """Let every stream and every wait end now (called from a signal handler)."""
        self._stopping.set()
        threading.Thread(target=self._close_bells, daemon=True).start()

    def _close_bells(self) -> None:
        with self._lock:
            for bell in self._bells.values():
                bell.close()

    def bell(self, channel: str) -> Bell:
        """This process's bell for a channel."""
        with self._lock:
            if channel not in self._bells:
                self._bells[channel] = self._broker.bells.listen(channel)
            return self._bells[channel]

    def wait_for(
        self, channel: str, look: Callable[[], Found | None], seconds: float
    ) -> Found | None:
        """Look until there is something, the time is over, or the process ends."""
        bell = self.bell(channel)
        deadline = time.monotonic() + seconds
        while True:
            seen = bell.generation
            found = look()
            remaining = deadline - time.monotonic()
            if found is not None or remaining <= 0 or self._stopping.is_set():
                return found
            bell.wait(seen, min(remaining, FALLBACK_SECONDS))

    def wait_for_end(self, task_id: str, seconds: float) -> Row | None:
        """Return the task's row once it is over, or None when the time is."""

        def look() -> Row | None:
            row = tasks.get(self._broker.database, task_id)
            return row if row["finished_at"] is not None else None

        return self.wait_for(updates.CHANNEL, look, seconds)

    def stream(
        self, begin: Callable[[], Cursor], ends: Callable[[Row], bool] | None = None
    ) -> Iterator[str]:
        """Return the events after a cursor as server-sent events, for ever, or up to
        and with the first for which `ends` holds.

        `begin` is called once there is a place for the stream: what it does is not done
        when the answer is that there is none.
        """
        chunks = self._stream(begin, ends or _never)
        # Only a generator that has begun runs its `finally` when it is thrown away,
        # as the body of an answer to HEAD is.
        next(chunks)
        return chunks

    def _take_place(self) -> None:
        with self._lock:
            if self._streams >= STREAMS_LIMIT:
                raise ProblemError(
                    "too-many-streams",
                    503,
                    f"This process serves {STREAMS_LIMIT} streams already; "
                    "close one, or start more web processes.",
                )
            self._streams += 1

    def _stream(
        self, begin: Callable[[], Cursor], ends: Callable[[Row], bool]
    ) -> Iterator[str]:
        self._take_place()
        try:
            cursor = begin()
            yield ""
            yield f"retry: {RETRY_MS}\n: connected\n\n"
            yield from self._follow(cursor, ends)
        finally:
            with self._lock:
                self._streams -= 1

    def _follow(self, cursor: Cursor, ends: Callable[[Row], bool]) -> Iterator[str]:
        bell = self.bell(events.CHANNEL)
        spoke_at = time.monotonic()
        while not self._stopping.is_set():
            seen = bell.generation
            for event in cursor.read(self._broker):
                yield sse(event)
                spoke_at = time.monotonic()
                if ends(event):
                    return
            if time.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
                yield ": heartbeat\n\n"
                spoke_at = time.monotonic()
            bell.wait(seen, FALLBACK_SECONDS)
        yield f"id: {cursor.after}\nevent: server_stopping\ndata: {{}}\n\n"


@dataclass(slots=True)
class Cursor:
    """Where one stream stands."""

    wanted: EventFilter
    after: int

    def read(self, broker: Broker) -> Iterator[Row]:
        """Yield what is new, page by page, moving on with each event."""
        while True:
            page = events.list_after(
                broker.database, self.wanted, after=self.after, limit=PAGE
            )
            for event in page:
                self.after = event["id"]
                yield event
            if len(page) < PAGE:
                return


def sse(event: Row) -> str:
    """Render one event; its id is where a reader resumes."""
    data = json.dumps(event, separators=(",", ":"))
    return f"id: {event['id']}\nevent: {event['kind']}\ndata: {data}\n\n"


def _never(_event: Row) -> bool:
    return False
