"""The consumers that wake.py starts, each through `huey_consumer`, like the Procfile's.

Every body notes when it began: one line in a file that the measuring process reads.
CLOCK_MONOTONIC is one clock for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from huey import RedisHuey, SqliteHuey
from huey.api import Huey

from broker.doorbell import UnixBells
from broker.queue import TURNS, HintQueue, open_queue
from broker.settings import load

DIRECTORY = Path(os.environ["BENCH_DIRECTORY"])
# While this file is missing, a consumer that took a hold takes nothing more.
LET_GO = DIRECTORY / "let-go"
_starts = os.open(DIRECTORY / "starts", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note_start(id: str) -> None:
    """Do nothing but say when; a hold also keeps its consumer until it is let go."""
    os.write(_starts, f"{id} {time.monotonic_ns()}\n".encode())
    while id.startswith("hold") and not LET_GO.exists():
        time.sleep(0.001)


def open_ours() -> HintQueue:
    """Our queue, in a home of its own."""
    settings = load({"ROOST_HOME": str(DIRECTORY / "home")}, cwd=DIRECTORY)
    settings.home.mkdir(exist_ok=True)
    return open_queue(TURNS, settings, UnixBells(settings.run_directory))


def _with_task(queue: Huey) -> Huey:
    queue.hint = queue.task(name="note_start")(note_start)
    return queue


# The names under which `huey_consumer` finds them.
ours = open_ours()
ours.bind(note_start)
sqlite = _with_task(SqliteHuey("bench", filename=str(DIRECTORY / "huey.db")))
redis = _with_task(RedisHuey(os.environ["BENCH_REDIS_NAME"]))
