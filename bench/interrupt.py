"""How soon an interrupt ends a model call in another process, beside the floors it
stands on: a datagram to that process, a request that does nothing, a message accepted.

The interrupt is a POST to a real web process; the model call is in a real `agents`
process, once while it is silent and once while it streams. Nothing outlives the run and
nothing is written outside a temporary directory.
"""

from __future__ import annotations

import random
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from measure import (
    median,
    percentile,
    print_table,
    shuffled,
    start_home,
    verdict,
    wait_until,
)

ROUNDS: Final = 8
SAMPLES: Final = 25
GAP_SECONDS: Final = (0.02, 0.08)
TARGET_P99_MS: Final = 50.0
NAMES: Final = {
    "rung": "a datagram to that process",
    "health": "GET /health",
    "accepted": "a message accepted",
    "silent": "interrupt, model silent",
    "streaming": "interrupt, model streaming",
}


class Roost:
    """A web process and an `agents` process, and the file in which the latter notes."""

    def __init__(self, stack: ExitStack, where: Path) -> None:
        self.notes, self.bell = where / "notes", str(where / "bell")
        home = start_home(stack, where, "interrupted.huey")
        self.api, self.health = f"{home.url}/api/v1", f"{home.url}/health"
        self.session = home.session
        wait_until(lambda: Path(self.bell).exists())

    def sample_ms(self, name: str) -> float:
        """Do one thing; return how long it took to get where it goes."""
        if name in ("silent", "streaming"):
            return self._interrupt_ms(name)
        time.sleep(random.uniform(*GAP_SECONDS))
        if name == "rung":
            return self._until_noted_ms("rung", self._ring)
        began = time.monotonic_ns()
        if name == "health":
            self.session.get(self.health).raise_for_status()
        else:
            self._post("messages", {"text": "x", "priority": "low"})
        return (time.monotonic_ns() - began) / 1e6

    def _interrupt_ms(self, how: str) -> float:
        begin = self._mark()
        turn_id = self._post("messages", {"text": how})["turn_id"]
        self._wait_for("begun", begin)
        time.sleep(random.uniform(*GAP_SECONDS))
        took_ms = self._until_noted_ms("cancelled", lambda: self._post("interrupt", {}))
        task = f"{self.api}/tasks/{turn_id}?wait_seconds=20"
        if self.session.get(task).json()["status"] != "completed":
            raise RuntimeError(f"{turn_id} did not end after its interrupt")
        return took_ms

    def _ring(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"!", self.bell)

    def _until_noted_ms(self, what: str, act: Callable[[], object]) -> float:
        begin = self._mark()
        began = time.monotonic_ns()
        act()
        return (self._wait_for(what, begin) - began) / 1e6

    def _mark(self) -> int:
        return self.notes.stat().st_size

    def _wait_for(self, what: str, begin: int) -> int:
        """Return when it was noted behind a mark, in nanoseconds."""
        found: list[int] = []

        def is_noted() -> bool:
            with self.notes.open() as file:
                file.seek(begin)
                pairs = (line.split() for line in file if line.endswith("\n"))
                found[:] = [int(at) for kind, at in pairs if kind == what]
            return bool(found)

        wait_until(is_noted)
        return found[0]

    def _post(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.api}/agents/scout/{verb}"
        answer = self.session.post(url, json=body, timeout=30)
        answer.raise_for_status()
        shown: dict[str, Any] = answer.json()
        return shown


def main() -> None:
    """Measure in shuffled rounds, then print."""
    took_ms: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-stop-"))
        roost = Roost(stack, Path(where))
        for name in NAMES:
            roost.sample_ms(name)  # warms up
        for name in shuffled([*NAMES], ROUNDS):
            took_ms[name].append([roost.sample_ms(name) for _ in range(SAMPLES)])
    _print(took_ms)


def _print(took_ms: dict[str, list[list[float]]]) -> None:
    every = {name: [ms for each in took_ms[name] for ms in each] for name in NAMES}
    p50 = {name: median(every[name]) for name in NAMES}
    p99 = {name: percentile(every[name], 0.99) for name in NAMES}
    rows = [
        (
            title,
            f"{p50[name]:.2f}",
            f"{p99[name]:.2f}",
            f"{p50[name] / p50['accepted']:.2f}",
            f"{p99[name] / p99['accepted']:.2f}",
        )
        for name, title in NAMES.items()
    ]
    head = ("", "p50 ms", "p99 ms", "p50 ÷ accepted", "p99 ÷ accepted")
    print_table(f"Interrupt → cancelled, {ROUNDS} rounds of {SAMPLES}", head, rows)
    rows = [
        (
            f"{NAMES[name]}, p99 ms",
            f"{p99[name]:.2f}",
            f"≤ {TARGET_P99_MS:g}",
            verdict(p99[name], TARGET_P99_MS, at_most=True),
        )
        for name in ("silent", "streaming")
    ]
    print_table("Against the target", ("", "measured", "target", ""), rows)


if __name__ == "__main__":
    main()
