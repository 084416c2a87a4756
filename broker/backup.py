"""Copies of the database: `VACUUM INTO`, never a copy of the live file.

On PostgreSQL, `pg_dump` does this better than we could; the functions here say so.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from peewee import PeeweeException
from playhouse.cysqlite_ext import CySqliteDatabase

from broker import processes
from broker.database import Database
from broker.errors import Conflict, SchemaError
from broker.lifeline import start_ticks
from broker.settings import Settings


def backup(database: Database, target: Path) -> Path:
    """Write a verified copy to `target`; refuse to overwrite anything."""
    _refuse_postgres(database)
    if target.exists():
        raise Conflict(f"{target} exists already. Name a file that does not.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with database.dialect.session():
        database.run("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)
    verify(target)
    return target


def backup_before_migration(
    database: Database, directory: Path, last_applied: str
) -> None:
    """Copy the database as it was, named after its schema and the time."""
    if database.dialect.name == "sqlite":
        backup(database, directory / f"before-{last_applied}-{_stamp()}.db")


def verify(file: Path) -> list[str]:
    """Check a copy from end to end; return the migrations it has.

    Raises SchemaError when it is damaged, or no database of Roost.
    """
    copy = _open_read_only(file)
    try:
        verdict = copy.execute_sql("PRAGMA integrity_check(1)").fetchone()[0]
        names = copy.execute_sql("SELECT name FROM schema_migration ORDER BY id")
        applied = [str(row[0]) for row in names.fetchall()]
    except Exception as error:
        raise SchemaError(f"{file} is no database of Roost: {error}") from error
    finally:
        copy.close()
    if verdict != "ok":
        raise SchemaError(f"{file} is damaged: {verdict}")
    return applied


def restore_home(settings: Settings, file: Path) -> Path:
    """Restore a home from a copy, also when its database is damaged; return where what
    was there before went. The hints go, too: they speak of the old database."""
    # broker.opening stands above this module.
    from broker.opening import open_broker

    path, backups = settings.database_path, settings.home / "backups"
    try:
        broker = open_broker(settings, migrated=False)
    except PeeweeException:
        old = restore_damaged(file, path, backups, settings.run_directory)
    else:
        with closing(broker):
            old = restore(broker.database, file, path, backups)
    for hint in settings.home.glob(f"{settings.queue_path.name}*"):
        hint.unlink()
    return old


def restore(database: Database, file: Path, path: Path, backups: Path) -> Path:
    """Put a copy in place of the database at `path`; return where the old one went.

    Nothing of this home may run. The hints in queue.db are left to the caller to
    remove: they speak of the old database.
    """
    _refuse_postgres(database)
    _refuse_running(database)
    staged = _stage(file, path)
    try:
        old = backup(database, backups / f"before-restore-{_stamp()}.db")
    except PeeweeException:  # it is damaged: that may be why it is restored
        database.close()
        old = _move_aside(path, backups)
    database.close()
    return _put_in_place(staged, path, old)


def restore_damaged(file: Path, path: Path, backups: Path, run: Path) -> Path:
    """Restore where the database cannot even be opened; its files are moved aside.

    Whether something runs cannot be read there, so the doorbells of the home say it.
    """
    if alive := _listening(run):
        raise Conflict(f"Roost is running (pids {alive}). Stop it, then restore.")
    return _put_in_place(_stage(file, path), path, _move_aside(path, backups))


def _stage(file: Path, path: Path) -> Path:
    verify(file)
    staged = path.with_name(path.name + ".restoring")
    staged.unlink(missing_ok=True)
    source = _open_read_only(file)
    source.execute_sql("VACUUM INTO ?", (str(staged),))
    source.close()
    staged.chmod(0o600)
    return staged


def _put_in_place(staged: Path, path: Path, old: Path) -> Path:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    staged.rename(path)
    return old


def _move_aside(path: Path, backups: Path) -> Path:
    backups.mkdir(parents=True, exist_ok=True)
    old = backups / f"before-restore-{_stamp()}.db"
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(old.with_name(old.name + suffix))
    return old


def _listening(run: Path) -> list[int]:
    """Pids of living processes that have a doorbell here: `channel.pid.random.bell`."""
    named = {int(bell.name.split(".")[-3]) for bell in run.glob("*.*.*.bell")}
    return sorted(pid for pid in named if start_ticks(pid) is not None)


def _open_read_only(file: Path) -> CySqliteDatabase:
    # as_uri() quotes what a URI would take for its own: a space, %, # or ?.
    uri = f"{file.absolute().as_uri()}?mode=ro"
    return CySqliteDatabase(uri, rank_functions=False, uri=True)


def _refuse_running(database: Database) -> None:
    alive = [
        row["owner"]
        for row in processes.on_this_host(database)
        if processes.is_alive(row)
    ]
    if alive:
        raise Conflict(f"Roost is running ({', '.join(alive)}). Stop it, then restore.")


def _refuse_postgres(database: Database) -> None:
    if database.dialect.name != "sqlite":
        raise Conflict("On PostgreSQL use pg_dump and pg_restore.")


def _stamp() -> str:
    # With microseconds: two restores in one second must not meet.
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
