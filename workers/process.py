"""What every process of ours does first: settings, logging, lifeline, registration."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from typing import Any

from broker import Broker, open_broker, processes
from broker.leases import Worker
from broker.lifeline import end_with_parent
from broker.logs import set_up_logging
from broker.processes import Identity, identify
from broker.queue import HintQueue
from broker.settings import Settings, load
from workers.batcher import Batcher
from workers.keeper import Keeper


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerProcess:
    """One process that works: its handles and its name."""

    settings: Settings
    broker: Broker
    identity: Identity
    worker: Worker
    batcher: Batcher

    def keeper(self, queue: HintQueue) -> Keeper:
        """Start keeping leases; the queue's drain is the process's drain."""
        keeper = Keeper(self.broker, self.worker, queue.drain)
        keeper.start()
        return keeper


def start_process(kind: str, **facts: Any) -> WorkerProcess:
    """Open the home, end with the parent, register under the name of our leases."""
    settings = load()
    set_up_logging()
    end_with_parent(settings.environ)
    broker = open_broker(settings)
    identity = identify(kind, **facts)
    with broker.database.write() as tx:
        processes.register(tx, identity)
    atexit.register(_unregister, broker, identity)
    return WorkerProcess(
        settings=settings,
        broker=broker,
        identity=identity,
        worker=Worker(owner=identity.owner),
        batcher=Batcher(),
    )


def _unregister(broker: Broker, identity: Identity) -> None:
    with broker.database.write() as tx:
        processes.unregister(tx, identity.owner)
