"""One of many writers: queue, claim and append, complete, until the time is over.

`python -m tests.durability.writer HOME SECONDS NAME` says `ready`, waits for a line,
and prints how long each of its transactions took, from asking for the gate to the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker import open_broker, tasks
from broker.database import Transaction
from broker.events import NewEvent, append
from broker.leases import Worker
from broker.settings import load
from broker.states import Stream
from broker.tasks import NewTask

EVENT = NewEvent(
    stream=Stream.EXTERNAL, scope="writers", kind="written", body="x" * 200
)


def main(home: str, seconds: float, name: str) -> None:
    """Write for so many seconds."""
    broker = open_broker(load({"ROOST_HOME": home}, Path(home)))
    worker = Worker(owner=name)
    waits: list[float] = []

    def timed(act: Callable[[Transaction], Any]) -> Any:
        began = time.monotonic()
        with broker.database.write() as tx:
            value = act(tx)
        waits.append(time.monotonic() - began)
        return value

    def claim_and_append(tx: Transaction) -> Any:
        append(tx, EVENT)
        return tasks.claim_next(tx, "work", worker)

    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    until = time.monotonic() + seconds
    claimed = 0
    while time.monotonic() < until:
        timed(lambda tx: tasks.create(tx, NewTask(type="work", payload={})))
        if row := timed(claim_and_append):
            timed(lambda tx, row=row: tasks.complete(tx, row["id"], row["epoch"], {}))
            claimed += 1
    print(json.dumps({"claimed": claimed, "waits": waits}))  # noqa: T201
    broker.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
