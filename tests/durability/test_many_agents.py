"""200 agents write to one another, and a worker is killed: it ends quiet, nothing is
lost, every question is answered once, and every loop is told.

ROOST_CROWD_SEED draws the same crowd again; the moments differ, the promises do not.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from broker import Broker, agents, open_broker, turns
from broker.agents import AgentChange
from broker.database import Row
from broker.settings import load
from broker.together import HOPS_LIMIT, PING_PONG_HOPS
from broker.turns import Message
from tests.durability.chaos import is_quiet
from tests.durability.crowd import PAIRS, Crowd
from tests.durability.supervisor import Supervisor

PROCESSES: Final = {"agents": 2, "scheduler": 1}
# It takes a quarter of that on two processors that do nothing else.
QUIET_SECONDS: Final = 60.0
# How many tasks are over when a worker is killed: somewhere in the middle.
KILL_AFTER_TURNS: Final = (100, 300)


@dataclass(slots=True)
class Run:
    """A crowd in a home with real workers; afterwards, what the database says."""

    crowd: Crowd
    broker: Broker
    supervisor: Supervisor
    posted: list[str] = field(default_factory=list)
    holder_killed: str = ""
    stopped: dict[str, int | None] = field(default_factory=dict)

    def rows(self, sql: str, *params: object) -> list[Row]:
        return self.broker.database.read(sql, *params)

    def go(self) -> None:
        """Have people say what they say, kill a worker, and wait for quiet; then have
        what woke nobody read, too."""
        for line, count in PROCESSES.items():
            for number in range(count):
                self.supervisor.start_one(f"{line}.{number}")
        deadline = time.monotonic() + QUIET_SECONDS
        try:
            self.posted = [self._say(*said) for said in self.crowd.said]
            self._kill_one(deadline)
            self._wait(lambda: is_quiet(self.broker.database), deadline)
            for row in self.rows(
                "SELECT DISTINCT reader FROM marks WHERE turn_id IS NULL"
            ):
                self._say(row["reader"], "what is new?")
            self._wait(lambda: is_quiet(self.broker.database), deadline)
        finally:
            self.stopped = self.supervisor.stop()

    def _say(self, agent_id: str, text: str) -> str:
        with self.broker.database.write() as tx:
            message = Message(text=text, source="people")
            return str(turns.post(tx, agent_id, message).turn_id)

    def _kill_one(self, deadline: float) -> None:
        chosen = random.Random(self.crowd.seed)
        count = chosen.randint(*KILL_AFTER_TURNS)
        name = f"agents.{chosen.randrange(PROCESSES['agents'])}"
        pid = self.supervisor.running[name].pid
        self._wait(lambda: self._over() >= count, deadline)
        self._wait(lambda: self._holds(pid), deadline)
        self.supervisor.kill(name)
        self.supervisor.start_one(name)
        self.holder_killed = name

    def _over(self) -> int:
        sql = "SELECT COUNT(*) AS n FROM tasks WHERE finished_at IS NOT NULL"
        return int(self.rows(sql)[0]["n"])

    def _holds(self, pid: int) -> bool:
        sql = "SELECT 1 AS x FROM tasks WHERE lease_owner LIKE ? LIMIT 1"
        return bool(self.rows(sql, f"%:{pid}:%"))

    def _wait(self, holds: Callable[[], bool], deadline: float) -> None:
        pause = threading.Event()  # never set: a look now and then takes no processor
        while not holds():
            assert time.monotonic() < deadline, self._unfinished()
            pause.wait(0.05)

    def _unfinished(self) -> list[Row]:
        return self.rows(
            "SELECT id, agent_id, status, waiting_for, absorbed_by FROM tasks"
            " WHERE finished_at IS NULL ORDER BY seq LIMIT 20"
        )

    # What the tests look at.

    def inputs(self, kind: str) -> list[Row]:
        sql = "SELECT * FROM events WHERE stream = 'task_input' AND kind = ?"
        return [_read(row) for row in self.rows(f"{sql} ORDER BY id", kind)]

    def loops(self) -> list[Row]:
        sql = "SELECT * FROM events WHERE kind = 'loop_stopped' ORDER BY id"
        return [_read(row) for row in self.rows(sql)]

    def turns(self) -> dict[str, Row]:
        rows = self.rows("SELECT * FROM tasks WHERE type = 'turn'")
        return {row["id"]: row for row in rows}

    def results(self, tool: str | None = None) -> list[Row]:
        """Every result that a model has read, with its text."""
        sql = "SELECT * FROM entries WHERE type = 'tool_result' ORDER BY id"
        found = [row for row in self.rows(sql) if tool in (None, row["tool_name"])]
        return [{**row, "text": json.loads(row["content"])[0]["text"]} for row in found]


def _read(row: Row) -> Row:
    return {**row, "payload": json.loads(row["payload"])}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One run; its seed is printed."""
    given = os.environ.get("ROOST_CROWD_SEED")
    seed = int(given or random.SystemRandom().getrandbits(32))
    directory = tmp_path_factory.mktemp("crowd")
    print(f"ROOST_CROWD_SEED={seed} ({directory})")  # noqa: T201
    crowd = Crowd.draw(seed)
    models = crowd.write_scripts(directory / "scripts")
    home = directory / "home"
    environ = {"ROOST_MODEL": models["children"]}
    supervisor = Supervisor(home, 18_090, environ)
    supervisor.start({})
    broker = open_broker(load({"ROOST_HOME": str(home)}, directory))
    with broker.database.write() as tx:
        for agent_id in crowd.people_make:
            agents.upsert(tx, agent_id, AgentChange(model=models[agent_id]))
    run = Run(crowd=crowd, broker=broker, supervisor=supervisor)
    began = time.monotonic()
    run.go()
    print(f"{time.monotonic() - began:.1f} s, {len(run.turns())} turns")  # noqa: T201
    yield run
    broker.close()


