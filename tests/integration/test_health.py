"""The scheduler tells what runs, as often as it should and no oftener (G73)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from broker import health
from broker.leases import Worker
from broker.processes import identify, register
from workers.batcher import Batcher
from workers.process import WorkerProcess
from workers.scheduler import Scheduler


@pytest.fixture
def process(house) -> WorkerProcess:
    """A scheduler's process in a home in which one exec runs."""
    house.agent()
    house.create(id="mine", agent_id="scout")
    house.claim("mine")
    identity = identify("scheduler")
    with house.write() as tx:
        register(tx, identity)
    return WorkerProcess(
        settings=house.broker.settings,
        broker=house.broker,
        identity=identity,
        worker=Worker(owner=identity.owner),
        batcher=Batcher(),
    )


@pytest.fixture
def schedule() -> Iterator[Any]:
    """Run schedulers until the test is over."""
    running: list[tuple[Scheduler, threading.Thread]] = []

    def start(scheduler: Scheduler) -> None:
        thread = threading.Thread(target=scheduler.run)
        running.append((scheduler, thread))
        thread.start()

    yield start
    for scheduler, thread in running:
        scheduler.stop()
        thread.join()


def told(house: Any) -> list[str]:
    found = house.events(stream="signals", scope="agent/scout")
    return [e["body"] for e in found if e["kind"] == "task_health"]


@pytest.mark.line("G73")
def test_the_scheduler_that_leads_tells_what_runs(
    house, process, schedule, wait_until
) -> None:
    schedule(Scheduler(process, health_seconds=0))
    assert wait_until(lambda: told(house))[0] == "Running: 1."


@pytest.mark.line("G73", "G74")
def test_it_is_told_every_30_seconds_and_not_at_every_tick(
    house, process, schedule, wait_until
) -> None:
    assert health.EVERY_SECONDS == health.SILENT_SECONDS == 30
    house.create(id="unhinted")
    with house.write() as tx:
        tx.execute("UPDATE tasks SET hinted_at = NULL WHERE id = 'unhinted'")
    house.hints.clear()
    schedule(Scheduler(process))
    wait_until(lambda: "unhinted" in house.hints)  # it has ticked
    assert told(house) == []
