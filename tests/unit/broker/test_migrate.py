"""Migrations: forward only, once, after a backup, and nothing half done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import Broker, open_broker
from broker.errors import SchemaError
from broker.migrate import migrate, schema_state
from broker.settings import load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a migration that runs some SQL; return the directory."""
    directory = tmp_path / "migrations"
    directory.mkdir()

    def write_one(name: str, *statements: str) -> Path:
        lines = [f"    db.execute_sql({sql!r})\n" for sql in statements]
        text = f"def up(migrator, db):\n{''.join(lines)}"
        (directory / f"{name}.py").write_text(text)
        return directory

    return write_one


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"ROOST_HOME": str(tmp_path / "home")}


@pytest.fixture
def broker(environ: dict[str, str], tmp_path: Path) -> Iterator[Broker]:
    """A home that nobody has migrated."""
    broker = open_broker(load(environ, tmp_path), migrated=False)
    yield broker
    broker.close()


def tables(broker: Broker) -> list[str]:
    rows = broker.database.read("SELECT name FROM sqlite_master WHERE type = 'table'")
    names = {row["name"] for row in rows}
    return sorted(name for name in names if len(name) == 1)


def test_what_is_pending_is_applied_in_order_and_once(broker, write) -> None:
    write("0002_b", "CREATE TABLE b AS SELECT * FROM a")
    directory = write("0001_a", "CREATE TABLE a (x)")
    assert migrate(broker.database, None, directory) == ["0001_a", "0002_b"]
    assert migrate(broker.database, None, directory) == []
    assert tables(broker) == ["a", "b"]
    assert schema_state(broker.database, directory).is_current


def test_the_state_tells_what_is_applied_and_what_is_not(broker, write) -> None:
    migrate(broker.database, None, write("0001_a", "CREATE TABLE a (x)"))
    state = schema_state(broker.database, write("0002_b", "CREATE TABLE b (x)"))
    assert (state.applied, state.pending, state.is_current) == (
        ("0001_a",),
        ("0002_b",),
        False,
    )


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(
    broker, write
) -> None:
    migrate(broker.database, None, write("0001_a", "CREATE TABLE a (x)"))
    directory = write("0001_a", "CREATE TABLE a (x, y)")
    for look in (schema_state, lambda d, path: migrate(d, None, path)):
        with pytest.raises(SchemaError, match="0001_a was changed after it was"):
            look(broker.database, directory)


def test_a_schema_newer_than_this_roost_is_refused(broker, write) -> None:
    write("0001_a", "CREATE TABLE a (x)")
    directory = write("0002_b", "CREATE TABLE b (x)")
    migrate(broker.database, None, directory)
    (directory / "0002_b.py").unlink()
    with pytest.raises(SchemaError, match=r"newer Roost \(it has 0002_b\)"):
        migrate(broker.database, None, directory)


def test_a_database_that_holds_something_is_copied_first(
    broker, write, tmp_path, environ
) -> None:
    backups = tmp_path / "home" / "backups"
    migrate(broker.database, backups, write("0001_a", "CREATE TABLE a (x)"))
    assert not backups.exists()
    with broker.database.write() as tx:
        tx.execute("INSERT INTO a VALUES (7)")
    migrate(broker.database, backups, write("0002_b", "DROP TABLE a"))
    (copy,) = backups.iterdir()
    assert copy.name.startswith("before-0001_a-")
    assert copy.stat().st_mode & 0o777 == 0o600
    old = {**environ, "ROOST_DATABASE_URL": f"sqlite:///{copy}"}
    restored = open_broker(load(old, tmp_path), migrated=False)
    assert restored.database.read("SELECT x FROM a") == [{"x": 7}]
    restored.close()


def test_a_migration_that_fails_leaves_nothing_behind(broker, write) -> None:
    write("0001_a", "CREATE TABLE a (x)")
    directory = write("0002_b", "CREATE TABLE b (x)", "CREATE nonsense")
    with pytest.raises(Exception, match="nonsense"):
        migrate(broker.database, None, directory)
    assert tables(broker) == []
    assert schema_state(broker.database, directory).applied == ()
    write("0002_b", "CREATE TABLE b (x)")
    assert migrate(broker.database, None, directory) == ["0001_a", "0002_b"]


def test_processes_that_migrate_at_once_migrate_once(
    environ, write, child, broker
) -> None:
    directory = write("0001_a", "CREATE TABLE a (x)", "INSERT INTO a VALUES (1)")
    racers = [child("migrate.py", json.dumps(environ), directory) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [json.loads(racer.communicate(timeout=30)[0]) for racer in racers]
    assert sorted(ended) == [[], [], [], ["0001_a"]]
    assert broker.database.read("SELECT x FROM a") == [{"x": 1}]
