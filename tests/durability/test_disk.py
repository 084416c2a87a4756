"""What turns leave on disk grows with their number, is given back, and slows none."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agents.models.scripted import ScriptedModel
from broker import Broker, agents, events, retention, turns
from broker.agents import AgentChange
from broker.database import Database, Row, SqliteDialect
from broker.doorbell import UnixBells
from broker.leases import Worker
from broker.migrate import migrate
from broker.settings import load
from broker.states import Priority
from broker.turns import Message
from workers.batcher import Batcher
from workers.keeper import Keeper
from workers.turns import TurnTaker

TURNS: Final = 1_000
AGENTS: Final = 20
GROWTH: Final = 2.1
# A whole table (but for what is queued, which has a limit), or all of an agent's tasks.
WALK: Final = re.compile(
    r"SCAN (tasks|events|entries|steps|updates|marks)(?! USING .*INDEX tasks_queued)"
    r"|USING INDEX tasks_agent \(agent_id=\?\)"
)
SCRIPT: Final = [
    {
        "when": {"matches": "^go "},
        "tool_calls": [{"name": "noop", "arguments": {"comment": "nothing to do"}}],
    },
    {"when": {"contains": "idle"}, "text": "There was nothing to do, and it is done."},
]


def _taker(broker: Broker) -> TurnTaker:
    model = ScriptedModel(SCRIPT)
    worker = Worker(owner="worker-1", lease_seconds=600)
    return TurnTaker(
        broker=broker,
        worker=worker,
        keeper=Keeper(broker, worker, threading.Event()),
        batcher=Batcher(),
        default_model=None,
        find_model=lambda _: model,
    )


def _take_turns(house: Any, taker: TurnTaker, count: int) -> int:
    """Send and take so many turns; return the bytes of database and log after them."""
    for number in range(count):
        posted = house.post(f"go {number}", f"agent-{number % AGENTS}")
        taker.take(str(posted.turn_id))
        assert house.status(posted.turn_id) == "completed"
    house.database.truncate_log()
    return _size(house)


def _size(house: Any) -> int:
    return sum(house.database.sizes().values())


def test_two_thousand_turns_take_twice_what_one_thousand_take_and_give_it_back(
    house: Any,
) -> None:
    taker = _taker(house.broker)
    for number in range(AGENTS):
        house.agent(f"agent-{number}")
    empty = _size(house)

    one = _take_turns(house, taker, TURNS) - empty
    two = _take_turns(house, taker, TURNS) - empty
    all_classes = {each.name: 0.0 for each in retention.CLASSES}
    forgotten = {f.name: f.rows for f in retention.forget(house.database, all_classes)}
    kept = _size(house) - empty

    sizes = f"{one / TURNS:.0f} bytes a turn, {two / one:.2f} times, {kept / two:.0%}"
    print(f"{sizes} kept, forgotten: {forgotten}")  # noqa: T201
    assert two <= GROWTH * one
    assert min(forgotten[name] for name in ("events", "steps", "updates")) > 0
    # An agent's history is its memory: that is all that stays.
    assert kept < 0.5 * two


class Listener(Database):
    """The product's database, which also remembers what it was asked."""

    asked: dict[str, None]

    def run(self, sql: str, params: Sequence[object]) -> list[Row]:
        self.__dict__.setdefault("asked", {})[sql] = None
        return super().run(sql, params)


def test_no_statement_of_a_turn_walks_what_grows_with_age(tmp_path: Path) -> None:
    """Each finds its rows by an index that ends at them: a turn of an agent with a
    million behind it costs what its first one did (measured in bench/throughput.py)."""
    settings = load({"ROOST_HOME": str(tmp_path / "home")}, tmp_path)
    bells = UnixBells(settings.run_directory)
    database = Listener(SqliteDialect(settings.database_path, "process"), bells)
    migrate(database, None)
    broker = Broker(settings=settings, database=database, bells=bells)
    with database.write() as tx:
        agents.upsert(tx, "agent-0", AgentChange())
        posted = turns.post(tx, "agent-0", Message(text="go 1"))
    _taker(broker).take(str(posted.turn_id))

    walks = {
        sql: step["detail"]
        for sql in list(database.asked)
        if sql.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        for step in database.read(f"EXPLAIN QUERY PLAN {sql}", *[None] * sql.count("?"))
        if WALK.search(step["detail"])
    }
    broker.close()

    assert len(database.asked) > 20
    assert walks == {}


def test_a_turn_of_an_old_agent_asks_as_much_of_sqlite_as_a_young_one_s(
    house: Any,
) -> None:
    """What an agent has read and done lies in indexes that a plan may well use, from
    one end to the other: only counting the steps of SQLite's machine tells."""
    taker = _taker(house.broker)
    answer = {"when": {"contains": ""}, "text": "done"}
    taker.find_model = lambda _: ScriptedModel([answer])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def counted() -> int:
        nonlocal steps
        id = house.post("go 1").turn_id
        raw = house.database.peewee
        raw.connection().progress(count, 10)
        steps = 0
        try:
            taker.take(id)
        finally:
            raw.connection().progress(None, 0)
        assert house.status(id) == "completed"
        return steps

    house.agent("scout")
    counted()
    young = counted()
    with house.write() as tx:
        for number in range(3_000):
            events.mark_read_by(tx, "scout", number, Priority.WAKE)
            tx.execute(
                "INSERT INTO tasks (id, type, status, agent_id, payload, metadata,"
                " rank, attempts, crashes, epoch, created_at, updated_at, finished_at)"
                " VALUES"
                " (?, 'exec', 'completed', 'scout', '{}', '{}', 2, 1, 0, 1, 0, 0, 0)",
                f"exec-{number + 10}",
            )
        tx.execute("ANALYZE")
    assert young > 100
    counted()
    assert counted() < 1.5 * young
