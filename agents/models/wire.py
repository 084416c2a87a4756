"""Talking to a provider: one event loop in a process, one task for each call.

SDKs are used through their async clients, because only the cancellation of a task ends
a call at once in every phase of it: while it connects, while the provider is silent,
in mid-stream. (Closing a stream from another thread does not wake a blocked read.)

The turn's own thread hears the deltas through a queue, so what it does with them (it
writes to the database) never holds up another call's stream.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, Final

from agents.control import Interrupt
from agents.models.base import Delta

# A provider that takes no connection for so long is down; one that has said nothing
# for so long has forgotten us (all send pings or reasoning meanwhile).
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 120.0

Talk = Callable[[Callable[[Delta], None]], Coroutine[Any, Any, None]]

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process; a forked child has one of its own."""
    with _lock:
        pid = os.getpid()
        if pid not in _loops:
            _loops.clear()
            _loops[pid] = asyncio.new_event_loop()
            threading.Thread(
                target=_loops[pid].run_forever, name="models", daemon=True
            ).start()
        return _loops[pid]


def talk(
    conversation: Talk, emit: Callable[[Delta], None], interrupt: Interrupt
) -> bool:
    """Run a call to its end, passing on its deltas; False when it was interrupted.

    What the conversation raises is raised here. When `emit` raises, the call is ended.
    """
    heard: SimpleQueue[Delta | None] = SimpleQueue()
    future: Future[None] = asyncio.run_coroutine_threadsafe(
        conversation(heard.put), loop()
    )
    future.add_done_callback(lambda _: heard.put(None))

    def cut() -> None:
        future.cancel()

    try:
        with interrupt.cutting(cut):
            while (delta := heard.get()) is not None:
                emit(delta)
            future.result()
    except CancelledError:
        return False
    finally:
        future.cancel()
    return True
