"""Batches: the first at once, what is due together in one flush."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from workers.batcher import Batcher


class Flushes:
    """Notes which buffers were flushed together, and can hold a flush up."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, buffers: Sequence[str]) -> None:
        self.seen.append(list(buffers))
        self.may_go_on.wait(5)


def test_what_is_due_meanwhile_is_flushed_together(wait_until: Callable) -> None:
    batcher, flushes = Batcher(interval_seconds=0.001), Flushes()
    flushes.may_go_on.clear()
    batcher.schedule("a", flushes, 0.0)
    wait_until(lambda: flushes.seen == [["a"]])
    for buffer in ("a", "b", "c", "b"):
        batcher.schedule(buffer, flushes, 0.0)
    batcher.forget("c")
    flushes.may_go_on.set()
    wait_until(lambda: flushes.seen == [["a"], ["a", "b"]])


def test_each_kind_of_buffer_has_a_flush_of_its_own(wait_until: Callable) -> None:
    batcher, these, those = Batcher(), Flushes(), Flushes()
    batcher.schedule("a", these, 0.0)
    batcher.schedule("b", those, 0.0)
    wait_until(lambda: (these.seen, those.seen) == ([["a"]], [["b"]]))


def test_the_next_flush_waits_for_the_end_of_the_interval(wait_until: Callable) -> None:
    batcher, flushes = Batcher(interval_seconds=0.05), Flushes()
    began = time.monotonic()
    batcher.schedule("a", flushes, began)
    wait_until(lambda: flushes.seen == [["a"]])
    assert time.monotonic() - began >= 0.05


def test_a_flush_that_fails_does_not_end_the_others(wait_until: Callable) -> None:
    batcher, flushes = Batcher(), Flushes()

    def fail(_buffers: Sequence[str]) -> None:
        raise ValueError("no")

    batcher.schedule("a", fail, 0.0)
    batcher.schedule("b", flushes, 0.0)
    wait_until(lambda: flushes.seen == [["b"]])
