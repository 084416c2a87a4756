"""Calls on the event loop: heard to their end, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from agents.control import Interrupt
from agents.models.base import Delta
from agents.models.wire import talk

Emit = Callable[[Delta], None]
WORD = Delta(kind="text", text="word")


def test_what_the_conversation_says_is_passed_on_before_it_ends() -> None:
    heard: list[Delta] = []

    async def conversation(hear: Emit) -> None:
        hear(WORD)
        await asyncio.sleep(0)
        hear(WORD)

    assert talk(conversation, heard.append, Interrupt())
    assert heard == [WORD, WORD]


def test_a_call_that_was_cut_is_not_heard_any_more() -> None:
    heard: list[Delta] = []
    interrupt, is_over = Interrupt(), threading.Event()

    async def conversation(hear: Emit) -> None:
        interrupt.set()
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.to_thread(is_left.wait, 5)
            hear(WORD)
            is_over.set()

    is_left = threading.Event()
    assert not talk(conversation, heard.append, interrupt)
    is_left.set()
    assert is_over.wait(5)
    assert heard == []


def test_whoever_does_not_want_to_hear_ends_the_call() -> None:
    is_over = threading.Event()

    async def conversation(hear: Emit) -> None:
        try:
            hear(WORD)
        finally:
            is_over.set()

    def refuse(_delta: Delta) -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        talk(conversation, refuse, Interrupt())
    assert is_over.wait(5)


def test_what_the_conversation_raises_is_raised() -> None:
    async def conversation(_hear: Emit) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        talk(conversation, lambda _: None, Interrupt())
