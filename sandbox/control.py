"""Control: the handle by which any thread talks to one running job.

The caller makes it, hands it to `Sandbox.run` and keeps it. Everything here may be
called before, during and after the run, from any thread.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock


class Control:
    """Kill a job, write to its stdin, and learn which process it is.

    `pid` and `started_at_ticks` (the start time in /proc/<pid>/stat, so that a reused
    pid is told apart) are `None` until the job has started; record them for `sweep`.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.started_at_ticks: int | None = None
        self.kill_reason: str | None = None
        self._lock = Lock()
        self._lines: deque[bytes] = deque()
        self._stdin_closed = False
        self._wake: Callable[[], None] | None = None
        self._strike: Callable[[], None] | None = None

    def kill(self, reason: str = "killed") -> None:
        """End the job now; the first reason given is the one reported.

        The signal is sent from the calling thread, so that an `emit` that blocks in
        the job's own thread cannot delay it.
        """
        with self._lock:
            self.kill_reason = self.kill_reason or reason
            if self._strike:
                self._strike()
            if self._wake:
                self._wake()

    def write_line(self, text: str) -> None:
        """Send one line to the job's stdin; dropped when stdin has been closed."""
        with self._lock:
            if not self._stdin_closed:
                self._lines.append(text.encode(errors="replace") + b"\n")
            if self._wake:
                self._wake()

    def close_stdin(self) -> None:
        """Let the job read the end of its stdin after the lines written so far."""
        with self._lock:
            self._stdin_closed = True
            if self._wake:
                self._wake()

    def attach(
        self,
        *,
        pid: int,
        started_at_ticks: int | None,
        wake: Callable[[], None],
        strike: Callable[[], None],
    ) -> None:
        """Bind to a started process; only runners call this."""
        with self._lock:
            self.pid = pid
            self.started_at_ticks = started_at_ticks
            self._wake = wake
            self._strike = strike

    def detach(self) -> None:
        """Forget the process, which is about to be reaped; only runners call this."""
        with self._lock:
            self._wake = None
            self._strike = None

    def take_stdin(self) -> tuple[bytes, bool]:
        """Pop what is to be written to stdin, and whether it ends there."""
        with self._lock:
            data = b"".join(self._lines)
            self._lines.clear()
            return data, self._stdin_closed
