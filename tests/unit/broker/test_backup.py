"""Copies of the database, and how one comes back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from broker import backup, processes
from broker.errors import Conflict, SchemaError


def restored(house: Any, file: Path) -> Path:
    settings = house.broker.settings
    return backup.restore(
        house.database, file, settings.database_path, settings.home / "backups"
    )


@pytest.mark.parametrize("name", ["copy.db", "a b%20#1?.db", "new/directory/copy.db"])
def test_a_copy_is_whole_private_and_of_this_schema(house, tmp_path, name) -> None:
    house.agent()
    copy = backup.backup(house.database, tmp_path / name)
    assert backup.verify(copy) == ["0001_initial"]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_copy_overwrites_nothing(house, tmp_path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        backup.backup(house.database, target)
    assert target.read_text() == "mine"


def test_a_copy_is_made_while_writing_goes_on(house, tmp_path) -> None:
    house.agent()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            house.create("job")
        house.database.close()

    writer = threading.Thread(target=write)
    writer.start()
    copies = [backup.backup(house.database, tmp_path / f"{n}.db") for n in range(5)]
    done.set()
    writer.join()
    assert [backup.verify(copy) for copy in copies] == [["0001_initial"]] * 5


def test_a_restore_brings_the_old_back_and_keeps_what_was_there(
    open_house, tmp_path
) -> None:
    house = open_house()
    house.agent("old")
    copy = backup.backup(house.database, tmp_path / "copy.db")
    house.agent("new")
    previous = restored(house, copy)
    ids = "SELECT id FROM agents ORDER BY id"
    assert open_house().database.read(ids) == [{"id": "old"}]
    again = open_house()
    restored(again, previous)
    assert open_house().database.read(ids) == [{"id": "new"}, {"id": "old"}]


def test_a_restore_is_refused_while_a_process_of_the_home_lives(
    house, tmp_path
) -> None:
    copy = backup.backup(house.database, tmp_path / "copy.db")
    identity = processes.identify("agents")
    with house.write() as tx:
        processes.register(tx, identity)
    with pytest.raises(Conflict, match="Roost is running"):
        restored(house, copy)
    with house.write() as tx:
        processes.unregister(tx, identity.owner)
    assert restored(house, copy).is_file()


def test_a_damaged_database_is_restored_over_and_kept(open_house, tmp_path) -> None:
    house = open_house()
    house.agent("old")
    settings = house.broker.settings
    copy = backup.backup(house.database, tmp_path / "copy.db")
    house.broker.close()
    for torn in (b"no database at all" * 500, copy.read_bytes()[:8192] + b"x" * 9000):
        settings.database_path.write_bytes(torn)
        previous = backup.restore_home(settings, copy)
        assert previous.read_bytes() == torn
    ids = open_house().database.read("SELECT id FROM agents")
    assert ids == [{"id": "old"}]


def test_a_damaged_or_foreign_file_is_refused_and_nothing_changes(
    house, tmp_path
) -> None:
    house.agent()
    copy = backup.backup(house.database, tmp_path / "copy.db")
    whole = copy.read_bytes()
    files = {
        "text": b"no database",
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "torn": whole[:8192] + b"\xa5" * 8192 + whole[16384:],
    }
    for name, content in files.items():
        bad = tmp_path / name
        bad.write_bytes(content)
        with pytest.raises(SchemaError):
            restored(house, bad)
    assert house.state() == "idle"
    assert list(house.broker.settings.home.glob("*.restoring")) == []
    assert not (house.broker.settings.home / "backups").exists()


def test_postgres_is_left_to_its_own_tools(open_house, postgres_url, tmp_path) -> None:
    house = open_house(ROOST_DATABASE_URL=postgres_url)
    with pytest.raises(Conflict, match="pg_dump"):
        backup.backup(house.database, tmp_path / "copy.db")
