"""The variables that models are reached with, read again when a `.env` changes.

Keys may be short-lived (P36): they are asked for at every model call, so a new one in
`.env` counts from the next call on, and no process has to be restarted for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from broker.settings import Settings, read_dotenv

Stamp = tuple[int, int] | None


class Variables:
    """Finds variables as `broker.settings` does: the process's own, then `.env` in the
    working directory, then `.env` in the home."""

    def __init__(self, settings: Settings, cwd: Path | None = None) -> None:
        self._process = settings.process_environ
        self._paths = [(cwd or Path.cwd()) / ".env", settings.home / ".env"]
        self._read: dict[Path, tuple[Stamp, Mapping[str, str]]] = {}

    def find(self, name: str) -> str | None:
        """Return what a variable is now; None when it is not set, or empty."""
        for values in (self._process, *map(self._values, self._paths)):
            if name in values:
                return values[name] or None
        return None

    def _values(self, path: Path) -> Mapping[str, str]:
        stamp = _stamp(path)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            known = self._read[path] = (stamp, read_dotenv(path))
        return known[1]


def _stamp(path: Path) -> Stamp:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size
