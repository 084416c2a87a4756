"""The same no-op for each peer, as its own documentation writes it; see throughput.py.

Runs in an environment of its own, in which only the peers are installed. BENCH_PEER
says which one. `peers.main('send', COUNT)` queues so many; every no-op notes when it
ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER = os.environ["BENCH_PEER"]
DIRECTORY = Path(os.environ["BENCH_DIRECTORY"])
REDIS_URL = os.environ["BENCH_REDIS_URL"]
DBOS_URL = f"sqlite:///{DIRECTORY}/dbos.sqlite"
# A queue that polls looks this often; the default of a second would be all it measures.
POLL_SECONDS = 0.05
_ends = os.open(DIRECTORY / "ends", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note_end(number: int) -> int:
    """Do nothing but say when."""
    os.write(_ends, f"{time.time()}\n".encode())
    return number


def celery_app() -> Any:
    """Celery on Redis: `celery --app peers worker`."""
    from celery import Celery

    found = Celery("peers", broker=REDIS_URL)
    found.conf.task_ignore_result = True
    return found


def huey_app() -> Any:
    """Huey on Redis: `huey_consumer peers.app`."""
    from huey import RedisHuey

    return RedisHuey("bench", url=REDIS_URL, results=False)


def dbos_app() -> Any:
    """DBOS on SQLite: a workflow of one step, on a queue."""
    from dbos import DBOS

    DBOS(
        config={
            "name": "bench",
            "system_database_url": DBOS_URL,
            "executor_id": str(os.getpid()),
            "application_version": "1",
            "console_log_level": "ERROR",
        }
    )
    step = DBOS.step()(note_end)

    @DBOS.workflow(name="turn")
    def turn(number: int) -> int:
        """One durable step and its end."""
        return int(step(number))

    return DBOS


def dbos_sender() -> Callable[[int], object]:
    """A client of DBOS, which runs nothing itself."""
    from dbos import DBOSClient

    client = DBOSClient(system_database_url=DBOS_URL, application_name="bench")
    queued = {"queue_name": "bench", "workflow_name": "turn", "app_version": "1"}
    return lambda number: client.enqueue(queued, number)


def serve_dbos() -> None:
    """Serve until the process is ended: DBOS has no consumer of its own."""
    dbos = dbos_app()
    dbos.launch()
    dbos.register_queue("bench", polling_interval_sec=POLL_SECONDS)
    (DIRECTORY / f"ready-{os.getpid()}").touch()
    threading.Event().wait()


# The names under which the peers' own consumers find them.
if PEER in ("celery", "huey"):
    app = {"celery": celery_app, "huey": huey_app}[PEER]()
    noop = app.task(name="note_end")(note_end)


def main(verb: str, count: str = "0") -> None:
    """Serve, or send so many and say when the first was sent."""
    if verb == "serve":
        serve_dbos()
    senders = {"celery": lambda: noop.delay, "huey": lambda: noop, "dbos": dbos_sender}
    send = senders[PEER]()
    began = time.time()
    for number in range(int(count)):
        send(number)
    print(began, flush=True)
