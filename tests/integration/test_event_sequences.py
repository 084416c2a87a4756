"""What a turn tells, whole: the sequences that pi's agent core gives, by the function
that docs/explanation/events-and-pi.md shows."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from agents.messages import CUT_OFF, INTERRUPTED, SKIPPED, ToolResult
from agents.models.base import Delta
from agents.models.scripted import ScriptedModel
from agents.tools import Tool, ToolContext, tool
from broker import turns
from broker.states import Priority

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "events-and-pi.md"
DEADLINE_SECONDS = 20.0

Json = dict[str, Any]


def documented() -> Callable[..., Iterator[Json]]:
    found = re.search(
        r"<!-- mapping -->\n```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M
    )
    assert found
    names: Json = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    as_pi: Callable[..., Iterator[Json]] = names["as_pi"]
    return as_pi


def told(house: Any, turn_id: str, **more: Any) -> list[Json]:
    """A turn in pi's events; pieces of one kind that follow one another, joined."""
    events = [e for e in house.events() if e["payload"].get("turn_id") == turn_id]
    joined: list[Json] = []
    for key, group in groupby(documented()(events, **more), _piece_of):
        if key is None:
            joined += group
        else:
            text = "".join(e["assistantMessageEvent"]["delta"] for e in group)
            joined.append(piece(text, key))
    return joined


def _piece_of(event: Json) -> str | None:
    delta = event.get("assistantMessageEvent")
    return None if delta is None else str(delta["type"])


# The words of the expected sequences.

AGENT_START = {"type": "agent_start"}
TURN_START = {"type": "turn_start"}
ASSISTANT_START = {"type": "message_start", "message": {"role": "assistant"}}


def piece(text: str, kind: str = "text_delta") -> Json:
    delta = {"type": kind, "delta": text}
    return {"type": "message_update", "assistantMessageEvent": delta}


def user(text: str) -> Json:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def said(text: str, stop: str = "stop") -> Json:
    content = [{"type": "text", "text": text}] if text else []
    return {"role": "assistant", "content": content, "stopReason": stop}


def called(*calls: tuple[str, str, Json], stop: str = "toolUse") -> Json:
    content = [
        {"type": "toolCall", "id": id, "name": name, "arguments": arguments}
        for id, name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "stopReason": stop}


def result(
    id: str, name: str, text: str, *, is_error: bool = False, **more: Any
) -> Json:
    content = [{"type": "text", "text": text}, *more.get("blocks", [])]
    return {
        "role": "toolResult",
        "toolCallId": id,
        "toolName": name,
        "content": content,
        "details": more.get("details", {}),
        "isError": is_error,
    }


def whole(message: Json) -> list[Json]:
    return [
        {"type": "message_start", "message": message},
        {"type": "message_end", "message": message},
    ]


def message_end(message: Json) -> Json:
    return {"type": "message_end", "message": message}


def turn_end(message: Json, *results: Json) -> Json:
    return {"type": "turn_end", "message": message, "toolResults": list(results)}


def agent_end(*messages: Json) -> Json:
    return {"type": "agent_end", "messages": list(messages)}


def starts(id: str, name: str, arguments: Json) -> Json:
    return {
        "type": "tool_execution_start",
        "toolCallId": id,
        "toolName": name,
        "args": arguments,
    }


def updates(id: str, name: str, text: str) -> Json:
    partial = {"content": [{"type": "text", "text": text}], "details": {}}
    return {
        "type": "tool_execution_update",
        "toolCallId": id,
        "toolName": name,
        "partialResult": partial,
    }


def ends(of: Json) -> Json:
    return {
        "type": "tool_execution_end",
        "toolCallId": of["toolCallId"],
        "toolName": of["toolName"],
        "result": {"content": of["content"], "details": of["details"]},
        "isError": of["isError"],
    }


def script_call(*names: str, **more: Any) -> Json:
    """An answer that calls tools; the ids are the names."""
    calls = [{"id": each, "name": each, "arguments": {}} for each in names]
    return {"tool_calls": calls, **more}


def named(name: str, act: Callable[[ToolContext], Any] = lambda _: None) -> Tool:
    """A tool that acts and says its name."""

    @tool(effect="pure", name=name)
    def made(context: ToolContext) -> ToolResult:
        """Act."""
        return act(context) or ToolResult(text=name)

    return made


def sequential(house: Any) -> None:
    house.agent(metadata={"tool_execution": "sequential"})