def test_it_ends_quiet_although_a_worker_was_killed(run: Run) -> None:
    assert len(run.crowd.people_make) == 200
    assert run.holder_killed in ("agents.0", "agents.1")
    statuses = {row["status"] for row in run.turns().values()}
    assert statuses == {"completed", "failed"}
    held = "lease_owner IS NOT NULL OR finished_at IS NULL"
    assert run.rows(f"SELECT id FROM tasks WHERE {held}") == []
    assert run.rows("SELECT * FROM waits") == []
    assert run.rows("SELECT id, state FROM agents WHERE state <> 'idle'") == []


def test_only_what_was_to_fail_has_failed(run: Run) -> None:
    failed = [row for row in run.turns().values() if row["status"] == "failed"]
    reasons = {
        json.loads(row["error"])["message"].partition(" for")[0] for row in failed
    }
    assert reasons == {"No key"}


def test_what_people_said_is_answered(run: Run) -> None:
    found = run.turns()
    ends = [found[id] for id in run.posted]
    assert len(set(run.posted)) == len(run.crowd.said)
    assert all(row["result"] or row["error"] for row in ends)


def test_every_message_is_read_by_exactly_one_turn(run: Run) -> None:
    """What a turn had taken in and could not answer is read by its own turn, too."""
    found = run.turns()
    readers = _readers(run)
    marks = defaultdict(list)
    for mark in run.rows("SELECT * FROM marks"):
        marks[mark["event_id"]].append(mark)
    for event in [*run.inputs("message"), *run.inputs("reply")]:
        (mark,) = marks[event["id"]]
        assert f"agent/{mark['reader']}" == event["scope"]
        turn = found[mark["turn_id"]]
        # The inputs of a dead letter stay with it.
        assert (mark["read_at"] is None) == (turn["status"] == "failed"), event
        by = readers[event["id"]]
        assert by[turn["id"]] == 1
        others = [found[id]["status"] for id in by if id != turn["id"]]
        assert set(others) <= {"failed"}, event


def _readers(run: Run) -> dict[int, Counter[str]]:
    """How often each event stands in the conversation of each turn."""
    readers: dict[int, Counter[str]] = defaultdict(Counter)
    types = "('user_message', 'wake')"
    for entry in run.rows(f"SELECT * FROM entries WHERE type IN {types}"):
        for id in json.loads(entry["data"])["event_ids"]:
            readers[id][entry["turn_id"]] += 1
    return readers


