"""The operating system's processes, read from /proc: who runs, below whom, for whom.

A process is known by its id and its start, because ids are given again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LISTENING: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
TCP_TABLES: Final = ("tcp", "tcp6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process, for ever."""

    pid: int
    start_ticks: int
    name: str  # as /proc/PID/comm has it, 15 characters at most

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return find(self.pid) == self

    @property
    def arguments(self) -> list[str]:
        """Its command line; empty once it is gone."""
        with suppress(OSError):
            raw = Path(f"/proc/{self.pid}/cmdline").read_bytes()
            return raw.decode(errors="replace").rstrip("\0").split("\0")
        return []

    @property
    def parent_pid(self) -> int:
        """The id of its parent; 0 once it is gone."""
        fields = _stat(self.pid)
        return int(fields[1]) if fields else 0

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is gone."""
        with suppress(ProcessLookupError):
            if self.is_alive:
                os.kill(self.pid, number)


def find(pid: int) -> Process | None:
    """Return the process that runs under an id now."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return None
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return Process(pid=pid, start_ticks=int(fields[19]), name=name)
    return None


def with_home(home: Path) -> set[Process]:
    """Return the processes that were started with this ROOST_HOME, and all below them.

    A sandbox has no environment of ours; it is found below its worker.
    """
    wanted = f"ROOST_HOME={home}".encode()
    roots = [pid for pid in _pids() if wanted in _environ(pid)]
    return {each for pid in roots for each in (find(pid), *below(pid)) if each}


def below(pid: int) -> Iterator[Process]:
    """Yield the descendants of a process."""
    for child in _children(pid):
        if process := find(child):
            yield process
        yield from below(child)


def alive(processes: Iterable[Process]) -> set[Process]:
    """Return those that still run."""
    return {each for each in processes if each.is_alive}


def listening_addresses(processes: Iterable[Process]) -> set[str]:
    """Return the addresses, in the kernel's hexadecimal, that these listen on."""
    sockets = {link for each in processes for link in _sockets(each.pid)}
    return {
        fields[1]
        for table in TCP_TABLES
        for fields in map(str.split, _lines(Path(f"/proc/net/{table}")))
        if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets
    }


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _environ(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in path.read_text().split()]
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name may hold spaces."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _sockets(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            yield str(path.readlink())


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []
