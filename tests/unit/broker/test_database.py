"""The one write path: fair, whole or not at all, and silent until the commit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.database import Transaction
from broker.times import now_us

SECONDS = 2.0


def count(house) -> int:
    row = house.database.read_one("SELECT value FROM counters WHERE prefix = 'x'")
    return row["value"] if row else 0


def add_one(tx: Transaction) -> None:
    tx.execute(
        "INSERT INTO counters (prefix, value) VALUES ('x', 1)"
        " ON CONFLICT (prefix) DO UPDATE SET value = counters.value + 1"
    )


def test_what_is_written_is_read(house) -> None:
    with house.write() as tx:
        add_one(tx)
        assert tx.one("SELECT value FROM counters") == {"value": 1}
        assert tx.one("SELECT value FROM counters WHERE prefix = 'y'") is None
    assert count(house) == 1


def test_an_exception_undoes_everything(house) -> None:
    def break_off(tx: Transaction) -> None:
        add_one(tx)
        raise KeyError

    with pytest.raises(KeyError), house.write() as tx:
        break_off(tx)
    assert count(house) == 0
    with house.write() as tx:
        add_one(tx)
    assert count(house) == 1


def test_a_write_within_a_write_is_refused_and_the_outer_one_goes_on(house) -> None:
    with house.write() as tx:
        add_one(tx)
        with pytest.raises(RuntimeError, match="pass the transaction down"):
            house.write().__enter__()
    assert count(house) == 1


def test_hints_and_rings_come_after_the_commit(house) -> None:
    bell = house.broker.bells.listen("a")
    seen_by_others: list[int] = []
    house.database.hint = lambda type, id: seen_by_others.append(count(house))
    with house.write() as tx:
        tx.hint("exec", "exec-1")
        tx.ring("a")
        add_one(tx)
        assert not bell.wait(0, 0.05)
    assert seen_by_others == [1]
    assert bell.wait(0, 5)


def test_a_hint_asked_for_twice_is_given_once_and_in_order(house) -> None:
    with house.write() as tx:
        for id in ("exec-2", "exec-1", "exec-2"):
            tx.hint("exec", id)
    assert house.hints == ["exec-2", "exec-1"]


def test_what_is_undone_hints_nobody(house) -> None:
    def break_off(tx: Transaction) -> None:
        tx.hint("exec", "exec-1")
        raise KeyError

    with pytest.raises(KeyError), house.write() as tx:
        break_off(tx)
    assert house.hints == []


def test_threads_that_write_at_once_all_come_through(house) -> None:
    def write(_: int) -> None:
        for _ in range(25):
            with house.write() as tx:
                add_one(tx)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert count(house) == 200
    assert house.database.gate_waits.count >= 200
    assert house.database.gate_waits.worst_seconds > 0


def test_a_reader_is_not_kept_waiting_by_a_writer(house) -> None:
    writing, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with house.write() as tx:
            add_one(tx)
            writing.set()
            assert may_end.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    assert writing.wait(10)
    assert count(house) == 0
    may_end.set()
    thread.join()
    assert count(house) == 1


def test_processes_that_write_at_once_get_even_shares(house, child) -> None:
    writers = [child("commit.py", json.dumps(house.environ)) for _ in range(4)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 4
    for writer in writers:
        writer.stdin.write(f"{SECONDS}\n")
        writer.stdin.flush()
    commits = [int(writer.communicate(timeout=30)[0]) for writer in writers]
    assert count(house) == sum(commits)
    assert min(commits) > max(commits) / 2, commits


def test_a_checkpoint_loses_nothing(house) -> None:
    with house.write() as tx:
        add_one(tx)
    house.database.checkpoint()
    assert count(house) == 1
    assert house.database.sizes()["database"] > 0


def test_the_file_is_laid_out_as_the_design_says(house) -> None:
    pragmas = {
        name: next(iter(house.database.read(f"PRAGMA {name}")[0].values()))
        for name in ("journal_mode", "auto_vacuum", "foreign_keys")
    }
    assert pragmas == {"journal_mode": "wal", "auto_vacuum": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    ("durability", "durable", "level"),
    [("power", True, 2), ("power", False, 1), ("process", True, 1)],
)
def test_a_commit_waits_for_the_disk_where_it_was_asked_to(
    open_house, durability: str, durable: bool, level: int
) -> None:
    house = open_house(ROOST_DURABILITY=durability)
    with house.write(durable=durable):
        pass
    assert house.database.read("PRAGMA synchronous") == [{"synchronous": level}]


def test_the_database_can_be_closed_and_the_home_opened_again(open_house) -> None:
    first = open_house()
    with first.write() as tx:
        add_one(tx)
    first.broker.close()
    assert count(open_house()) == 1


def test_opening_is_safe_from_many_processes_at_once(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from broker import open_broker\n"
        "from broker.settings import load\n"
        "home = Path(sys.argv[1]); sys.stdin.readline()\n"
        "open_broker(load({'ROOST_HOME': str(home)}, home.parent)).close()\n"
    )
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "home")],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [opener.communicate("go\n", timeout=30) for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4, ended


def test_instants_are_microseconds_and_go_forward() -> None:
    assert 1_700_000_000_000_000 < now_us() <= now_us()
