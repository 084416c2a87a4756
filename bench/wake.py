"""How soon a hint starts a task in another process, how fast a backlog drains, and what
waiting costs: our queue, Huey on SQLite as it comes, Huey on Redis, in one run.

Every system has two consumer processes of one thread each, started by `huey_consumer`
with the same options. Nothing outlives the run and nothing is written outside a
temporary directory, but for one list in Redis under a name of its own, deleted at the
end.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from measure import (
    BIN,
    ROOT,
    idle_percent,
    median,
    percentile,
    print_table,
    shuffled,
    started,
    verdict,
    wait_until,
)

ROUNDS: Final = 5
WAKES_A_ROUND: Final = 40
GAP_SECONDS: Final = (0.03, 0.09)
BACKLOG: Final = 2_000
CONSUMERS: Final = 2
IDLE_SECONDS: Final = 10.0
OPTIONS: Final = ["--workers", "1", "--no-periodic", "--simple", "--quiet"]
NAMES: Final = {
    "ours": "Roost",
    "redis": "Huey on Redis",
    "sqlite": "Huey on SQLite, as it comes",
}


@dataclass(slots=True)
class Results:
    """What the rounds of one system gave."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    drained_per_second: list[float] = field(default_factory=list)
    enqueued_per_second: list[float] = field(default_factory=list)
    idle_percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A queue, its consumer processes, and the file in which starts are noted."""

    queue: Any
    pids: list[int]
    starts: Path
    let_go: Path

    def wake(self, results: Results) -> None:
        """Enqueue one at a time, with gaps, and note how long each took to start."""
        sent = {}
        begin = self._mark()
        for number in range(WAKES_A_ROUND):
            time.sleep(random.uniform(*GAP_SECONDS))
            sent[f"wake-{number}"] = time.monotonic_ns()
            self.queue.hint(f"wake-{number}")
        began = self._wait_for(begin, WAKES_A_ROUND)
        took_ms = [(began[id] - at) / 1e6 for id, at in sent.items()]
        results.p50_ms.append(percentile(took_ms, 0.5))
        results.p99_ms.append(percentile(took_ms, 0.99))

    def drain(self, results: Results) -> None:
        """Fill the queue while every consumer is held, then let them go."""
        self._hold_all()
        begin = self._mark()
        at = time.monotonic()
        for number in range(BACKLOG):
            self.queue.hint(f"drain-{number}")
        results.enqueued_per_second.append(BACKLOG / (time.monotonic() - at))
        self.let_go.touch()
        began = self._wait_for(begin, BACKLOG).values()
        seconds = (max(began) - min(began)) / 1e9
        results.drained_per_second.append(BACKLOG / seconds)

    def _hold_all(self) -> None:
        self.let_go.unlink(missing_ok=True)
        begin = self._mark()
        for number in range(len(self.pids)):
            self.queue.hint(f"hold-{number}")
        self._wait_for(begin, len(self.pids))

    def _mark(self) -> int:
        return self.starts.stat().st_size if self.starts.exists() else 0

    def _wait_for(self, begin: int, count: int) -> dict[str, int]:
        """Return id → nanoseconds of the starts noted behind a mark."""
        wait_until(lambda: len(self._noted(begin)) >= count)
        lines = (line.split() for line in self._noted(begin))
        return {id.decode(): int(ns) for id, ns in lines}

    def _noted(self, begin: int) -> list[bytes]:
        with self.starts.open("rb") as file:
            file.seek(begin)
            return file.read().splitlines()


def main() -> None:
    """Measure in shuffled rounds, then print."""
    results = {name: Results() for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="roost-wake-") as directory:
        environ = {
            "BENCH_DIRECTORY": directory,
            "BENCH_REDIS_NAME": f"roost-bench-{os.getpid()}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}",
        }
        os.environ.update(environ)
        import consumers

        _require_redis(consumers)
        with ExitStack() as stack:
            stack.callback(consumers.redis.storage.flush_all)
            systems = {
                name: _start(stack, name, consumers, Path(directory)) for name in NAMES
            }
            for name in shuffled([*NAMES], ROUNDS):
                systems[name].wake(results[name])
                systems[name].drain(results[name])
            pids = {name: system.pids for name, system in systems.items()}
            for name, percent in idle_percent(pids, IDLE_SECONDS).items():
                results[name].idle_percent = percent
    _print(results)


def _require_redis(consumers: ModuleType) -> None:
    try:
        consumers.redis.storage.conn.ping()
    except Exception as error:  # noqa: BLE001 (redis has a family of its own)
        sys.exit(f"wake: no Redis answers at 127.0.0.1:6379: {error}")


def _start(stack: ExitStack, name: str, consumers: ModuleType, where: Path) -> System:
    command = [BIN / "huey_consumer", f"consumers.{name}", *OPTIONS]
    processes = [
        stack.enter_context(started(command, {}, where / f"{name}.log"))
        for _ in range(CONSUMERS)
    ]
    system = System(
        queue=getattr(consumers, name),
        pids=[process.pid for process in processes],
        starts=where / "starts",
        let_go=where / "let-go",
    )
    system.drain(Results())  # warms up: it waits until every consumer takes something
    return system


def _print(results: dict[str, Results]) -> None:
    rows = []
    for name, title in NAMES.items():
        each = results[name]
        rows.append(
            (
                title,
                f"{median(each.p50_ms):.2f}",
                f"{median(each.p99_ms):.2f}",
                f"{median(each.drained_per_second):,.0f}",
                f"{median(each.enqueued_per_second):,.0f}",
                f"{each.idle_percent:.2f}",
            )
        )
    head = ("", "p50 ms", "p99 ms", "drained/s", "enqueued/s", "idle CPU %")
    print_table(f"Enqueue → start, median of {ROUNDS} rounds", head, rows)
    _print_ratios(results)


def _print_ratios(results: dict[str, Results]) -> None:
    ours, redis, sqlite = (results[name] for name in ("ours", "redis", "sqlite"))

    def ratio(name: str, peer: Results) -> float:
        return median(getattr(ours, name)) / median(getattr(peer, name))

    judged = [
        ("p50 ÷ Huey on Redis", ratio("p50_ms", redis), "≤", 0.7),
        ("p99 ÷ Huey on Redis", ratio("p99_ms", redis), "≤", 1.5),
        ("p50 ÷ Huey on SQLite", ratio("p50_ms", sqlite), "≤", 0.05),
        ("drained ÷ Huey on Redis", ratio("drained_per_second", redis), "≥", 2.0),
        ("drained ÷ Huey on SQLite", ratio("drained_per_second", sqlite), "≥", 1.0),
        ("enqueued ÷ Huey on Redis", ratio("enqueued_per_second", redis), "≥", 1.3),
        ("idle CPU of a consumer, %", ours.idle_percent, "≤", 0.5),
    ]
    rows = [
        (name, f"{got:.2f}", f"{sign} {bar}", verdict(got, bar, at_most=sign == "≤"))
        for name, got, sign, bar in judged
    ]
    print_table("Ours against theirs", ("", "measured", "target", ""), rows)


if __name__ == "__main__":
    main()