@pytest.mark.line("P24")
def test_text_alone(house, workshop, scripted) -> None:
    id = house.post("hello").turn_id
    workshop.work(workshop.taker(scripted({"text": "hi there"})))
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("hello")),
        ASSISTANT_START,
        piece("hi there"),
        message_end(said("hi there")),
        turn_end(said("hi there")),
        agent_end(user("hello"), said("hi there")),
    ]


@pytest.mark.line("P23", "P25", "P33")
def test_one_tool_that_tells_how_far_it_is(house, workshop, scripted) -> None:
    image = {"type": "image", "media_type": "image/png", "artifact": "turn-1/2"}

    def act(context: ToolContext) -> ToolResult:
        context.report("half way")
        return ToolResult(text="seen", blocks=(image,), details={"width": 4})

    model = scripted(script_call("look"), {"text": "A cat."})
    id = house.post("look").turn_id
    workshop.work(workshop.taker(model, tools=[named("look", act)]))
    call = called(("look", "look", {}))
    seen = result("look", "look", "seen", blocks=[image], details={"width": 4})
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("look")),
        ASSISTANT_START,
        piece("{}", "toolcall_delta"),
        message_end(call),
        starts("look", "look", {}),
        updates("look", "look", "half way"),
        ends(seen),
        *whole(seen),
        turn_end(call, seen),
        TURN_START,
        ASSISTANT_START,
        piece("A cat."),
        message_end(said("A cat.")),
        turn_end(said("A cat.")),
        agent_end(user("look"), call, seen, said("A cat.")),
    ]


@pytest.mark.line("P25", "P31")
def test_two_tools_together_end_as_they_do_and_are_answered_in_order(
    house, workshop, scripted, wait_until
) -> None:
    both = threading.Barrier(2, timeout=DEADLINE_SECONDS)

    def ended(name: str) -> bool:
        return any(
            event["kind"] == "tool_execution_end"
            and event["payload"]["tool_call_id"] == name
            for event in house.events()
        )

    def first(context: ToolContext) -> None:
        both.wait()
        wait_until(lambda: ended("two"))

    def second(context: ToolContext) -> None:
        both.wait()

    model = scripted(script_call("one", "two"), {"text": "ok"})
    id = house.post("go").turn_id
    tools = [named("one", first), named("two", second)]
    workshop.work(workshop.taker(model, tools=tools))
    call = called(("one", "one", {}), ("two", "two", {}))
    one, two = result("one", "one", "one"), result("two", "two", "two")
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("{}{}", "toolcall_delta"),
        message_end(call),
        starts("one", "one", {}),
        starts("two", "two", {}),
        ends(two),
        ends(one),
        *whole(one),
        *whole(two),
        turn_end(call, one, two),
        TURN_START,
        ASSISTANT_START,
        piece("ok"),
        message_end(said("ok")),
        turn_end(said("ok")),
        agent_end(user("go"), call, one, two, said("ok")),
    ]


@pytest.mark.line("P25", "P31")
def test_two_tools_one_by_one(house, workshop, scripted) -> None:
    sequential(house)
    model = scripted(script_call("one", "two"), {"text": "ok"})
    id = house.post("go").turn_id
    workshop.work(workshop.taker(model, tools=[named("one"), named("two")]))
    call = called(("one", "one", {}), ("two", "two", {}))
    one, two = result("one", "one", "one"), result("two", "two", "two")
    assert told(house, id, sequential=True) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("{}{}", "toolcall_delta"),
        message_end(call),
        starts("one", "one", {}),
        ends(one),
        *whole(one),
        starts("two", "two", {}),
        ends(two),
        *whole(two),
        turn_end(call, one, two),
        TURN_START,
        ASSISTANT_START,
        piece("ok"),
        message_end(said("ok")),
        turn_end(said("ok")),
        agent_end(user("go"), call, one, two, said("ok")),
    ]


@pytest.mark.line("P28")
def test_a_steering_message_skips_what_has_not_begun(house, workshop, scripted) -> None:
    sequential(house)
    model = scripted(script_call("one", "two"), {"text": "done that"})
    id = house.post("go").turn_id
    tools = [named("one", lambda _: house.post("do that") and None), named("two")]
    workshop.work(workshop.taker(model, tools=tools))
    call = called(("one", "one", {}), ("two", "two", {}))
    one = result("one", "one", "one")
    two = result("two", "two", SKIPPED, is_error=True)
    assert told(house, id, sequential=True) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("{}{}", "toolcall_delta"),
        message_end(call),
        starts("one", "one", {}),
        ends(one),
        *whole(one),
        starts("two", "two", {}),
        ends(two),
        *whole(two),
        turn_end(call, one, two),
        TURN_START,
        *whole(user("do that")),
        ASSISTANT_START,
        piece("done that"),
        message_end(said("done that")),
        turn_end(said("done that")),
        agent_end(user("go"), call, one, two, user("do that"), said("done that")),
    ]


