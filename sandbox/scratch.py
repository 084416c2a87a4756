"""A directory for the directories of jobs, gone with the process that made it.

It is locked for as long as the process lives; what a killed process has left is found
unlocked, and removed, by the next one that starts: its directory, and processes of its
jobs. A bubblewrap whose worker dies in its first milliseconds leaves one that waits for
ever, of which nobody has written anything down; but the memory files that it was given
bear the directory's name.
"""

import contextlib
import fcntl
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from sandbox.reach import remove_tree

# Particular, because what bears it and is not locked is removed.
PREFIX = "roost-sandbox-scratch-"
ROUNDS = 20  # what is being killed may be forking


class Scratch:
    """A directory of this process' own below `base`, which others may pass through."""

    def __init__(self, base: Path) -> None:
        remove_abandoned(base)
        self.path, lock = _make(base)
        weakref.finalize(self, _remove, self.path, lock)


def remove_abandoned(base: Path) -> None:
    """Remove the directories whose processes are gone."""
    for path in base.glob(f"{PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            kill_jobs_of(path)
            _remove(path, lock)


def kill_jobs_of(path: Path) -> None:
    """Kill what was started from a directory whose own process is gone."""
    looks_empty = False
    for _ in range(ROUNDS):
        found = [pid for pid in _pids() if _is_job_of(path, pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Twice: one may have been forked, and its parent have died, while we looked.
        if not found and looks_empty:
            return
        looks_empty = not found


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def _is_job_of(path: Path, pid: int) -> bool:
    """Whether a process runs in the directory, or holds one of its memory files."""
    links = [Path(f"/proc/{pid}/cwd")]
    with contextlib.suppress(OSError):  # it is gone, or another user's
        links += Path(f"/proc/{pid}/fd").iterdir()
    marks = (f"{path}/", f"/memfd:{path.name}/")
    return any(_target(link).startswith(marks) for link in links)


def _target(link: Path) -> str:
    """Where a link leads; nowhere when it is closed by now."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _make(base: Path) -> tuple[Path, int]:
    """Make and lock a directory; again, when another process removed it in between."""
    while True:
        path = Path(mkdtemp(prefix=PREFIX, dir=base))
        lock = _lock(path)
        if lock is not None and path.exists():
            path.chmod(0o711)
            return path, lock
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Open and lock a directory of ours; `None` when it is not ours or in use."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, another kind of file, or gone
        return None
    if os.fstat(descriptor).st_uid == os.geteuid() and _is_locked_now(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _is_locked_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path, lock: int) -> None:
    remove_tree(path)
    os.close(lock)
