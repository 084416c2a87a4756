"""Reading one file of the home for a tool, and none of those that are not a tool's.

A path is resolved, links and all, before it is judged, and the file that was opened is
judged again: between the two anybody may have put another in its place. The live
database is recognised by what it is as well as by its name, and is never opened for
reading: closing any descriptor of it would drop this process' locks.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from agents.runtime import FoundFile, RuntimeRefused

# In the home itself: the store, the queue, the token, the sockets, the copies.
_CLOSED: Final = ("roost.db*", "queue.db*", "token", "token.*", "run", "backups")
# Wherever they lie.
_SECRET: Final = (".env", ".env.*")


def read_home_file(
    home: Path, path: str, max_bytes: int, *, stores: Sequence[Path] = ()
) -> FoundFile:
    """Read a file below `home`; raise RuntimeRefused with a sentence for the model.

    `stores` are the SQLite files in use, wherever they are.
    """
    root = home.resolve()
    try:
        target = (root / path).resolve(strict=True)
        with _pinned(target) as descriptor:
            found = Path(f"/proc/self/fd/{descriptor}").readlink()
            inside = _judge(root, found, path)
            kind = os.fstat(descriptor)
            is_store = (kind.st_dev, kind.st_ino) in _identities(stores)
            _judge_kind(kind, path, max_bytes, is_store=is_store)
            content = _read(descriptor, max_bytes)
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise RuntimeRefused(f"{path} cannot be read: {why}.") from error
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes)
    return FoundFile(name=inside.name, content=content, path=str(inside))


@contextmanager
def _pinned(path: Path) -> Iterator[int]:
    """Hold a file without opening it: O_PATH touches neither content nor locks."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _judge(root: Path, found: Path, asked: str) -> Path:
    if not found.is_relative_to(root):
        raise RuntimeRefused(
            f"{asked} is outside of the home directory; paths are relative to it."
        )
    inside = found.relative_to(root)
    first = inside.parts[0] if inside.parts else ""
    is_closed = any(fnmatchcase(first.lower(), pattern) for pattern in _CLOSED)
    is_secret = any(
        fnmatchcase(part.lower(), pattern)
        for part in inside.parts
        for pattern in _SECRET
    )
    if is_closed or is_secret:
        raise RuntimeRefused(f"{asked} is not for tools to read.")
    return inside


def _judge_kind(
    found: os.stat_result, asked: str, max_bytes: int, *, is_store: bool
) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise RuntimeRefused(f"{asked} is not a file.")
    if is_store:
        raise RuntimeRefused(f"{asked} is not for tools to read.")
    if found.st_size > max_bytes:
        raise _too_large(asked, max_bytes)


def _identities(stores: Sequence[Path]) -> set[tuple[int, int]]:
    """Which files the stores are, whatever else they are called (a hard link)."""
    found = (
        path.stat()
        for store in stores
        for path in store.parent.glob(f"{glob.escape(store.name)}*")
    )
    return {(each.st_dev, each.st_ino) for each in found}


def _read(descriptor: int, max_bytes: int) -> bytes:
    with open(f"/proc/self/fd/{descriptor}", "rb") as file:
        return file.read(max_bytes + 1)


def _too_large(asked: str, max_bytes: int) -> RuntimeRefused:
    return RuntimeRefused(f"{asked} is larger than {max_bytes:,} bytes.")
