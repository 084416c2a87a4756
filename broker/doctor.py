"""The doctor: what is wrong, and what to do about it.

`checks` looks at the home from outside, running or not; `live_checks` is what a running
system is ready by.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import cysqlite
from peewee import DatabaseError

from broker import breakers, processes
from broker.database import Database
from broker.errors import BrokerError
from broker.migrate import schema_state
from broker.opening import Broker, open_broker
from broker.settings import Settings
from broker.times import SECOND_US, now_us

# SQLite before this can corrupt a WAL that two connections reset at once.
SAFE_SQLITE: Final = (3, 51, 3)
LEAST_FREE_BYTES: Final = 500_000_000
STUCK_SECONDS: Final = 60
NEEDED: Final = {
    "agents": "takes turns",
    "exec": "runs code",
    "scheduler": "recovers work",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding; `fix` says what to do when it is not ok."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the finding as the API shows it."""
        return asdict(self)


def checks(settings: Settings) -> Iterator[Check]:
    """Look at a home; nothing in it needs to run."""
    yield _sqlite_version()
    yield _disk(settings)
    try:
        broker = open_broker(settings, migrated=False)
    except (BrokerError, OSError, DatabaseError) as error:
        yield Check(
            name="database",
            status="fail",
            detail=str(error),
            fix="Check ROOST_HOME, ROOST_DATABASE_URL and the directory's permissions.",
        )
        return
    try:
        yield from _inside(broker)
    finally:
        broker.close()


def _inside(broker: Broker) -> Iterator[Check]:
    schema = _schema(broker.database)
    yield schema
    if schema.status == "ok":
        yield _integrity(broker.database)
        yield _journal_mode(broker.database)
        yield from live_checks(broker)


def live_checks(broker: Broker) -> list[Check]:
    """Return what a running system is ready by."""
    database = broker.database
    return [*_processes(database), _stuck(database), _circuits(database)]


def _sqlite_version() -> Check:
    version = cysqlite.sqlite_version
    if cysqlite.sqlite_version_info >= SAFE_SQLITE:
        return Check(name="sqlite", status="ok", detail=f"SQLite {version} (cysqlite)")
    return Check(
        name="sqlite",
        status="fail",
        detail=f"SQLite {version} can corrupt a WAL (fixed in 3.51.3).",
        fix="Install the pinned cysqlite: make install.",
    )


def _disk(settings: Settings) -> Check:
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(settings.home).free
    detail = f"{free / 1e9:.1f} GB free in {settings.home}"
    if free >= LEAST_FREE_BYTES:
        return Check(name="disk", status="ok", detail=detail)
    return Check(
        name="disk", status="warn", detail=detail, fix="Free some space, or roost gc."
    )


def _schema(database: Database) -> Check:
    try:
        state = schema_state(database)
    except BrokerError as error:
        return Check(
            name="schema", status="fail", detail=error.detail, fix="See the detail."
        )
    if state.is_current:
        return Check(name="schema", status="ok", detail=f"current: {state.applied[-1]}")
    return Check(
        name="schema",
        status="warn",
        detail=f"not applied yet: {', '.join(state.pending)}",
        fix="roost migrate (any start does it, too).",
    )


def _integrity(database: Database) -> Check:
    if database.dialect.name != "sqlite":
        return Check(name="integrity", status="ok", detail="PostgreSQL looks after it")
    found = database.read("PRAGMA quick_check(1)")[0]
    verdict = str(next(iter(found.values())))
    if verdict == "ok":
        return Check(name="integrity", status="ok", detail="quick_check finds nothing")
    return Check(
        name="integrity",
        status="fail",
        detail=verdict,
        fix="Stop everything and restore the last backup: roost restore FILE.",
    )


def _journal_mode(database: Database) -> Check:
    if database.dialect.name != "sqlite":
        return Check(name="journal", status="ok", detail="PostgreSQL's own WAL")
    mode = str(database.read("PRAGMA journal_mode")[0]["journal_mode"])
    if mode == "wal":
        return Check(name="journal", status="ok", detail="write-ahead log")
    return Check(
        name="journal",
        status="fail",
        detail=f"journal_mode is {mode}, not wal",
        fix="Put ROOST_HOME on a local disk; network file systems cannot do WAL.",
    )


def _processes(database: Database) -> Iterator[Check]:
    here = {row["owner"]: row for row in processes.on_this_host(database)}
    everyone = processes.list_all(database)
    for kind, duty in NEEDED.items():
        alive = [
            each
            for each in everyone
            if each["kind"] == kind
            and (each["owner"] not in here or processes.is_alive(here[each["owner"]]))
        ]
        yield _process_check(kind, duty, alive)
        if kind == "exec" and alive:
            yield _sandbox(alive)


def _process_check(kind: str, duty: str, alive: list[dict[str, Any]]) -> Check:
    if alive:
        return Check(name=kind, status="ok", detail=f"{len(alive)} running")
    return Check(
        name=kind,
        status="fail",
        detail=f"No {kind} process runs: nobody {duty}.",
        fix="roost up, or start the Procfile's line.",
    )


def _sandbox(alive: list[dict[str, Any]]) -> Check:
    facts = [each["facts"] for each in alive if each["facts"].get("sandbox")]
    if not facts:
        return Check(name="sandbox", status="warn", detail="not known yet")
    weakest = next((f for f in facts if f["sandbox"] != "bubblewrap"), facts[0])
    caged = weakest["sandbox"] == "bubblewrap"
    return Check(
        name="sandbox",
        status="ok" if caged else "warn",
        detail=f"{weakest['sandbox']}: {weakest.get('detail', '')}",
        fix=None if caged else "Install bubblewrap, and set ROOST_SANDBOX=required.",
    )


def _stuck(database: Database) -> Check:
    row = database.read(
        "SELECT COUNT(*) AS n FROM tasks WHERE status = 'running'"
        " AND lease_expires_at < ?",
        now_us() - STUCK_SECONDS * SECOND_US,
    )[0]
    if row["n"] == 0:
        return Check(name="leases", status="ok", detail="none is overdue")
    return Check(
        name="leases",
        status="warn",
        detail=f"{row['n']} leases are overdue by more than {STUCK_SECONDS} s",
        fix="Is a scheduler running? roost up.",
    )


def _circuits(database: Database) -> Check:
    """A provider that is down is no reason not to be ready: others may answer."""
    resting = [row for row in breakers.list_open(database) if row["state"] != "closed"]
    if not resting:
        return Check(name="circuits", status="ok", detail="none is open")
    said = "; ".join(
        f"{row['provider']} has failed {row['failures']} times in a row and is left "
        f"alone for {row['rests_for_seconds']:.0f} s ({row['error']})"
        for row in resting
    )
    return Check(
        name="circuits",
        status="warn",
        detail=said,
        fix="roost doctor --online asks them; circuits close by themselves.",
    )
