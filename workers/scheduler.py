"""The scheduler: gives back what lost its worker, offers what nobody hinted, wakes what
is due, tells what runs. Many may run; one leads, by a lease.

It sleeps until the next due instant, at most a second, and wakes at once when a worker
of this machine dies (its pidfd says so).
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Final

import click
import structlog

import sandbox
from broker import (
    Broker,
    health,
    json,
    leases,
    processes,
    recovery,
    retention,
    tasks,
)
from broker.database import Row
from broker.queue import EXECS, TURNS, HintQueue
from broker.times import SECOND_US, now_us
from workers.process import WorkerProcess, start_process

log = structlog.get_logger(__name__)

ROLE: Final = "scheduler"
# Which queue takes tasks of which type.
OFFERED: Final = ((TURNS, "turn"), (EXECS, "exec"), (EXECS, "prompt"))
LEAD_SECONDS: Final = 5.0
TICK_SECONDS: Final = 1.0
CHECKPOINT_EVERY_TICKS: Final = 5
RETENTION_SECONDS: Final = 3600.0


class Scheduler:
    """One scheduler process."""

    def __init__(
        self, process: WorkerProcess, *, health_seconds: float = health.EVERY_SECONDS
    ) -> None:
        self._process = process
        self._broker: Broker = process.broker
        self._watch = ProcessWatch()
        self._bell = process.broker.bells.listen(tasks.DUE_CHANNEL)
        self._stopped = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._ticks = 0
        self._cleaned_at = time.monotonic()
        self._health_seconds = health_seconds
        self._told_at = time.monotonic()

    def stop(self, *_: object) -> None:
        """End after the tick that runs (a signal handler)."""
        self._stopped.set()
        os.write(self._wake_writer, b"!")

    def run(self) -> None:
        """Tick until stopped, then resign."""
        threading.Thread(target=self._listen, name="due", daemon=True).start()
        while not self._stopped.is_set():
            due_at = None
            try:
                due_at = self._tick()
            except Exception:
                log.exception("A tick failed; the next one tries again.")
            self._watch.wait(self._sleep_seconds(due_at), self._wake_reader)
        with self._broker.database.write() as tx:
            leases.resign(tx, self._process.identity.owner)

    def _listen(self) -> None:
        """Wake the loop when somebody wrote a deadline down."""
        seen = self._bell.generation
        while not self._bell.is_closed:
            if self._bell.wait(seen, TICK_SECONDS):
                seen = self._bell.generation
                os.write(self._wake_writer, b"!")

    def _tick(self) -> int | None:
        self._ticks += 1
        self._depose_the_dead()
        if not self._leads():
            return None
        self._bury_dead_workers()
        with self._broker.database.write() as tx:
            lost = recovery.expire(tx)
            recovery.wake_due(tx)
        self._sweep(lost)
        self._sweep_killed()
        for queue, task_type in OFFERED:
            self._offer(getattr(self._broker, queue), task_type)
        if self._ticks % CHECKPOINT_EVERY_TICKS == 0:
            self._broker.database.checkpoint()
        if time.monotonic() - self._told_at >= self._health_seconds:
            self._told_at = time.monotonic()
            with self._broker.database.write(durable=False) as tx:
                health.tell(tx)
        if time.monotonic() - self._cleaned_at > RETENTION_SECONDS:
            self._cleaned_at = time.monotonic()
            threading.Thread(target=self._forget, name="gc", daemon=True).start()
        return recovery.next_due_at(self._broker.database)

    def _forget(self) -> None:
        forgotten = list(retention.forget(self._broker.database, {}))
        log.info(
            "Old records were forgotten.",
            rows={each.name: each.rows for each in forgotten if each.rows},
        )

    def _depose_the_dead(self) -> None:
        """Take the lead from processes of this machine that died with it: nobody has
        to wait for their lease to run out. Burying them is the leader's."""
        rows = processes.on_this_host(self._broker.database)
        dead = [row["owner"] for row in rows if not processes.is_alive(row)]
        if dead:
            with self._broker.database.write(durable=False) as tx:
                for owner in dead:
                    leases.resign(tx, owner)

    def _leads(self) -> bool:
        with self._broker.database.write(durable=False) as tx:
            owner = self._process.identity.owner
            return leases.lead(tx, ROLE, owner, LEAD_SECONDS)

    def _bury_dead_workers(self) -> None:
        """Give back at once what processes of this machine held when they died."""
        rows = processes.on_this_host(self._broker.database)
        for row in rows:
            if not processes.is_alive(row):
                self._bury(row)
        self._watch.only([row["pid"] for row in rows if processes.is_alive(row)])

    def _bury(self, row: Row) -> None:
        # Swept first: who takes a task over forgets what it had left running.
        self._sweep(tasks.held_by(self._broker.database, row["owner"]))
        with self._broker.database.write() as tx:
            lost = recovery.expire(tx, owner=row["owner"])
            processes.unregister(tx, row["owner"])
        log.warning(
            "A worker died; its tasks are queued again.",
            worker=row["owner"],
            tasks=[each["id"] for each in lost],
        )

    def _sweep_killed(self) -> None:
        """Kill what was told to end while its worker was dead, or about to die."""
        killed = tasks.killed_processes(self._broker.database)
        for each in self._sweep(killed):
            with self._broker.database.write(durable=False) as tx:
                tasks.forget_process(tx, each["id"])

    def _sweep(self, lost: list[Row]) -> list[Row]:
        """Kill what these have left running on this machine; return those of here."""
        here = []
        for each in lost:
            process = json.load(each["process"])
            if process and process["host"] == self._process.identity.host:
                sandbox.sweep(process["pid"], process["start_ticks"])
                here.append(each)
        return here

    def _offer(self, queue: HintQueue, task_type: str) -> None:
        is_empty = queue.storage.queue_size() == 0
        with self._broker.database.write(durable=False) as tx:
            offered = recovery.offer_again(tx, task_type, queue_is_empty=is_empty)
        if offered:
            log.info("Tasks without a hint were offered again.", tasks=offered)

    def _sleep_seconds(self, due_at: int | None) -> float:
        if due_at is None:
            return TICK_SECONDS
        return min(max((due_at - now_us()) / SECOND_US, 0.0), TICK_SECONDS)


class ProcessWatch:
    """Waits for the death of any of a set of processes of this machine."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}

    def only(self, pids: list[int]) -> None:
        """Watch these and no others."""
        for pid in set(self._descriptors) - set(pids):
            os.close(self._descriptors.pop(pid))
        for pid in set(pids) - set(self._descriptors):
            try:
                self._descriptors[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue

    def wait(self, seconds: float, also: int) -> None:
        """Sleep until one dies, `also` is readable, or the time is over."""
        poll = select.poll()
        poll.register(also, select.POLLIN)
        for descriptor in self._descriptors.values():
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
        if select.select([also], [], [], 0)[0]:
            os.read(also, 4096)


@click.command(name="scheduler")
def command() -> None:
    """Run the scheduler (the Procfile's `scheduler` line)."""
    scheduler = Scheduler(start_process("scheduler"))
    signal.signal(signal.SIGTERM, scheduler.stop)
    signal.signal(signal.SIGINT, scheduler.stop)
    scheduler.run()
