"""Migrations: forward only, in one transaction, after a backup; checksums kept.

The runner is peewee's (`playhouse.migrations`, the `pwmigrate` command). Around it
stand the four promises that it does not make: one process migrates at a time, a file
that was applied may not change, a schema newer than this Roost is refused, and a
database that holds anything is copied first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playhouse.migrations import Migration, Runner

from broker.backup import backup_before_migration
from broker.database import Database
from broker.errors import SchemaError

DIRECTORY: Final = Path(__file__).parent / "migrations"
_CHECKSUMS: Final = (
    "CREATE TABLE IF NOT EXISTS schema_checksums"
    " (name TEXT NOT NULL PRIMARY KEY, sha256 TEXT NOT NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """What is applied, and what is not yet."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether there is nothing left to apply."""
        return not self.pending


def schema_state(database: Database, directory: Path = DIRECTORY) -> SchemaState:
    """Compare the files with the database; raise SchemaError where they do not fit."""
    with database.dialect.session():
        rows = Runner(database.peewee, str(directory)).status()
        _refuse_newer(rows)
        _refuse_changed(database, rows)
    return SchemaState(
        applied=tuple(row.name for row in rows if row.applied),
        pending=tuple(row.name for row in rows if not row.applied),
    )


def migrate(
    database: Database, backups: Path | None, directory: Path = DIRECTORY
) -> list[str]:
    """Apply what is pending; return the names. Safe to call from many processes."""
    if schema_state(database, directory).is_current:
        return []
    with database.dialect.session(), database.dialect.alone():
        state = schema_state(database, directory)
        if state.is_current:
            return []
        if state.applied and backups is not None:
            backup_before_migration(database, backups, state.applied[-1])
        return _apply(database, directory)


def _apply(database: Database, directory: Path) -> list[str]:
    peewee = database.peewee
    runner = Runner(peewee, str(directory))
    with peewee.atomic():
        names: list[str] = runner.up()
        peewee.execute_sql(_CHECKSUMS)
        for name in names:
            database.run(
                "INSERT INTO schema_checksums (name, sha256) VALUES (?, ?)",
                (name, _checksum(directory / f"{name}.py")),
            )
    return names


def _refuse_newer(rows: list[Migration]) -> None:
    unknown = [row.name for row in rows if row.path is None]
    if unknown:
        raise SchemaError(
            f"This database was migrated by a newer Roost (it has {unknown[-1]}). "
            "Install that version or newer, or restore a backup from before it."
        )


def _refuse_changed(database: Database, rows: list[Migration]) -> None:
    if not database.peewee.table_exists("schema_checksums"):
        return
    known = {
        row["name"]: row["sha256"]
        for row in database.run("SELECT name, sha256 FROM schema_checksums", ())
    }
    for row in rows:
        if row.applied and known.get(row.name) != _checksum(Path(row.path)):
            raise SchemaError(
                f"The migration {row.name} was changed after it was applied. "
                "Restore the file as released; write a new migration for a change."
            )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
