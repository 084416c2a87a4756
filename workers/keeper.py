"""The lease keeper: one thread per process that renews what the process holds.

It also hears when somebody wants work to stop, and when the process drains, and tells
the work through its `Stop`-like handle. A worker that lost its lease hears it here
within a second, and its writes are refused in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from broker import Broker
from broker.doorbell import FALLBACK_SECONDS
from broker.leases import RENEW_SECONDS, Standing, Worker, renew, standing
from broker.tasks import STOP_CHANNEL

# honcho kills what still runs 5 s after SIGTERM; the drain ends before.
DRAIN_PATIENCE_SECONDS: Final = 2.5

log = structlog.get_logger(__name__)


class Holder(Protocol):
    """The work under a lease, as the keeper talks to it."""

    def tick(self) -> None:
        """A second has passed, or so: look whether the work takes too long."""

    def lost(self) -> None:
        """The lease is gone: stop at once and write nothing."""

    def stop(self, verb: str, reason: str | None) -> None:
        """Somebody asked for a stop."""

    def drain(self) -> None:
        """The process drains: reach a boundary and hand over."""

    def drain_now(self) -> None:
        """The drain has no more time: cut short what blocks, and hand over."""


@dataclass(slots=True)
class _Held:
    epoch: int
    holder: Holder


class Keeper:
    """Keeps the leases of one process."""

    def __init__(self, broker: Broker, worker: Worker, drain: threading.Event) -> None:
        self._broker = broker
        self._worker = worker
        self._drain = drain
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._bell = broker.bells.listen(STOP_CHANNEL)
        self._renewed = time.monotonic()

    def start(self) -> None:
        """Begin keeping, in a daemon thread."""
        threading.Thread(target=self._run, name="keeper", daemon=True).start()
        threading.Thread(target=self._watch_drain, name="drain", daemon=True).start()

    @contextmanager
    def holding(self, task_id: str, epoch: int, holder: Holder) -> Iterator[None]:
        """Keep this lease while the block runs."""
        mine = _Held(epoch, holder)
        with self._lock:
            other = self._held.get(task_id)
            is_newest = other is None or other.epoch < epoch
            if is_newest:
                self._held[task_id] = mine
        # This process may claim what it has lost: then two epochs of a task meet here.
        lost = other if is_newest else mine
        if lost is not None:
            lost.holder.lost()
        if self._drain.is_set():
            holder.drain()
        try:
            yield
        finally:
            with self._lock:
                if self._held.get(task_id) is mine:
                    del self._held[task_id]

    def _run(self) -> None:
        while not self._bell.is_closed:
            seen = self._bell.generation
            try:
                self._look()
            except Exception:
                log.exception("Leases could not be renewed; trying again.")
            self._bell.wait(seen, FALLBACK_SECONDS)

    def _look(self) -> None:
        held = self._snapshot()
        if not held:
            return
        epochs = {task_id: each.epoch for task_id, each in held.items()}
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            found = renew(self._broker.database, self._worker, epochs)
            self._renewed = time.monotonic()
        else:
            found = standing(self._broker.database, epochs)
        for task_id, each in held.items():
            each.holder.tick()
            self._tell(task_id, each, found[task_id])

    def _tell(self, task_id: str, each: _Held, stands: Standing) -> None:
        with self._lock:
            if self._held.get(task_id) is not each:
                return  # it ended while we looked
        if not stands.held:
            log.warning("A lease was lost; its work stops.", task_id=task_id)
            each.holder.lost()
        elif stands.stop_verb:
            each.holder.stop(stands.stop_verb, stands.stop_reason)

    def _watch_drain(self) -> None:
        self._drain.wait()
        self._for_each(lambda holder: holder.drain())
        time.sleep(DRAIN_PATIENCE_SECONDS)
        self._for_each(lambda holder: holder.drain_now())

    def _for_each(self, act: Callable[[Holder], None]) -> None:
        for each in self._snapshot().values():
            act(each.holder)

    def _snapshot(self) -> dict[str, _Held]:
        with self._lock:
            return dict(self._held)
