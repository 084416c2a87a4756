"""The doorbell: no ring is lost, and nobody who waits is forgotten."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from broker.doorbell import UnixBells

ROUNDS: Final = 2_000
ROUNDS_SECONDS: Final = 30.0


@pytest.fixture
def bells(tmp_path: Path) -> Iterator[UnixBells]:
    """Bells of one home."""
    bells = UnixBells(tmp_path / "run")
    yield bells
    bells.close()


def sockets(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.bell"))


def test_no_ring_is_lost_between_two_processes(house, child) -> None:
    bell = house.broker.bells.listen("pong")
    other = child("pong.py", json.dumps(house.environ), ROUNDS)
    assert other.stdout.readline() == "ready\n"
    lost, began = 0, time.monotonic()
    for number in range(1, ROUNDS + 1):
        seen = bell.generation
        with house.write(durable=False) as tx:
            tx.execute(
                "INSERT INTO counters (prefix, value) VALUES ('ping', ?) ON CONFLICT"
                " (prefix) DO UPDATE SET value = excluded.value",
                number,
            )
            tx.ring("ping")
        while answered(house) < number:
            lost += not bell.wait(seen, 1.0)
            seen = bell.generation
    took = time.monotonic() - began
    lost += int(other.communicate(timeout=10)[0])
    assert lost == 0
    assert took < ROUNDS_SECONDS


def answered(house) -> int:
    row = house.database.read_one("SELECT value FROM counters WHERE prefix = 'pong'")
    return row["value"] if row else 0


def test_a_ring_before_the_wait_is_heard(bells: UnixBells) -> None:
    bell = bells.listen("a")
    seen = bell.generation
    bells.ring("a")
    assert bell.wait(seen, 5)
    assert bell.generation == seen + 1


def test_a_wait_without_a_ring_ends_with_its_time(bells: UnixBells) -> None:
    bell = bells.listen("a")
    began = time.monotonic()
    assert not bell.wait(bell.generation, 0.05)
    assert 0.05 <= time.monotonic() - began < 2


def test_a_channel_hears_only_its_own_rings(bells: UnixBells) -> None:
    one, other = bells.listen("queue.a"), bells.listen("queue.b")
    bells.ring("queue.a")
    assert one.wait(0, 5)
    assert not other.wait(0, 0.05)


def test_every_listener_of_a_channel_hears_a_ring(bells: UnixBells) -> None:
    listeners = [bells.listen("a") for _ in range(3)]
    bells.ring("a")
    assert [bell.wait(0, 5) for bell in listeners] == [True, True, True]


def test_a_listener_that_came_this_instant_is_heard_of(bells: UnixBells) -> None:
    # The directory's time stamp is coarse: the list of listeners may not trust it yet.
    for number in range(50):
        bells.ring(f"c{number}")
        bell = bells.listen(f"c{number}")
        bells.ring(f"c{number}")
        assert bell.wait(0, 0.5), number


def test_many_rings_that_nobody_drains_neither_block_nor_fail(bells: UnixBells) -> None:
    bell = bells.listen("a")
    for _ in range(1_000):
        bells.ring("a")
    assert bell.wait(0, 5)
    assert not bell.wait(bell.generation, 0.05)


def test_a_ring_wakes_every_thread_that_waits(bells: UnixBells) -> None:
    bell = bells.listen("a")
    with ThreadPoolExecutor(6) as pool:
        waits = [pool.submit(bell.wait, 0, 10) for _ in range(6)]
        bells.ring("a")
        assert [wait.result(5) for wait in waits] == [True] * 6


def test_a_bell_that_wakes_one_passes_on_to_the_next(bells: UnixBells) -> None:
    bell = bells.listen("a", wake_all=False)
    jobs, taken, lock = [1, 2, 3], [], threading.Lock()

    def work() -> None:
        while True:
            seen = bell.generation
            with lock:
                if jobs:
                    taken.append(jobs.pop())
                    bell.nudge()  # there may be more behind the one ring
                    return
            if not bell.wait(seen, 8):
                return

    jobs_to_come, jobs[:] = list(jobs), []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    with lock:
        jobs += jobs_to_come
    bells.ring("a")  # one ring for three
    for thread in threads:
        thread.join(5)
    assert sorted(taken) == [1, 2, 3]


def test_a_nudge_wakes_one_that_follows(bells: UnixBells, wait_until: Callable) -> None:
    bell = bells.listen("a", wake_all=False)
    returned: list[bool] = []
    threads = [
        threading.Thread(target=lambda: returned.append(bell.wait(0, 8)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()

    def nudged() -> bool:
        bell.nudge()
        return len(returned) == 1

    wait_until(nudged)
    assert returned == [True]
    bell.close()
    for thread in threads:
        thread.join(5)


def test_a_leader_that_goes_hands_the_poll_on(bells: UnixBells) -> None:
    bell = bells.listen("a")
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(bell.wait, 0, 0.05), pool.submit(bell.wait, 0, 10)]
        assert waits[0].result(5) is False
        bells.ring("a")
        assert waits[1].result(5) is True


def test_close_lets_every_waiter_return(bells: UnixBells, tmp_path: Path) -> None:
    bell = bells.listen("a")
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(bell.wait, 0, 60) for _ in range(4)]
        bell.close()
        assert [wait.result(5) for wait in waits] == [False] * 4
    assert not bell.wait(0, 60)
    assert sockets(tmp_path / "run") == []


def test_closing_twice_is_closing_once(bells: UnixBells) -> None:
    bell = bells.listen("a")
    bell.close()
    bell.close()


def test_a_socket_that_its_process_left_behind_is_removed(
    bells: UnixBells, tmp_path: Path
) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with dead:
        dead.bind(str(tmp_path / "run" / "a.99999.0badcafe.bell"))
    living = bells.listen("a")
    bells.ring("a")
    assert living.wait(0, 5)
    assert [name.split(".")[1] for name in sockets(tmp_path / "run")] == [
        str(os.getpid())
    ]


def test_a_ring_that_nobody_listens_for_is_nothing(bells: UnixBells) -> None:
    bells.ring("a")


def test_a_home_with_a_very_long_path_has_bells(open_house, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 12) / "home"
    house = open_house(deep)
    assert len(str(deep)) > 300
    bell = house.broker.bells.listen("a")
    UnixBells.ring(house.broker.bells, "a")
    assert bell.wait(0, 5)
    bell.close()
    assert sockets(deep / "run") == []
