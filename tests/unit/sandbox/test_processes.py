"""A pid that has become another process is left alone."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from sandbox import sweep
from sandbox.processes import children, read_stat, tree, usage


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def test_the_process_that_was_recorded_is_killed(
    sleeper: subprocess.Popen[bytes],
) -> None:
    stat = read_stat(sleeper.pid)
    assert stat is not None
    assert sweep(sleeper.pid, stat.started_at_ticks)
    assert sleeper.wait() == -9


def test_a_process_that_started_at_another_time_is_not(
    sleeper: subprocess.Popen[bytes],
) -> None:
    stat = read_stat(sleeper.pid)
    assert stat is not None
    assert not sweep(sleeper.pid, stat.started_at_ticks - 1)
    assert sleeper.poll() is None


def test_a_process_that_is_gone_is_nothing_to_sweep() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert not sweep(process.pid, 1)
    assert read_stat(process.pid) is None
    assert list(children(process.pid)) == []


def _all_loaded(members: list[int], count: int) -> bool:
    return len(members) == count and all(usage(each).memory_bytes for each in members)


def test_a_tree_is_measured_with_its_children() -> None:
    command = ["sh", "-c", "sleep 60 & sleep 60 & wait"]
    with subprocess.Popen(command, start_new_session=True) as shell:
        deadline = time.monotonic() + 10
        while not _all_loaded(tree(shell.pid), count=3):
            assert time.monotonic() < deadline, "the shell has not started its children"
        parts = [usage(child).memory_bytes for child in tree(shell.pid)[1:]]
        whole = usage(shell.pid).memory_bytes
        os.killpg(shell.pid, signal.SIGKILL)
    assert whole > sum(parts) > 0
