"""Talking to a provider: one event loop in a process, one task for each call.

SDKs are used through their async clients, because only the cancellation of a task ends
a call at once in every phase of it: while it connects, while the provider is silent,
in mid-stream. (Closing a stream from another thread does not wake a blocked read.)

Deltas are passed on from the loop's own thread: to wake the turn's for each would cost
as much as to understand it (bench/models.py). So whoever hears them must not block; a
turn only notes them, and the batcher's thread writes them down.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
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
    ear = _Ear(emit)
    future: Future[None] = asyncio.run_coroutine_threadsafe(
        conversation(ear.hear), loop()
    )

    def cut() -> None:
        future.cancel()

    try:
        with interrupt.cutting(cut):
            future.result()
    except CancelledError:
        if ear.error is not None:
            raise ear.error from None
        return False
    finally:
        ear.close()
        future.cancel()
    return True


class _Ear:
    """Passes a call's deltas on until it is closed. A call that was cancelled goes on
    for a moment, and nobody may hear of that any more."""

    def __init__(self, emit: Callable[[Delta], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._is_closed = False
        self.error: BaseException | None = None

    def hear(self, delta: Delta) -> None:
        """Pass a delta on, in the loop's thread; end the call when that is refused."""
        with self._lock:
            if self._is_closed:
                return
            try:
                self._emit(delta)
            except BaseException as error:  # it is raised again in the turn's thread
                self._is_closed, self.error = True, error
                raise asyncio.CancelledError from error

    def close(self) -> None:
        """Pass nothing on any more."""
        with self._lock:
            self._is_closed = True
