"""Copies of the database: `VACUUM INTO`, never a copy of the live file.

On PostgreSQL, `pg_dump` does this better than we could; the functions here say so.
"""

from __future__ import annotations

import time
from pathlib import Path

from broker.database import Database
from broker.errors import Conflict


def backup(database: Database, target: Path) -> Path:
    """Write a verified copy to `target`; refuse to overwrite anything."""
    if database.dialect.name != "sqlite":
        raise Conflict("On PostgreSQL, back up with pg_dump; Roost copies SQLite only.")
    if target.exists():
        raise Conflict(f"{target} exists already. Name a file that does not.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with database.dialect.session():
        database.run("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)
    return target


def backup_before_migration(
    database: Database, directory: Path, last_applied: str
) -> None:
    """Copy the database as it was, named after its schema and the time."""
    if database.dialect.name != "sqlite":
        return
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    backup(database, directory / f"before-{last_applied}-{stamp}.db")
