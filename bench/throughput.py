"""Turns per second with 1, 2 and 4 worker processes, beside the same no-op through
Celery on Redis, Huey on Redis and DBOS on SQLite in the same run; and what a turn costs
in a database of 1,000, 100,000 and 1,000,000 events.

The model is scripted and answers at once. A turn of ours is a message, a claim, a model
call journalled before and after, a reply and an end; a task of Celery or Huey is a
message that is forgotten when it is taken; a workflow of DBOS is one durable step. So
the ratios say what durability costs, and DBOS is the one to compare with.

The peers live in an environment of their own, made for the run; one that cannot be
installed is skipped, and said so. Nothing is written outside a temporary directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent))

import redis
from measure import (
    BIN,
    ROOT,
    median,
    print_table,
    shuffled,
    started,
    verdict,
    wait_until,
)

from agents.models.scripted import ScriptedModel
from broker import Broker, agents, open_broker, turns
from broker.agents import AgentChange
from broker.leases import Worker
from broker.settings import load
from broker.turns import Message
from workers.batcher import Batcher
from workers.keeper import Keeper
from workers.process import set_up_logging
from workers.turns import TurnTaker

PROCESSES: Final = (1, 2, 4)
ROUNDS: Final = 3
AGENTS: Final = 64
# So many that each takes a second or two: the fast ones need more.
COUNTS: Final = {
    "Roost, power": 400,
    "Roost, process": 400,
    "DBOS on SQLite": 200,
    "Huey on Redis": 3000,
    "Celery on Redis": 3000,
}
PEERS: Final = {
    "DBOS on SQLite": ["dbos"],
    "Huey on Redis": ["huey[redis]"],
    "Celery on Redis": ["celery[redis]", "packaging"],
}
INSTALL_SECONDS: Final = 90
START_SECONDS: Final = 30
REDIS: Final = "redis://127.0.0.1:6379"
EVENTS: Final = (1_000, 100_000, 1_000_000)
EVENTS_A_TURN: Final = 10  # what a turn of two model calls and a tool leaves
COST_ROUNDS: Final = 9
TURNS_A_ROUND: Final = 40
COST_TARGET: Final = 1.2
SCRIPT: Final = [{"when": {"contains": "go"}, "text": "done"}]
PROCFILE: Final = {
    name: command
    for name, _, command in (
        line.partition(": ") for line in (ROOT / "Procfile").read_text().splitlines()
    )
}


def main() -> None:
    """Measure both, then print."""
    set_up_logging()
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-")))
        url = _free_redis(stack)
        python = where / "peers" / "bin" / "python"
        systems = ["Roost, power", "Roost, process", *_install(where / "peers", url)]
        rates: dict[tuple[str, int], list[float]] = {}
        for count in PROCESSES:
            for name in shuffled(systems, ROUNDS):
                run = Path(tempfile.mkdtemp(dir=where))
                if name in PEERS:
                    rate = Peer(name, run, python, str(url)).rate(count)
                else:
                    rate = _our_rate(run, name.partition(", ")[2], count)
                rates.setdefault((name, count), []).append(rate)
        _print_rates(systems, {key: median(found) for key, found in rates.items()})
        _print_costs(_costs(where))


def _free_redis(stack: ExitStack) -> str | None:
    """Find an empty Redis database; it is emptied again afterwards."""
    for number in range(15, 8, -1):
        client = stack.enter_context(redis.Redis.from_url(f"{REDIS}/{number}"))
        try:
            if client.dbsize() == 0:
                stack.callback(client.flushdb)
                return f"{REDIS}/{number}"
        except redis.ConnectionError as error:
            print(f"No Redis answers, so nothing is measured on it: {error}")
            return None
    print("Every Redis database from 9 to 15 is in use, so nothing is measured on it.")
    return None


def _install(directory: Path, redis_url: str | None) -> list[str]:
    """Install each peer; return those that are there."""
    venv.create(directory, with_pip=True)
    installed = []
    for name, packages in PEERS.items():
        if redis_url is None and "Redis" in name:
            continue
        ended = subprocess.run(
            [directory / "bin/python", "-m", "pip", "install", "--quiet", *packages],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
        if ended.returncode == 0:
            installed.append(name)
        else:
            print(f"{name} is skipped: {packages[0]} cannot be installed here.")
            print(ended.stderr.strip().rpartition("\n")[2])
    return installed


@dataclass(frozen=True, slots=True, kw_only=False)
class Peer:
    """One other system, in a directory of this measurement."""

    name: str
    directory: Path
    python: Path
    redis_url: str

    def rate(self, processes: int) -> float:
        """No-ops per second, from the first one sent to the last one done."""
        wanted = COUNTS[self.name]
        with self._workers(processes):
            self._send(processes)  # whoever is not up yet is, when these are done
            wait_until(lambda: len(self._ends()) >= processes, START_SECONDS)
            began = self._send(wanted)
            wait_until(lambda: len(self._ends()) >= processes + wanted, START_SECONDS)
            return wanted / (max(self._ends()) - began)

    @contextmanager
    def _workers(self, processes: int) -> Iterator[None]:
        bin, n = self.python.parent, str(processes)
        celery = ["--pool", "prefork", "--concurrency", n, "--loglevel", "ERROR"]
        commands: dict[str, list[list[str | Path]]] = {
            "DBOS on SQLite": [[*self._main, "serve"]] * processes,
            "Huey on Redis": [
                [bin / "huey_consumer", "peers.app", "-k", "process", "-w", n, "-q"]
            ],
            "Celery on Redis": [
                [bin / "celery", "--app", "peers", "--quiet", "worker", *celery]
            ],
        }
        with ExitStack() as stack:
            for command in commands[self.name]:
                log = self.directory / "log"
                stack.enter_context(started(command, self._environ(), log))
            if self.name == "DBOS on SQLite":
                ready = self.directory.glob
                wait_until(lambda: len([*ready("ready-*")]) == processes, START_SECONDS)
            yield

    @property
    def _main(self) -> list[str | Path]:
        # As an imported module: tasks are known by the name of theirs.
        code = "import sys, peers; peers.main(*sys.argv[1:])"
        return [self.python, "-c", code]

    def _environ(self) -> dict[str, str]:
        short = {"DBOS on SQLite": "dbos", "Huey on Redis": "huey"}
        return {
            "BENCH_PEER": short.get(self.name, "celery"),
            "BENCH_DIRECTORY": str(self.directory),
            "BENCH_REDIS_URL": self.redis_url,
            "PYTHONPATH": str(Path(__file__).parent),
        }

    def _send(self, count: int) -> float:
        """Queue so many; return when the first was."""
        ended = subprocess.run(
            [*self._main, "send", str(count)],
            env={**os.environ, **self._environ()},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=START_SECONDS,
        )
        return float(ended.stdout)

    def _ends(self) -> list[float]:
        path = self.directory / "ends"
        return (
            [float(line) for line in path.read_text().split()] if path.exists() else []
        )


def _our_rate(directory: Path, durability: str, processes: int) -> float:
    """Turns per second, from the first message sent to the last turn's end."""
    wanted = COUNTS[f"Roost, {durability}"]
    script = directory / "script.json"
    script.write_text(json.dumps(SCRIPT))
    environ = {
        "ROOST_HOME": str(directory / "home"),
        "ROOST_DURABILITY": durability,
        "ROOST_MODEL": f"scripted/{script}",
        "ROOST_DATABASE_URL": "",
        "ROOST_QUEUE_URL": "",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    broker = open_broker(load(environ, directory))
    with ExitStack() as stack:
        stack.callback(broker.close)
        for _ in range(processes):
            command = ["/bin/sh", "-c", PROCFILE["agents"]]
            stack.enter_context(started(command, environ, directory / "log"))
        sql = "SELECT 1 AS x FROM processes WHERE kind = 'agents'"
        wait_until(lambda: len(broker.database.read(sql)) == processes, START_SECONDS)
        with broker.database.write() as tx:
            for number in range(AGENTS):
                agents.upsert(tx, f"agent-{number}", AgentChange())
        _send(broker, AGENTS)  # each agent's first turn also freezes its prompt
        _wait_for_turns(broker, AGENTS)
        began = time.time()
        _send(broker, wanted)
        _wait_for_turns(broker, AGENTS + wanted)
        row = broker.database.read("SELECT MAX(finished_at) AS at FROM tasks")[0]
        return wanted / (row["at"] / 1e6 - began)


def _send(broker: Broker, count: int) -> None:
    for number in range(count):
        with broker.database.write() as tx:
            turns.post(tx, f"agent-{number % AGENTS}", Message(text="go"))


def _wait_for_turns(broker: Broker, count: int) -> None:
    sql = "SELECT COUNT(*) AS n FROM tasks WHERE status = 'completed'"
    wait_until(lambda: broker.database.read(sql)[0]["n"] >= count, START_SECONDS)


def _print_rates(systems: list[str], rates: dict[tuple[str, int], float]) -> None:
    floor = "DBOS on SQLite" if "DBOS on SQLite" in systems else "Roost, power"
    head = ["per second, worker processes:", *map(str, PROCESSES)]
    head += [f"x {floor}, {count}" for count in PROCESSES]
    rows = [
        [name, *(f"{rates[name, count]:,.0f}" for count in PROCESSES)]
        + [f"{rates[name, count] / rates[floor, count]:.2f}" for count in PROCESSES]
        for name in systems
    ]
    print_table("Turns of ours, no-ops of theirs", head, rows)


# What a turn costs as the database grows.


def _costs(where: Path) -> dict[int, float]:
    """Return the median milliseconds of a turn, by events in the database."""
    with ExitStack() as stack:
        takers = {}
        for events in EVENTS:
            home = where / f"events-{events}"
            environ = {"ROOST_HOME": str(home), "ROOST_DURABILITY": "process"}
            broker = open_broker(load(environ, where))
            stack.callback(broker.close)
            _fill(broker, events)
            takers[events] = _taker(broker)
        took_ms: dict[int, list[float]] = {events: [] for events in EVENTS}
        for name in shuffled([str(events) for events in EVENTS], COST_ROUNDS + 1):
            took_ms[int(name)].append(_turn_ms(takers[int(name)]))
    # The first round warms what a worker has warm.
    return {events: median(found[1:]) for events, found in took_ms.items()}


def _taker(broker: Broker) -> TurnTaker:
    worker = Worker(owner="bench", lease_seconds=600)
    model = ScriptedModel(SCRIPT)
    return TurnTaker(
        broker=broker,
        worker=worker,
        keeper=Keeper(broker, worker, threading.Event()),
        batcher=Batcher(),
        default_model=None,
        find_model=lambda _: model,
    )


def _turn_ms(taker: TurnTaker) -> float:
    """Take turns in one thread, message to end; return what one took."""
    database = taker.broker.database
    began = time.perf_counter()
    for number in range(TURNS_A_ROUND):
        with database.write() as tx:
            message = Message(text="go")
            posted = turns.post(tx, f"agent-{number % AGENTS}", message)
        taker.take(str(posted.turn_id))
    return 1000 * (time.perf_counter() - began) / TURNS_A_ROUND


def _fill(broker: Broker, events: int) -> None:
    """Write the past: events, and the turns, steps, updates and entries behind them.

    In batches of one statement each, with SQLite counting; every agent has its share.
    """
    with broker.database.write() as tx:
        for number in range(AGENTS):
            agents.upsert(tx, f"agent-{number}", AgentChange())
    for table, rows_a_turn, columns, values in _PAST:
        rows = events // EVENTS_A_TURN * rows_a_turn
        for first in range(0, rows, 100_000):
            last = min(first + 100_000, rows) - 1
            with broker.database.write(durable=False) as tx:
                tx.execute(
                    "WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL"
                    " SELECT n + 1 FROM numbers WHERE n < ?)"
                    f" INSERT INTO {table} ({columns}) SELECT {values} FROM numbers",
                    first,
                    last,
                )
    broker.database.truncate_log()


_TURN: Final = "'past-' || (n / {})"
_AGENT: Final = f"'agent-' || (n / {{}} % {AGENTS})"
_PAST: Final = (
    (
        "events",
        EVENTS_A_TURN,
        "stream, scope, subject, kind, priority, body, payload, hop, created_at",
        f"'task_output', 'agent/' || {_AGENT.format(10)}, {_TURN.format(10)},"
        " 'message_update', 'normal', '', '{\"text\":\"' || hex(zeroblob(60)) || '\"}',"
        " 0, n",
    ),
    (
        "tasks",
        1,
        "id, type, status, agent_id, payload, metadata, rank, attempts, crashes, epoch,"
        " created_at, updated_at, started_at, finished_at",
        f"{_TURN.format(1)}, 'turn', 'completed', {_AGENT.format(1)}, '{{}}', '{{}}',"
        " 1, 1, 0, 1, n, n, n, n",
    ),
    (
        "updates",
        3,
        "task_id, kind, payload, created_at",
        f"{_TURN.format(3)}, 'started', '{{\"epoch\":1}}', n",
    ),
    (
        "steps",
        3,
        "task_id, number, kind, name, status, attempts, created_at",
        f"{_TURN.format(3)}, n % 3 + 1, 'model', 'scripted', 'succeeded', 1, n",
    ),
    (
        "entries",
        3,
        "agent_id, generation, type, role, content, turn_id, data, created_at",
        f"{_AGENT.format(3)}, 0, 'user_message', 'user',"
        ' \'[{"type":"text","text":"\' || hex(zeroblob(60)) || \'"}]\','
        f" {_TURN.format(3)}, NULL, n",
    ),
    (
        "marks",
        1,
        "reader, event_id, rank, turn_id, read_at",
        f"{_AGENT.format(1)}, n * 10 + 1, 1, {_TURN.format(1)}, n",
    ),
)


def _print_costs(costs: dict[int, float]) -> None:
    smallest = costs[EVENTS[0]]
    rows = [
        [f"{events:,}", f"{ms:.2f}", f"{ms / smallest:.2f}"]
        for events, ms in costs.items()
    ]
    print_table("A turn by the age of its database", ["events", "ms", "ratio"], rows)
    ratio = costs[EVENTS[-1]] / smallest
    said = verdict(ratio, COST_TARGET, at_most=True)
    print(f"\n  a turn at 1,000,000 events: {ratio:.2f} of one at 1,000 ({said})")


if __name__ == "__main__":
    main()
