"""The terminal's foreground: whoever holds it is who Ctrl-C reaches."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

STDIN: Final = 0


@contextmanager
def foreground() -> Iterator[None]:
    """Hold the terminal in a process group of our own, and give it back at the end.

    Under `make start` the whole foreground group gets Ctrl-C: make would end with an
    error although everything drained. A shell's own job, a background job or a process
    without a terminal is left as it is.
    """
    before = _foreground_group()
    if before is None or before != os.getpgrp() or before == os.getpid():
        yield
        return
    os.setpgid(0, 0)
    _give(os.getpgrp())
    # Stopped by Ctrl-Z, we would hold the terminal that the shell needs for `fg`.
    # A handler, because being ignored would be inherited.
    signal.signal(signal.SIGTSTP, lambda *_: None)
    try:
        yield
    finally:
        _give(before)


def _foreground_group() -> int | None:
    """Return the group in the foreground of our terminal; None without a terminal."""
    with suppress(OSError):
        return os.tcgetpgrp(STDIN)
    return None


def _give(group: int) -> None:
    # Who is in the background and changes the foreground is stopped by SIGTTOU.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with suppress(OSError):  # the group, or the terminal, is gone
        os.tcsetpgrp(STDIN, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})
