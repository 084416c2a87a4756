"""Control flow of a turn: not errors, and never caught by `except Exception`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class TurnControl(BaseException):
    """A turn leaves its loop for a reason that is not a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What one step waits for: any of these tasks to end, or an instant to come."""

    step: int
    target_ids: tuple[str, ...]
    deadline_at: int | None
    why: dict[str, Any]


class Parked(TurnControl):
    """A tool must wait: the turn leaves its thread until a condition holds."""

    def __init__(self, *waits: Waiting) -> None:
        super().__init__(f"steps {', '.join(str(wait.step) for wait in waits)} wait")
        self.waits = waits


class OutOfTime(TurnControl):
    """The turn has worked for longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The turn reached its limit of {seconds:g} s of work.")
        self.seconds = seconds

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        limit = {"name": "turn_seconds", "value": self.seconds}
        return {"type": "limit", "message": str(self), "limit": limit}


class Abandoned(TurnControl):
    """The lease is gone: whatever this worker does now is nobody's business."""


class HandedOver(TurnControl):
    """The process drains: another worker goes on from the next step."""


class Cancelled(TurnControl):
    """Somebody asked the turn to stop."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason or "cancelled")
        self.reason = reason


class Interrupt:
    """A flag that somebody else raises, with actions that cut short what blocks.

    A blocked read cannot look at a flag, so an adapter registers what wakes it (for a
    provider's stream: shutting its socket down).
    """

    def __init__(self) -> None:
        self._raised = threading.Event()
        self._actions: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def is_raised(self) -> bool:
        """Whether it was raised."""
        return self._raised.is_set()

    def set(self) -> None:
        """Raise the flag and run the actions, once."""
        with self._lock:
            if self._raised.is_set():
                return
            self._raised.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def wait(self, seconds: float) -> bool:
        """Sleep unless raised; True when raised."""
        return self._raised.wait(seconds)

    @contextmanager
    def cutting(self, action: Callable[[], None]) -> Iterator[None]:
        """Run the action if raised meanwhile, or now if it was before."""
        with self._lock:
            is_raised = self._raised.is_set()
            if not is_raised:
                self._actions.append(action)
        if is_raised:
            action()
        try:
            yield
        finally:
            with self._lock:
                if action in self._actions:
                    self._actions.remove(action)


class Stop:
    """Why a turn should leave its loop: one per running turn, set by other threads."""

    def __init__(self) -> None:
        self.interrupt = Interrupt()
        self._why: TurnControl | None = None

    def ask(self, why: TurnControl) -> None:
        """Stop at the next boundary; what blocks is cut short unless it is a drain."""
        if self._why is None or isinstance(why, Abandoned):
            self._why = why
        if not isinstance(why, HandedOver):
            self.interrupt.set()

    def cut_short(self) -> None:
        """End what blocks now: the drain has no more time for it."""
        if self._why is not None:
            self.interrupt.set()

    def hand_over(self) -> None:
        """Raise that the process drains, if it does: a call that was cut short for that
        is another worker's to make."""
        if isinstance(self._why, HandedOver):
            raise self._why

    def check(self) -> None:
        """Raise what was asked for; every step boundary calls this."""
        if self._why is not None:
            raise self._why
