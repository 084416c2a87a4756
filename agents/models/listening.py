"""Listening to an answer until it is whole; what adapters of SDKs with event streams do
alike. Each brings a `Hearing`, which understands its provider's events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Protocol

from agents.control import Interrupt
from agents.messages import Answer, Usage
from agents.models.base import Delta, ModelError
from agents.models.wire import talk

# How long a stream may take to end after the answer is whole: its end frees the
# connection for the next call, but nothing is lost without.
LAST_SECONDS: Final = 1.0

Emit = Callable[[Delta], None]


class Hearing(Protocol):
    """An answer as far as it was heard."""

    @property
    def usage(self) -> Usage:
        """The tokens, as far as they were told."""

    @property
    def is_whole(self) -> bool:
        """Whether the provider has said how the answer ends."""

    def take(self, event: Any, emit: Emit) -> None:
        """Hear one event of the stream."""

    def answer(self) -> Answer:
        """Return the answer; raise ModelError when there is none."""


async def listen(events: AsyncIterator[Any], hearing: Hearing, emit: Emit) -> None:
    """Hear a stream to its end, with little patience after the end of the answer."""
    async with asyncio.timeout(None) as patience:
        async for event in events:
            hearing.take(event, emit)
            if hearing.is_whole:
                now = asyncio.get_running_loop().time()
                patience.reschedule(now + LAST_SECONDS)


def hear_out(
    conversation: Callable[[Emit], Coroutine[Any, Any, None]],
    hearing: Hearing,
    judge: Callable[[Exception], ModelError],
    emit: Emit,
    interrupt: Interrupt,
) -> Answer:
    """Have a conversation and return its answer. `judge` says what its errors mean;
    interrupted, the answer is what was told to `emit`, and nothing that was not."""
    told: list[Delta] = []
    answers: list[Answer] = []

    def tell(delta: Delta) -> None:
        told.append(delta)
        emit(delta)

    async def judged(heard: Emit) -> None:
        try:
            await conversation(heard)
        except Exception as error:  # SDKs have many, and malformed answers any
            if not hearing.is_whole:
                raise judge(error) from error
        try:
            answers.append(hearing.answer())
        except (ValueError, TypeError, LookupError) as error:
            raise judge(error) from error

    if talk(judged, tell, interrupt):
        return answers[0]
    return Answer(
        text="".join(each.text for each in told if each.kind == "text"),
        reasoning="".join(each.text for each in told if each.kind == "reasoning"),
        stop_reason="interrupted",
        usage=hearing.usage,
    )