@pytest.mark.line("P29")
def test_a_follow_up_goes_on_where_the_turn_would_end(house, workshop) -> None:
    class Told(ScriptedModel):
        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            if len(request.messages) == 1:
                house.post("and this", priority=Priority.NORMAL)
            return super().stream(request, emit, interrupt)

    id = house.post("go").turn_id
    workshop.work(workshop.taker(Told([{"text": "one"}, {"text": "two"}])))
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("one"),
        message_end(said("one")),
        turn_end(said("one")),
        TURN_START,
        *whole(user("and this")),
        ASSISTANT_START,
        piece("two"),
        message_end(said("two")),
        turn_end(said("two")),
        agent_end(user("go"), said("one"), user("and this"), said("two")),
    ]


@pytest.mark.line("P37")
def test_an_interrupt_keeps_what_was_said_and_ends_the_round(house, workshop) -> None:
    class Interrupted(ScriptedModel):
        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            def heard(delta: Delta) -> None:
                emit(delta)
                with house.write() as tx:
                    turns.interrupt(tx, "scout")

            return super().stream(request, heard, interrupt)

    id = house.post("go").turn_id
    model = Interrupted([{"text": "fi rst", "token_seconds": 0.2}])
    taker = workshop.taker(model)
    taker.keeper.start()
    workshop.work(taker)
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("fi"),
        message_end(said("fi", "aborted")),
        turn_end(said("fi", "aborted")),
        agent_end(user("go"), said("fi", "aborted")),
    ]


def test_an_interrupt_between_tools_ends_the_turn_with_their_results(
    house, workshop, scripted
) -> None:
    sequential(house)

    def act(context: ToolContext) -> None:
        house.post("stop", priority=Priority.INTERRUPT)

    id = house.post("go").turn_id
    model = scripted(script_call("one", "two"), {"text": "to the second"})
    taker = workshop.taker(model, tools=[named("one", act), named("two")])
    taker.take(house.hints.pop(0))
    call = called(("one", "one", {}), ("two", "two", {}))
    one = result("one", "one", "one")
    two = result("two", "two", INTERRUPTED, is_error=True)
    assert told(house, id, sequential=True) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("{}{}", "toolcall_delta"),
        message_end(call),
        starts("one", "one", {}),
        ends(one),
        *whole(one),
        starts("two", "two", {}),
        ends(two),
        *whole(two),
        turn_end(call, one, two),
        agent_end(user("go"), call, one, two),
    ]


@pytest.mark.line("P37")
def test_a_provider_error_ends_the_round_and_the_run(house, workshop, scripted) -> None:
    error = {"status": 400, "message": "no such model"}
    id = house.post("go").turn_id
    workshop.work(workshop.taker(scripted({"error": error})))
    failed = {**said("", "error"), "errorMessage": "no such model"}
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        message_end(failed),
        turn_end(failed),
        agent_end(user("go"), failed),
    ]
    assert house.kinds()[-3:] == ["agent_run_error", "turn_end", "agent_end"]


def test_calls_of_an_answer_that_was_cut_off_are_answered_and_not_made(
    house, workshop, scripted
) -> None:
    def never(context: ToolContext) -> None:
        pytest.fail("its arguments may be incomplete")

    model = scripted(script_call("one", "two", stop_reason="length"), {"text": "ok"})
    id = house.post("go").turn_id
    tools = [named("one", never), named("two", never)]
    workshop.work(workshop.taker(model, tools=tools))
    call = called(("one", "one", {}), ("two", "two", {}), stop="length")
    one = result("one", "one", CUT_OFF, is_error=True)
    two = result("two", "two", CUT_OFF, is_error=True)
    assert told(house, id) == [
        AGENT_START,
        TURN_START,
        *whole(user("go")),
        ASSISTANT_START,
        piece("{}{}", "toolcall_delta"),
        message_end(call),
        starts("one", "one", {}),
        ends(one),
        *whole(one),
        starts("two", "two", {}),
        ends(two),
        *whole(two),
        turn_end(call, one, two),
        TURN_START,
        ASSISTANT_START,
        piece("ok"),
        message_end(said("ok")),
        turn_end(said("ok")),
        agent_end(user("go"), call, one, two, said("ok")),
    ]