def test_every_question_is_answered_once_to_whoever_asked(run: Run) -> None:
    """By a message, or as the result of the wait for its turn."""
    own = {row["cause_id"]: row["id"] for row in run.turns().values()}
    awaited = Counter(
        (each["agent_id"], json.loads(each["text"])["task_id"])
        for each in run.results("delegate")
        if '"status": "completed"' in each["text"]
        or '"status": "failed"' in each["text"]
    )
    replies = Counter(
        (row["cause_id"], row["scope"], row["payload"]["request_id"])
        for row in run.inputs("reply")
    )
    questions = [e for e in run.inputs("message") if e["source"] != "people"]
    answered = {
        event["id"]: awaited[event["source"].removeprefix("agent/"), own[event["id"]]]
        + replies[event["id"], event["source"], event["payload"]["request_id"]]
        for event in questions
    }
    assert answered == dict.fromkeys(answered, 1)
    assert sum(awaited.values()) + sum(replies.values()) == len(questions)
    assert awaited
    assert any(row["payload"].get("failed") for row in run.inputs("reply"))


def test_every_loop_was_stopped_and_is_told_with_its_chain(run: Run) -> None:
    told = [set(loop["payload"]["agents"]) for loop in run.loops()]
    assert [group for group in run.crowd.pairs if group not in told] == []
    assert [group for group in run.crowd.rings if group not in told] == []
    events = {row["id"]: row for row in run.rows("SELECT * FROM events")}
    for loop in run.loops():
        chain = [events[id] for id in loop["payload"]["chain"]]
        causes = [event["cause_id"] for event in chain]
        assert causes == [None, *(event["id"] for event in chain[:-1])]
        assert chain[0]["source"] == "people"
        assert loop["payload"]["hops"] > PING_PONG_HOPS


def test_no_chain_is_longer_than_its_limit(run: Run) -> None:
    assert max(event["hop"] for event in run.inputs("message")) == HOPS_LIMIT
    pings: dict[str, list[int]] = defaultdict(list)
    for event in run.inputs("message"):
        if event["body"] == "ping":
            pings[event["scope"]].append(event["hop"])
    assert pings == {
        f"agent/ponger-{n}": list(range(1 + n % 2, PING_PONG_HOPS + 1, 2))
        for n in range(PAIRS)
    }


def test_every_refusal_is_told_to_its_model_and_to_people(run: Run) -> None:
    refusals = [r for r in run.results() if "so nothing was sent" in r["text"]]
    told = {(loop["subject"], loop["body"]) for loop in run.loops()}
    assert refusals
    assert {(each["turn_id"], each["text"]) for each in refusals} <= told


def test_every_answer_that_woke_nobody_is_told(run: Run) -> None:
    quiet = [row for row in run.inputs("reply") if row["priority"] == "normal"]
    assert quiet
    turn_of = {m["event_id"]: m["turn_id"] for m in run.rows("SELECT * FROM marks")}
    assert {turn_of[reply["cause_id"]] for reply in quiet} <= {
        loop["subject"] for loop in run.loops()
    }


def test_agents_that_agents_made_have_their_makers(run: Run) -> None:
    rows = run.rows("SELECT id, parent_id FROM agents")
    made = {row["id"]: row["parent_id"] for row in rows}
    assert {id for id in made if made[id]} == made.keys() & run.crowd.children
    assert {id for id in made if not made[id]} == {"scout", *run.crowd.people_make}


def test_nothing_is_left_behind(run: Run) -> None:
    assert None not in run.stopped.values()
    wanted = f"ROOST_HOME={run.supervisor.home}".encode()
    environs = [*Path("/proc").glob("[0-9]*/environ")]
    assert [path for path in environs if _has(path, wanted)] == []


def _has(path: Path, wanted: bytes) -> bool:
    try:
        return wanted in path.read_bytes().split(b"\0")
    except OSError:
        return False


def test_the_database_is_sound(run: Run) -> None:
    assert run.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
