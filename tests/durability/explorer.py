"""The crash explorer: kill one turn at every point there is, and look what comes of it.

The first run is not killed: it counts the points. Then, for each point, a fresh home: a
run that dies there, a recovery, and a judgement of all that is in the database and of
all that the world outside has seen.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, Final

from tests.durability.judgement import (
    UNDISTURBED,
    Outcome,
    Point,
    expected_after,
    judge,
)

ROOT: Final = Path(__file__).parents[2]
SIGKILLED: Final = -9


class CountingServer:
    """The world outside: it counts every effect, and knows keys where one is given."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[str, str]]] = {}
        self._lock = threading.Lock()
        count = self._count

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                _, run, what = self.path.split("/")
                times = count(run, what, self.headers.get("Idempotency-Key", ""))
                body = str(times).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The tests' output is not a server's log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def _count(self, run: str, what: str, key: str) -> int:
        with self._lock:
            self._seen.setdefault(run, []).append((what, key))
            return len({k for w, k in self._seen[run] if w == what}) if key else 0

    def requests(self, run: str, what: str) -> list[str]:
        """The keys of all requests for an effect, in order."""
        with self._lock:
            return [key for name, key in self._seen.get(run, []) if name == what]

    def __enter__(self) -> CountingServer:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Nursery:
    """A process that forks workers to order; see one_turn."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir()
        self._log = open(scratch.with_suffix(".log"), "wb")  # noqa: SIM115 (see close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.one_turn", str(scratch)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def order(self, **order: Any) -> dict[str, Any]:
        """Have one order carried out; say how its process ended."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, "the nursery has died; its log says why"
        return dict(json.loads(line))

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)
        self._log.close()


@dataclass(slots=True)
class Explorer:
    """Carries out experiments two at a time, each in a home of its own."""

    directory: Path
    server: CountingServer
    nurseries: Queue[Nursery] = field(default_factory=Queue)

    def reference(self) -> list[Point]:
        """Run the turn without a crash; return its points in order."""
        points, outcome = self._experiment("reference", None)
        assert outcome == UNDISTURBED, outcome
        return points

    def explore(self, points: list[Point], numbers: Iterable[int]) -> list[Outcome]:
        """Die at each of these points (counted from 1), recover, and judge."""
        with ThreadPoolExecutor(self.nurseries.qsize()) as pool:
            return list(pool.map(lambda n: self._die_at(points, n), numbers))

    def _die_at(self, points: list[Point], number: int) -> Outcome:
        reached, outcome = self._experiment(f"dies-at-{number}", number)
        assert reached == points[:number], f"point {number} is not always the same"
        expected = expected_after(reached)
        assert outcome == expected, f"{number}, {points[number - 1]}: {outcome}"
        return outcome

    def die_twice(self, deaths: Iterable[tuple[int, int]]) -> list[Outcome]:
        """Die at a point, and once more in recovery, at that recovery's n-th point."""
        with ThreadPoolExecutor(self.nurseries.qsize()) as pool:
            return list(pool.map(self._die_twice, itertools.count(), deaths))

    def _die_twice(self, experiment: int, deaths: tuple[int, int]) -> Outcome:
        name, (number, again_after) = f"dies-twice-{experiment}", deaths
        with self._nursery() as nursery:
            home = self._run(nursery, name, number)
            again = self._order(nursery, "recover", name, again_after)
            assert again["ended"] in (SIGKILLED, 0), again
            return self._judge(nursery, home)

    def _experiment(
        self, name: str, kill_at: int | None
    ) -> tuple[list[Point], Outcome]:
        with self._nursery() as nursery:
            home = self._run(nursery, name, kill_at)
            lines = (home / "points").read_text().splitlines()
            return [Point.parse(line) for line in lines], self._judge(nursery, home)

    def _run(self, nursery: Nursery, name: str, kill_at: int | None) -> Path:
        run = self._order(nursery, "run", name, kill_at)
        assert run["ended"] == (0 if kill_at is None else SIGKILLED), (name, run)
        return self.directory / name

    def _judge(self, nursery: Nursery, home: Path) -> Outcome:
        recovery = self._order(nursery, "recover", home.name, None)
        assert recovery == {"ended": 0, "orphans": []}, (home.name, recovery)
        report = json.loads((home / "report.json").read_text())
        return judge(report, partial(self.server.requests, home.name))

    def _order(
        self, nursery: Nursery, verb: str, name: str, kill_at: int | None
    ) -> dict[str, Any]:
        home = str(self.directory / name)
        port = self.server.port
        return nursery.order(verb=verb, home=home, kill_at=kill_at, port=port)

    @contextmanager
    def _nursery(self) -> Iterator[Nursery]:
        nursery = self.nurseries.get()
        try:
            yield nursery
        finally:
            self.nurseries.put(nursery)


@contextmanager
def open_explorer(directory: Path, at_a_time: int = 2) -> Iterator[Explorer]:
    """Start the counting server and the nurseries; end them afterwards."""
    with CountingServer() as server:
        explorer = Explorer(directory, server)
        nurseries = [Nursery(directory / f"scratch-{n}") for n in range(at_a_time)]
        for nursery in nurseries:
            explorer.nurseries.put(nursery)
        try:
            yield explorer
        finally:
            for nursery in nurseries:
                nursery.close()
