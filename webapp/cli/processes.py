"""The processes below this one: to be ended with it, however they were started.

Linux only, by prctl and /proc. Honcho puts each of its processes into a session of its
own, so no process group holds them all; being adopted by this process is what does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>
PR_SET_CHILD_SUBREAPER: Final = 36
POLL_SECONDS: Final = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM here when the parent, of that id, dies."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it was quicker
        os.kill(os.getpid(), signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent dies, in init's place."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the living children of a process; none when it is gone."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in path.read_text().split()]
    return found


def descendants(pid: int) -> Iterator[int]:
    """Yield everything below a process, parents first."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def reap_all_but(pid: int) -> None:
    """Bury adopted children that have ended; `pid` is somebody else's to wait for."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, options):
            if ended.si_pid == pid:
                return
            os.waitpid(ended.si_pid, 0)


def end_the_rest(patience_seconds: float) -> None:
    """End what honcho left behind: ask, wait, kill.

    What we adopted are honcho's runners, which ignore SIGTERM and end with the process
    they watch; so their children's groups are asked, as honcho would.
    """
    for runner in children(os.getpid()):
        for pid in children(runner):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + patience_seconds
    while _bury() and time.monotonic() < give_up_at:
        time.sleep(POLL_SECONDS)
    while _bury():
        kill_descendants()
        time.sleep(POLL_SECONDS)


def kill_descendants() -> None:
    """Kill everything below this process."""
    for pid in [*descendants(os.getpid())]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _bury() -> bool:
    """Bury the dead; say whether there are living."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
        return True
    return False
