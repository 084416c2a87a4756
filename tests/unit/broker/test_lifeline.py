"""Processes that know of the life of others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from broker import lifeline


def test_a_child_ends_when_its_parent_is_killed(child, wait_until) -> None:
    parent = child("lifeline.py")
    pid = int(parent.stdout.readline())
    ticks = lifeline.start_ticks(pid)
    assert ticks is not None
    parent.kill()
    wait_until(lambda: lifeline.start_ticks(pid) != ticks)


def test_an_action_runs_when_a_process_is_gone_already_or_goes(wait_until) -> None:
    gone = threading.Event()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lifeline.when_dead([process.pid], gone.set)
    assert not gone.is_set()
    process.communicate()
    assert gone.wait(10)
    again = threading.Event()
    lifeline.when_dead([process.pid], again.set)
    assert again.is_set()


def test_the_environment_of_a_process_is_what_it_was_started_with(wait_until) -> None:
    process = subprocess.Popen(
        ["cat"], env={"A": "1=2", "B": ""}, stdin=subprocess.PIPE
    )
    expected = {"A": "1=2", "B": ""}
    wait_until(lambda: lifeline.environment_of(process.pid) == expected)
    process.communicate()
    assert lifeline.environment_of(process.pid) == {}
    assert lifeline.environment_of(None) == {}


def test_a_zombie_is_gone(wait_until) -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert lifeline.start_ticks(process.pid) is not None
    process.kill()
    wait_until(lambda: lifeline.start_ticks(process.pid) is None)
    assert lifeline.parent_of(process.pid) == os.getpid()
    process.communicate()
    assert lifeline.parent_of(process.pid) is None
