"""Whether the port is free, and if it is not, who has it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import click

LISTENING: Final = "0A"  # TCP_LISTEN in /proc/net/tcp


def require_free(host: str, port: int) -> None:
    """Raise a click exception that says what to do unless the port can be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            # As the server does: connections of an earlier one may still be closing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        raise click.ClickException(_explain(host, port, exc)) from exc


def _explain(host: str, port: int, exc: OSError) -> str:
    other = f"PORT={port + 1 if port < 65535 else port - 1} roost up"
    if exc.errno == errno.EADDRINUSE:
        return f"Port {port} is taken{_by_whom(port)} or use another: {other}"
    if exc.errno == errno.EACCES:
        return f"Port {port} is for root alone; use one from 1024: PORT=8080 roost up"
    return f"ROOST_HOST={host} is no address of this machine: {exc.strerror}."


def _by_whom(port: int) -> str:
    for pid in _owners(_listening_inodes(port)):
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            return f" by {name} (process {pid}). Stop it (kill {pid}),"
    return ". Stop whatever listens there,"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                local_port = int(fields[1].rpartition(":")[2], 16)
                if local_port == port and fields[3] == LISTENING:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _owners(sockets: set[str]) -> Iterator[str]:
    """Yield the processes that hold one of the sockets; others' are not to be seen."""
    for path in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        with suppress(OSError):
            if str(path.readlink()) in sockets:
                yield path.parts[2]
