"""What reaches a turn while it is under way, and what it makes of it (P26-P37)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agents.control import Parked, Waiting
from agents.loop import LimitReached, think
from agents.messages import (
    INTERRUPTED,
    SKIPPED,
    AssistantMessage,
    Message,
    ToolMessage,
    UserMessage,
    close_abandoned_calls,
)
from agents.messages import ToolResult as Result
from agents.thinker import Limits
from agents.tools.registry import Tool, ToolContext, tool

DEADLINE_SECONDS = 20


def says(text: str) -> list[Message]:
    return [UserMessage(content=[{"type": "text", "text": text}])]


def calls(*named: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": n, "arguments": {}} for n in named], **more}


def named(name: str, act: Any = None, effect: Any = "pure") -> Tool:
    """A tool that says its name, after it has acted."""

    @tool(effect=effect, name=name)
    def made(context: ToolContext) -> Result:
        """Act."""
        return (act and act(context)) or Result(text=name)

    return made


def told(own: list[Message]) -> list[str]:
    """A conversation as one line for each message."""
    lines = []
    for message in own:
        if isinstance(message, UserMessage):
            lines.append(f"user: {message.text}")
        elif isinstance(message, ToolMessage):
            lines.append(f"{message.name}: {message.result.text}")
        else:
            calls = ", ".join(call.name for call in message.answer.tool_calls)
            lines.append(f"model: {message.answer.text or calls}")
    return lines


# Calls together and one by one (P31).


@pytest.mark.line("P31", "P25")
def test_calls_of_one_answer_run_together_and_are_answered_in_their_order(
    thinker, pool
) -> None:
    both = threading.Barrier(2, timeout=DEADLINE_SECONDS)
    last_is_done = threading.Event()

    def first(context: ToolContext) -> None:
        both.wait()
        assert last_is_done.wait(DEADLINE_SECONDS)

    def second(context: ToolContext) -> None:
        both.wait()
        last_is_done.set()

    tools = (named("one", first), named("two", second))
    own = says("go")
    think(thinker([calls("one", "two"), {"text": "ok"}], *tools, pool=pool), [], own)
    assert told(own)[2:] == ["one: one", "two: two", "model: ok"]


@pytest.mark.line("P31")
def test_results_are_recorded_as_they_come_and_appended_at_once(
    thinker, journal, pool
) -> None:
    own = says("go")
    script = [calls("one", "two"), {"text": "ok"}]
    think(thinker(script, named("one"), named("two"), pool=pool), [], own)
    kinds = [each[0] for each in journal.told]
    assert kinds.count("record_call") == 2
    assert ("append_results", "one", "two") in journal.told
    assert kinds.index("append_results") > kinds.index("record_call")


def test_a_recorded_result_is_not_computed_again_beside_one_that_is(
    thinker, journal, pool
) -> None:
    def never(context: ToolContext) -> None:
        raise AssertionError("it has its result")

    own = says("go")
    script = [calls("one", "two"), {"text": "ok"}]
    thinking = thinker(script, named("one", never), named("two"), pool=pool)
    journal.recorded["call_1_0"] = Result(text="kept")
    think(thinking, [], own)
    assert told(own)[2:4] == ["one: kept", "two: two"]


def test_calls_that_must_wait_wait_together_and_the_others_are_kept(
    thinker, journal, pool
) -> None:
    def park(context: ToolContext) -> None:
        raise Parked(
            Waiting(
                step=context.step,
                target_ids=(f"exec-{context.step}",),
                deadline_at=None,
                why={},
            )
        )

    tools = (named("one", park), named("two"), named("three", park))
    own = says("go")
    script = [calls("one", "two", "three"), {"text": "ok"}]
    with pytest.raises(Parked) as raised:
        think(thinker(script, *tools, pool=pool), [], own)
    assert [wait.target_ids for wait in raised.value.waits] == [
        ("exec-2",),
        ("exec-4",),
    ]
    assert ("record_call", 3, "succeeded", "two") in journal.told
    assert told(own)[2:] == [], "the history gets results in order, or not yet"


@pytest.mark.line("P31")
def test_without_a_pool_calls_are_made_one_by_one(thinker, journal) -> None:
    own = says("go")
    think(
        thinker([calls("one", "two"), {"text": "ok"}], named("one"), named("two")),
        [],
        own,
    )
    kinds = [each[0] for each in journal.told if each[0].endswith("_call")]
    assert kinds == ["start_call", "finish_call"] * 2


@pytest.mark.line("P33")
def test_a_tool_tells_how_far_it_is(thinker, journal) -> None:
    tools = named("one", lambda context: context.report("half way"))
    think(thinker([calls("one"), {"text": "ok"}], tools), [], says("go"))
    assert ("report", 2, "half way") in journal.told


# A message that wakes (P28): it lands at the next boundary.


@pytest.mark.line("P28")
def test_a_message_that_came_before_the_calls_has_them_all_skipped(
    thinker, inbox, pool
) -> None:
    inbox.waking.append("stop that, do this")
    own = says("go")
    script = [calls("one", "two"), {"text": "done this"}]
    think(thinker(script, named("one"), named("two"), pool=pool), [], own)
    assert told(own) == [
        "user: go",
        "model: one, two",
        f"one: {SKIPPED}",
        f"two: {SKIPPED}",
        "user: stop that, do this",
        "model: done this",
    ]


@pytest.mark.line("P28", "P31")
def test_a_message_between_two_calls_has_the_second_skipped(thinker, inbox) -> None:
    tools = (
        named("one", lambda context: inbox.waking.append("wait")),
        named("two"),
    )
    own = says("go")
    think(thinker([calls("one", "two"), {"text": "ok"}], *tools), [], own)
    assert told(own)[2:] == [
        "one: one",
        f"two: {SKIPPED}",
        "user: wait",
        "model: ok",
    ]


@pytest.mark.line("P28")
def test_a_call_that_had_begun_is_ended_and_not_skipped(
    thinker, journal, inbox
) -> None:
    inbox.waking.append("wait")
    journal.started.add("call_1_0")
    own = says("go")
    think(thinker([calls("one"), {"text": "ok"}], named("one")), [], own)
    assert told(own)[2:4] == ["one: one", "user: wait"]


@pytest.mark.line("P27")
def test_a_message_during_the_last_answer_does_not_lengthen_the_turn(
    thinker, inbox
) -> None:
    inbox.waking.append("and this")
    thought = think(thinker([{"text": "ok"}]), [], says("go"))
    assert thought.text == "ok"
    assert inbox.waking == ["and this"], "it has a turn of its own"


# A message that does not hurry (P29): looked at when the turn would end.


@pytest.mark.line("P27", "P29")
def test_a_quiet_message_is_answered_before_the_turn_ends(thinker, inbox) -> None:
    inbox.quiet.append("by the way")
    own = says("go")
    thought = think(thinker([{"text": "one"}, {"text": "two"}]), [], own)
    assert told(own)[1:] == ["model: one", "user: by the way", "model: two"]
    assert thought.text == "one\n\ntwo"


@pytest.mark.line("P29")
def test_a_quiet_message_waits_while_tools_are_called(thinker, inbox) -> None:
    inbox.quiet.append("by the way")
    own = says("go")
    script = [calls("one"), {"text": "first"}, {"text": "second"}]
    think(thinker(script, named("one")), [], own)
    assert told(own)[2:] == [
        "one: one",
        "model: first",
        "user: by the way",
        "model: second",
    ]


# An interrupt ends the turn, in every phase.


@pytest.mark.line("P37")
def test_an_interrupt_before_the_first_token_ends_the_turn_without_a_word(
    thinker,
) -> None:
    thinking = thinker([{"text": "never said"}])
    thinking.stop.interrupt.set()
    thought = think(thinking, [], says("go"))
    assert (thought.text, thought.is_interrupted) == ("", True)


@pytest.mark.line("P37")
def test_an_interrupt_between_calls_closes_what_is_open(thinker) -> None:
    stops: list[Any] = []
    tools = (
        named("one", lambda context: stops[0].interrupt.set()),
        named("two"),
    )
    thinking = thinker([calls("one", "two", text="I will look.")], *tools)
    stops.append(thinking.stop)
    own = says("go")
    thought = think(thinking, [], own)
    assert told(own)[2:] == ["one: one", f"two: {INTERRUPTED}"]
    assert (thought.text, thought.is_interrupted) == ("I will look.", True)
    assert close_abandoned_calls(own) == own


def test_an_interrupt_of_a_parked_turn_asks_its_tool_once_more(
    thinker, journal
) -> None:
    journal.started.add("call_1_0")
    thinking = thinker([calls("one", "two")], named("one"), named("two"))
    own = says("go")
    own.append(
        AssistantMessage(
            answer=thinking.model.stream(
                _request(own), lambda delta: None, thinking.stop.interrupt
            )
        )
    )
    thinking.stop.interrupt.set()
    think(thinking, [], own)
    assert told(own)[2:] == ["one: one", f"two: {INTERRUPTED}"]


def _request(own: list[Message]) -> Any:
    from agents.models.base import Request

    return Request(system="", messages=tuple(own), tools=())


# Limits.


def test_a_turn_that_says_too_much_is_stopped(thinker) -> None:
    said = {"usage": {"output_tokens": 60}}
    script = [calls("one", **said), calls("one", **said), {"text": "never"}]
    thinking = thinker(script, named("one"), limits=Limits(output_tokens=100))
    with pytest.raises(LimitReached, match="100 tokens of output") as raised:
        think(thinking, [], says("go"))
    assert raised.value.as_json()["limit"] == {"name": "output_tokens", "value": 100}
