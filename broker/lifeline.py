"""What every process of ours does about the life of others.

Killing honcho orphans its children: each runs in a process group of its own, below a
helper process that outlives honcho. So every entry point asks the kernel to be told
when its parent dies, and watches the ancestor that started the whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(environ: Mapping[str, str]) -> None:
    """Send this process SIGTERM when its parent dies, or honcho above its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = os.getppid()
    watched = [parent]
    # honcho runs each command below a helper of its own; the helper outlives honcho.
    if "HONCHO_PROCESS_NAME" in environ and (above := parent_of(parent)):
        watched.append(above)
    when_dead(watched, lambda: os.kill(os.getpid(), signal.SIGTERM))


def when_dead(pids: list[int], action: Callable[[], None]) -> None:
    """Run the action, from a thread, when the first of these processes is gone."""
    poll = select.poll()
    for pid in pids:
        try:
            poll.register(os.pidfd_open(pid), select.POLLIN)
        except ProcessLookupError:
            action()
            return

    def watch() -> None:
        poll.poll()
        action()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def parent_of(pid: int) -> int | None:
    """Return the parent of a process, or None when either is gone (or is init)."""
    fields = _stat(pid)
    parent = int(fields[1]) if fields else 0
    return parent if parent > 1 else None


def environment_of(pid: int | None) -> dict[str, str]:
    """Return the environment that a process was started with; empty when it is gone."""
    if pid is None:
        return {}
    with contextlib.suppress(OSError):
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        named = (pair.partition("=") for pair in pairs.split("\0") if "=" in pair)
        return {name: value for name, _, value in named}
    return {}


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it is gone.

    A pid is used again; a pid with its start time is not.
    """
    fields = _stat(pid)
    # A zombie holds its pid but does nothing more: it is gone.
    if not fields or fields[0] == "Z":
        return None
    return int(fields[19])


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name may hold spaces."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return text.rpartition(")")[2].split()
    return []
