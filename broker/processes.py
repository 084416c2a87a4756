"""The processes of a home: who runs, where, since when.

A lease names its owner by this identity, so that the scheduler of the same machine sees
at once that a worker is dead, without waiting for the lease to run out.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import json
from broker.database import Database, Row, Transaction
from broker.lifeline import start_ticks
from broker.times import now_us, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process: `kind@host:pid:start_ticks` names it for ever."""

    kind: str
    host: str
    pid: int
    start_ticks: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The name that leases carry."""
        return f"{self.kind}@{self.host}:{self.pid}:{self.start_ticks}"


def identify(kind: str, **facts: Any) -> Identity:
    """Return the identity of this process."""
    pid = os.getpid()
    return Identity(
        kind=kind,
        host=this_host(),
        pid=pid,
        start_ticks=start_ticks(pid) or 0,
        facts=facts,
    )


def this_host() -> str:
    """Name where pids mean the same: this machine, and within it this pid namespace.

    Two containers may share a host name; the pids of one say nothing in the other.
    """
    namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    return f"{socket.gethostname()}/{namespace}"


def register(tx: Transaction, identity: Identity) -> None:
    """Note that this process runs."""
    now = now_us()
    tx.execute(
        "INSERT INTO processes (owner, kind, host, pid, start_ticks, facts, started_at,"
        " seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at,"
        " facts = excluded.facts",
        identity.owner,
        identity.kind,
        identity.host,
        identity.pid,
        identity.start_ticks,
        json.dump(identity.facts),
        now,
        now,
    )


def unregister(tx: Transaction, owner: str) -> None:
    """Note that a process is gone."""
    tx.execute("DELETE FROM processes WHERE owner = ?", owner)


def on_this_host(database: Database) -> list[Row]:
    """List the registered processes of this machine."""
    return database.read(
        "SELECT * FROM processes WHERE host = ? ORDER BY started_at", this_host()
    )


def is_alive(row: Row) -> bool:
    """Whether the process of a row of this machine still runs."""
    return start_ticks(int(row["pid"])) == int(row["start_ticks"])


def is_dead(owner: str) -> bool:
    """Whether a process of this machine, known by its name in leases, is gone.

    False for processes of other machines, of which nothing is known here.
    """
    if "@" not in owner:
        return False  # an outside worker's own name
    place, pid, ticks = owner.rsplit(":", 2)
    is_here = place.partition("@")[2] == this_host()
    return is_here and start_ticks(int(pid)) != int(ticks)


def list_all(database: Database) -> list[Row]:
    """List every registered process, as the API shows it."""
    rows = database.read("SELECT * FROM processes ORDER BY kind, started_at")
    return [
        {
            "owner": row["owner"],
            "kind": row["kind"],
            "host": row["host"],
            "pid": row["pid"],
            "facts": json.load(row["facts"]),
            "started_at": rfc3339(row["started_at"]),
            "seen_at": rfc3339(row["seen_at"]),
        }
        for row in rows
    ]
