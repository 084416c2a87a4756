"""What both measurements share: percentiles, medians over rounds, tables, processes."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
# A round that finds more than a system can do is cut short here.
PATIENCE_SECONDS: Final = 20.0
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
