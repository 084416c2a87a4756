"""The `agents` process that interrupt.py starts: ours, with a model that never ends.

The model notes when it begins and when it is cut short, and a thread beside it notes
when a datagram comes: one line each in a file that the measuring process reads.
CLOCK_MONOTONIC is one clock for all processes of a machine.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agents.control import Interrupt
from agents.messages import Answer
from agents.models.base import Delta, Request
from workers.process import start_process
from workers.turns import TurnTaker

DIRECTORY = Path(os.environ["BENCH_DIRECTORY"])
TOKEN_SECONDS = 0.02
_notes = os.open(DIRECTORY / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(what: str) -> None:
    """Say what has happened, and when."""
    os.write(_notes, f"{what} {time.monotonic_ns()}\n".encode())


class Endless:
    """Is silent, or speaks on and on, until it is interrupted."""

    name = "endless"
    context_tokens = 200_000

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Begin, wait, note the end."""
        speaks = "streaming" in request.messages[-1].text  # type: ignore[union-attr]
        note("begun")
        while not interrupt.wait(TOKEN_SECONDS if speaks else 60):
            emit(Delta(kind="text", text="word "))
        note("cancelled")
        return Answer(stop_reason="interrupted")


def note_datagrams() -> None:
    """The floor: what comes from another process with nothing in between."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(DIRECTORY / "bell"))
        while True:
            bell.recv(1)
            note("rung")


threading.Thread(target=note_datagrams, daemon=True).start()
process = start_process("agents")
huey = process.broker.turns
taker = TurnTaker(
    broker=process.broker,
    worker=process.worker,
    keeper=process.keeper(huey),
    batcher=process.batcher,
    default_model=None,
    find_model=lambda _: Endless(),
)
huey.bind(taker.take)
