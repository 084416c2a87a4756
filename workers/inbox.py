"""The inbox of a claimed turn: what comes in while it is under way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from agents.control import Stop
from agents.messages import UserMessage
from agents.transcript import to_messages
from broker import Broker, json, steering
from broker.database import Row, Transaction
from broker.states import Priority
from broker.steering import AT_ONCE
from broker.turns import MESSAGES, Turn
from workers.fence import fenced

# An agent's metadata may say how many messages a turn takes at a boundary (P30).
QUEUE_MODE: Final = "queue_mode"


class TurnInbox:
    """Reads and takes what waits for the agent; every refusal abandons the turn."""

    def __init__(self, broker: Broker, turn: Turn, stop: Stop) -> None:
        self._database = broker.database
        self._turn = turn
        self._stop = stop
        mode = json.load(turn.agent["metadata"]).get(QUEUE_MODE)
        self._limit = AT_ONCE if mode == "all" else 1

    def is_urgent(self) -> bool:
        """Whether somebody's message waits that wakes."""
        waiting = self._waiting()
        return waiting is not None and (
            waiting["kind"] in MESSAGES or waiting["priority"] == Priority.INTERRUPT
        )

    def take(self) -> list[UserMessage]:
        """Take what wakes: news of tasks, all; of messages, one (or all, as set)."""
        waiting = self._waiting()
        if waiting is None or waiting["priority"] == Priority.INTERRUPT:
            return []
        return self._taken(
            lambda tx: [
                *steering.absorb(tx, self._turn, news_only=True, limit=AT_ONCE),
                *steering.absorb(tx, self._turn, news_only=False, limit=self._limit),
            ]
        )

    def follow_up(self) -> list[UserMessage]:
        """Take messages that do not hurry."""
        if not steering.has_follow_up(self._database, self._turn):
            return []
        return self._taken(
            lambda tx: steering.follow_up(tx, self._turn, limit=self._limit)
        )

    def _waiting(self) -> Row | None:
        """What wakes most; an interrupt is heeded here, too: the keeper may not have
        told of it yet."""
        waiting = steering.pending_wake(self._database, self._turn)
        if waiting is not None and waiting["priority"] == Priority.INTERRUPT:
            self._stop.interrupt.set()
        return waiting

    def _taken(self, take: Callable[[Transaction], list[Row]]) -> list[UserMessage]:
        with fenced(), self._write() as tx:
            rows = take(tx)
        return [each for each in to_messages(rows) if isinstance(each, UserMessage)]

    def _write(self) -> AbstractContextManager[Transaction]:
        return self._database.write()
