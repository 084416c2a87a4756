"""Stream deltas in batches: one transaction for what came within an interval.

The first delta after a pause goes out at once; what follows within the interval waits
for its end. One thread per process flushes what nobody else would, and whatever is due
by then together: a hundred streams are not a hundred transactions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

# The design allows 20 to 50 ms; a reader cannot tell 30 ms from none.
INTERVAL_SECONDS: Final = 0.03

# Writes what the buffers that it is given have collected.
Flush = Callable[[Sequence[Any]], None]

log = structlog.get_logger(__name__)


class Batcher:
    """Flushes many buffers, each at most once per interval."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval = interval_seconds
        self._due: dict[object, tuple[float, Flush]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def schedule(self, buffer: object, flush: Flush, last: float) -> None:
        """Have `flush` called once the interval since `last` (monotonic) is over, with
        the buffer and all others that it is to flush by then."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="batcher", daemon=True
                )
                self._thread.start()
            if buffer not in self._due:
                self._due[buffer] = (last + self._interval, flush)
                self._changed.notify()

    def forget(self, buffer: object) -> None:
        """Drop what is scheduled for a buffer: its owner flushes it itself."""
        with self._changed:
            self._due.pop(buffer, None)

    def _run(self) -> None:
        while True:
            for flush, buffers in self._wait_for_due().items():
                try:
                    flush(buffers)
                except Exception:
                    log.exception("A batch of deltas could not be written.")

    def _wait_for_due(self) -> dict[Flush, list[object]]:
        with self._changed:
            while not self._due:
                self._changed.wait()
            wait = min(at for at, _ in self._due.values()) - time.monotonic()
            if wait > 0:
                self._changed.wait(wait)
            now = time.monotonic()
            due: dict[Flush, list[object]] = {}
            for buffer, (at, flush) in [*self._due.items()]:
                if at <= now:
                    del self._due[buffer]
                    due.setdefault(flush, []).append(buffer)
            return due
