"""Waiting for what has to happen: on a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

LOOK_EVERY_SECONDS: Final = 0.02

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float, what: str = "") -> Found:
    """Look until the condition holds; return its value, or fail after the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        late = f"not within {seconds:g} s: {what or 'what was waited for'}"
        assert time.monotonic() < deadline, late
        pause.wait(LOOK_EVERY_SECONDS)
    return value
