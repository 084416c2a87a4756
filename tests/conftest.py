"""What tests share: a home of their own, the real services, waiting on a condition.

Where the environment variable CI is set, a skipped test is a failed test.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import redis

from broker import Broker, agents, open_broker, steering, tasks, turns
from broker.agents import AgentChange
from broker.database import Database, Row
from broker.events import EventFilter, list_after
from broker.leases import Worker
from broker.settings import load
from broker.tasks import NewTask
from broker.turns import Message, Posted, Reply, Turn

DEADLINE_SECONDS: Final = 10.0  # how long a test waits for what has to happen
REDIS: Final = "redis://127.0.0.1:6379"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI, where everything is installed."""
    report = yield
    may_skip = hasattr(report, "wasxfail") or item.get_closest_marker("outside")
    if report.skipped and os.environ.get("CI") and not may_skip:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report


def _wait_until(
    holds: Callable[[], Any], within_seconds: float = DEADLINE_SECONDS
) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()
    return value


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Look until a condition holds; return its value, or fail after the deadline."""
    return _wait_until


@dataclass(slots=True)
class House:
    """An open home, with short words for what tests do in it.

    `hints` are the tasks hinted so far, in order. `environ` opens the same home in
    another process.
    """

    broker: Broker
    environ: dict[str, str]
    hints: list[str] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.broker.database

    @property
    def write(self) -> Any:
        return self.broker.database.write

    def agent(self, id: str = "scout", **change: Any) -> str:
        with self.write() as tx:
            return agents.upsert(tx, id, AgentChange(**change))[0]

    def post(self, text: str = "hello", to: str = "scout", **more: Any) -> Posted:
        with self.write() as tx:
            return turns.post(tx, to, Message(text=text, **more))

    def claim_turn(self, id: str, by: str = "worker-1", **lease: Any) -> Turn | None:
        with self.write() as tx:
            return turns.claim(tx, id, Worker(owner=by, **lease))

    def take_turn(self, text: str = "hello", **message: Any) -> Turn:
        """Post a message and claim its turn."""
        turn = self.claim_turn(self.post(text, **message).turn_id)
        assert turn is not None
        return turn

    def complete(self, turn: Turn, text: str = "done") -> None:
        with self.write() as tx:
            steering.complete(tx, turn, Reply(text=text, usage={}))

    def create(self, type: str = "exec", **more: Any) -> Row:
        with self.write() as tx:
            return tasks.create(tx, NewTask(type=type, payload={}, **more))[0]

    def claim(self, id: str, by: str = "worker-1", **lease: Any) -> Row | None:
        with self.write() as tx:
            return tasks.claim(tx, id, Worker(owner=by, **lease))

    def task(self, id: str) -> Row:
        return tasks.get(self.database, id)

    def status(self, id: str) -> str:
        return str(self.task(id)["status"])

    def state(self, agent_id: str = "scout") -> str:
        return str(agents.get(self.database, agent_id)["state"])

    def events(self, after: int = 0, **wanted: str) -> list[Row]:
        found: list[Row] = []
        while page := list_after(self.database, EventFilter(**wanted), after=after):
            found += page
            after = page[-1]["id"]
        return found

    def kinds(self, agent_id: str = "scout") -> list[str]:
        return [event["kind"] for event in self.events(scope=f"agent/{agent_id}")]


def _open_house(home: Path, **environ: str) -> House:
    given = {"ROOST_HOME": str(home), "ROOST_DURABILITY": "process", **environ}
    house = House(open_broker(load(given, cwd=home.parent)), given)
    house.database.hint = lambda type, id: house.hints.append(id)
    return house


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Open (and close again) homes: on SQLite unless the environment says otherwise."""
    opened: list[House] = []

    def open_one(home: Path | None = None, **environ: str) -> House:
        opened.append(_open_house(home or tmp_path / "home", **environ))
        return opened[-1]

    yield open_one
    for house in opened:
        house.broker.close()


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    """A home on SQLite."""
    return open_house()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of this run's own; skips where no PostgreSQL answers."""
    name = f"roost_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    try:
        server = psycopg.connect("dbname=postgres connect_timeout=3", autocommit=True)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL answers: {error}")
    with server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"postgresql:///{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url() -> Iterator[str]:
    """An empty Redis database, emptied again; skips where no Redis answers."""
    for number in range(15, 8, -1):
        with redis.Redis.from_url(f"{REDIS}/{number}") as client:
            try:
                is_empty = client.dbsize() == 0
            except redis.ConnectionError as error:
                pytest.skip(f"no Redis answers: {error}")
            if is_empty:
                yield f"{REDIS}/{number}"
                client.flushdb()
                return
    pytest.skip("every Redis database from 9 to 15 has something in it")
