"""What both measurements share: percentiles, medians over rounds, tables, processes."""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
# A round that finds more than a system can do is cut short here.
PATIENCE_SECONDS: Final = 20.0
CONSUMER: Final = ["--no-periodic", "--simple", "--quiet"]
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def percentile(samples: Sequence[float], part: float) -> float:
    """Return the smallest sample that at least `part` of them do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def median(rounds: Sequence[float]) -> float:
    """Return the median over rounds."""
    return statistics.median(rounds)


def shuffled(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once a round, each round in an order of its own."""
    for _ in range(rounds):
        yield from random.sample(names, len(names))


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Look every millisecond until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("The measured system did not get there in time.")
        time.sleep(0.001)


@dataclass(frozen=True, slots=True)
class Home:
    """A web process and an `agents` process of a home of their own."""

    url: str
    token: str
    session: requests.Session


def start_home(
    stack: ExitStack,
    where: Path,
    consumer: str,
    *,
    workers: int = 2,
    **environ: str,
) -> Home:
    """Start both, the latter as `huey_consumer CONSUMER` of this directory, and wait
    until the web process answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {
        "ROOST_HOME": str(where / "home"),
        "PORT": str(port),
        "BENCH_DIRECTORY": str(where),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}",
        **environ,
    }
    subprocess.run(
        [BIN / "roost", "release"],
        env={**os.environ, **own},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, command in {
        "web": ["gunicorn", "--config", "python:webapp.serving", "webapp.wsgi:app"],
        "agents": ["huey_consumer", consumer, "--workers", str(workers), *CONSUMER],
    }.items():
        program = [BIN / command[0], *command[1:]]
        stack.enter_context(started(program, own, where / f"{name}.log"))
    session = stack.enter_context(requests.Session())
    wait_until(lambda: _answers(session, url))
    token = (where / "home" / "token").read_text().strip()
    session.headers["Authorization"] = f"Bearer {token}"
    return Home(url, token, session)


def _answers(session: requests.Session, url: str) -> bool:
    try:
        return session.get(f"{url}/health", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, from /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def idle_percent(pids: Mapping[str, Sequence[int]], seconds: float) -> dict[str, float]:
    """Return what each group's busiest process uses of a core while nobody asks it."""
    before = {pid: cpu_seconds(pid) for group in pids.values() for pid in group}
    time.sleep(seconds)
    return {
        name: max(100 * (cpu_seconds(pid) - before[pid]) / seconds for pid in group)
        for name, group in pids.items()
    }


@contextmanager
def started(
    command: Sequence[str | Path], environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of the block; end that one, by its own id."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            env={**os.environ, **environ},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()


def children(pid: int) -> Iterator[int]:
    """Yield every descendant of a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from children(int(child))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}\n")
    for row in [head, tuple("-" * width for width in widths), *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        print("  " + "  ".join(cells))


def verdict(value: float, target: float, *, at_most: bool) -> str:
    """Say whether a ratio meets its target."""
    return "met" if (value <= target if at_most else value >= target) else "MISSED"
