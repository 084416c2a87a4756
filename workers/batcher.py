"""Stream deltas in batches: one transaction for what came within an interval.

The first delta after a pause goes out at once; what follows within the interval waits
for its end. One thread per process flushes what nobody else would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

# The design allows 20 to 50 ms; a reader cannot tell 30 ms from none.
INTERVAL_SECONDS: Final = 0.03

log = structlog.get_logger(__name__)


class Batcher:
    """Flushes many buffers, each at most once per interval."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval = interval_seconds
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def schedule(self, key: object, flush: Callable[[], None], last: float) -> None:
        """Have `flush` called once the interval since `last` (monotonic) is over."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="batcher", daemon=True
                )
                self._thread.start()
            if key not in self._due:
                self._due[key] = (last + self._interval, flush)
                self._changed.notify()

    def forget(self, key: object) -> None:
        """Drop what is scheduled for a key: its owner flushes it itself."""
        with self._changed:
            self._due.pop(key, None)

    def _run(self) -> None:
        while True:
            for flush in self._wait_for_due():
                try:
                    flush()
                except Exception:
                    log.exception("A batch of deltas could not be written.")

    def _wait_for_due(self) -> list[Callable[[], None]]:
        with self._changed:
            while not self._due:
                self._changed.wait()
            wait = min(at for at, _ in self._due.values()) - time.monotonic()
            if wait > 0:
                self._changed.wait(wait)
            now = time.monotonic()
            due = [key for key, (at, _) in self._due.items() if at <= now]
            return [self._due.pop(key)[1] for key in due]
