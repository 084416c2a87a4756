"""A directory for the directories of jobs, gone with the process that made it.

It is locked for as long as the process lives; what a killed process has left is found
unlocked, and removed, by the next one that starts.
"""

import fcntl
import os
import weakref
from pathlib import Path
from tempfile import mkdtemp

from sandbox.reach import remove_tree

# Particular, because what bears it and is not locked is removed.
PREFIX = "roost-sandbox-scratch-"


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
            _remove(path, lock)


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
