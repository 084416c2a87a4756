"""What is particular to the Responses API; what holds for all is in test_models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    Native,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from agents.models import Delta, ModelError, Request, ToolSpec
from agents.models.openai_responses import ResponsesModel
from agents.models.provider import Access
from tests.contract.wires import openai_responses as said
from tests.contract.wires.server import Exchange, FakeServer

JSON = dict[str, Any]

LOOK = ToolCall(id="call_a", name="look", arguments={}, raw_arguments="{}")
THINKS = Native(
    provider="openai",
    model="gpt-6-sol",
    items=(
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gA"},
        {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_a",
            "name": "look",
            "arguments": "{}",
        },
    ),
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


def model(name: str = "gpt-6-sol", url: str | None = None) -> ResponsesModel:
    access = Access(
        provider="openai",
        key_name="OPENAI_API_KEY",
        find_key=lambda: "key",
        base_url=url,
    )
    return ResponsesModel(name, access)


def user(text: str) -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}])


def asked(*messages: Message, **more: Any) -> Request:
    return Request(system="", messages=messages or (user("hi"),), tools=(), **more)


def hear(server: FakeServer, events: list[JSON], *messages: Message) -> Answer:
    """Return the answer that these events make."""
    server.gives(Exchange(pieces=[said.frame(event) for event in events]))
    opened = model(url=f"{server.url}/v1")
    return opened.stream(asked(*messages), lambda _: None, Interrupt())


def whole(events: list[JSON], **more: Any) -> list[JSON]:
    output = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    ended = {**said.response("completed", output, None), **more}
    return [*events, {"type": f"response.{ended['status']}", "response": ended}]


# What is asked.


def test_nothing_is_stored_and_encrypted_reasoning_is_asked_for() -> None:
    body = model().body(asked(cache_key="agent-1"))
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["prompt_cache_key"] == "agent-1"
    assert "instructions" not in body
    assert "tools" not in body


def test_a_long_cache_key_is_shortened_to_the_same_one_each_time() -> None:
    first, second = (model().body(asked(cache_key="k" * 65)) for _ in range(2))
    assert first["prompt_cache_key"] == second["prompt_cache_key"]
    assert len(first["prompt_cache_key"]) <= 64


def test_schemas_go_as_they_are_in_their_order_and_not_strict() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "format": "u"}}}
    tools = tuple(
        ToolSpec(name=name, description="d", parameters=schema) for name in ("b", "a")
    )
    body = model().body(Request(system="s", messages=(user("hi"),), tools=tools))
    assert [tool["name"] for tool in body["tools"]] == ["b", "a"]
    assert [tool["parameters"] for tool in body["tools"]] == [schema, schema]
    assert {tool["strict"] for tool in body["tools"]} == {False}


@pytest.mark.parametrize(
    ("level", "reasoning"),
    [
        (None, {"summary": "auto"}),
        ("off", {"effort": "none"}),
        ("minimal", {"effort": "minimal", "summary": "auto"}),
        ("xhigh", {"effort": "xhigh", "summary": "auto"}),
    ],
)
def test_a_thinking_level_is_an_effort(level: Any, reasoning: JSON) -> None:
    assert model().body(asked(thinking=level))["reasoning"] == reasoning


def test_a_model_that_does_not_think_is_asked_for_no_reasoning() -> None:
    body = model("gpt-4.1").body(asked(thinking="high"))
    assert not {"reasoning", "include"} & set(body)


def test_an_unknown_model_is_asked_to_think_only_when_somebody_says_so() -> None:
    assert "reasoning" not in model("new-one").body(asked())
    body = model("new-one").body(asked(thinking="low"))
    assert body["reasoning"]["effort"] == "low"


def test_an_answer_goes_back_as_it_came_to_the_model_that_gave_it() -> None:
    answer = Answer(tool_calls=(LOOK,), native=THINKS)
    result = ToolMessage(call_id="call_a", name="look", result=ToolResult(text="sky"))
    history = (user("hi"), AssistantMessage(answer=answer), result)
    items = model().body(asked(*history))["input"]
    assert items[1:3] == list(THINKS.items)
    other = model("gpt-6-luna").body(asked(*history))["input"]
    assert [item["type"] for item in other] == [
        "message",
        "function_call",
        "function_call_output",
    ]


def test_an_answer_whose_calls_were_changed_goes_back_in_the_neutral_form() -> None:
    changed = ToolCall(id="call_b", name="look", arguments={}, raw_arguments="{}")
    answer = Answer(tool_calls=(changed,), native=THINKS)
    items = model().body(asked(user("hi"), AssistantMessage(answer=answer)))["input"]
    assert items[1:] == [
        {
            "type": "function_call",
            "call_id": "call_b",
            "name": "look",
            "arguments": "{}",
        }
    ]


def test_an_image_of_a_result_stands_in_the_result() -> None:
    image = {
        "type": "image",
        "media_type": "image/png",
        "artifact": "a",
        "name": "sky.png",
        "fidelity": "high",
    }
    result = ToolMessage(
        call_id="call_a", name="look", result=ToolResult(text="seen", blocks=(image,))
    )
    history = (
        user("hi"),
        AssistantMessage(answer=Answer(tool_calls=(LOOK,))),
        result,
    )
    shown = model().body(asked(*history, image_bytes=lambda _: b"\x89PNG"))["input"]
    assert shown[-1]["output"] == [
        {"type": "input_text", "text": "seen"},
        {
            "type": "input_image",
            "image_url": "data:image/png;base64,iVBORw==",
            "detail": "high",
        },
    ]
    gone = model().body(asked(*history))["input"]
    assert "no longer there" in gone[-1]["output"][1]["text"]


def test_an_empty_message_is_left_out() -> None:
    empty = (UserMessage(content=[]), AssistantMessage(answer=Answer()))
    assert len(model().body(asked(*empty, user("hi")))["input"]) == 1


# What is heard.


def test_parts_are_divided_by_a_blank_line_also_as_they_stream(
    server: FakeServer,
) -> None:
    events = whole([*said.message(0, "First I look."), *said.message(1, "Done.")])
    server.gives(Exchange(pieces=[said.frame(event) for event in events]))
    deltas: list[Delta] = []
    opened = model(url=f"{server.url}/v1")
    answer = opened.stream(asked(), deltas.append, Interrupt())
    assert answer.text == "First I look.\n\nDone."
    assert "".join(delta.text for delta in deltas) == answer.text


def test_an_answer_without_deltas_is_heard_from_its_items(server: FakeServer) -> None:
    events = whole([*said.reasoning(0, "Hm."), *said.function_call(1, LOOK)])
    answer = hear(server, [e for e in events if not e["type"].endswith(".delta")])
    assert (answer.reasoning, answer.tool_calls) == ("Hm.", (LOOK,))
    alone = hear(server, events[-1:])
    assert (alone.reasoning, alone.tool_calls) == ("Hm.", (LOOK,))
    assert alone.native == answer.native


def test_usage_counts_what_was_neither_read_from_nor_written_to_a_cache(
    server: FakeServer,
) -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 7,
    }
    assert hear(server, whole(said.message(0, "hi"), usage=usage)).usage == Usage(
        input_tokens=10, output_tokens=7, cache_read_tokens=60, cache_write_tokens=30
    )


def test_an_answer_that_was_cut_off_is_not_kept_as_it_came(server: FakeServer) -> None:
    cut = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    answer = hear(server, whole(said.reasoning(0, "Hm."), **cut))
    assert (answer.stop_reason, answer.native) == ("length", None)


def test_a_filtered_answer_is_a_refusal_without_calls(server: FakeServer) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    answer = hear(server, whole(said.function_call(0, LOOK), **cut))
    assert (answer.stop_reason, answer.tool_calls) == ("refusal", ())


def test_a_call_that_was_cut_off_keeps_what_came_of_its_arguments(
    server: FakeServer,
) -> None:
    call = ToolCall(id="call_a", name="look", arguments=None, raw_arguments='{"a": [1')
    events = said.function_call(0, call)[:-2]  # it is never done
    cut = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    answer = hear(server, whole(events, **cut))
    assert (answer.stop_reason, answer.tool_calls) == ("length", (call,))


def test_reasoning_that_cannot_go_back_keeps_its_answer_neutral(
    server: FakeServer,
) -> None:
    bare = {"id": "rs_0", "type": "reasoning", "summary": []}
    done = {"type": "response.output_item.done", "output_index": 0, "item": bare}
    assert hear(server, whole([done, *said.message(1, "hi")])).native is None
    assert hear(server, whole(said.reasoning(0, "Hm."))).native is None


def test_nulls_are_not_sent_back(server: FakeServer) -> None:
    done = {"id": "msg_0", "type": "message", "role": "assistant", "phase": None}
    done["content"] = [{"type": "output_text", "text": "hi", "annotations": []}]
    item = {"type": "response.output_item.done", "output_index": 0, "item": done}
    native = hear(server, whole([item])).native
    assert native is not None
    assert "phase" not in native.items[0]


def test_a_call_id_that_was_used_before_is_replaced_in_what_goes_back(
    server: FakeServer,
) -> None:
    before = AssistantMessage(answer=Answer(tool_calls=(LOOK,)))
    result = ToolMessage(call_id="call_a", name="look", result=ToolResult(text="sky"))
    events = whole(said.function_call(0, LOOK))
    answer = hear(server, events, user("hi"), before, result)
    (call,) = answer.tool_calls
    assert call.id == "call_3_1"
    assert answer.native is not None
    assert answer.native.items[0]["call_id"] == call.id


# What goes wrong.


@pytest.mark.parametrize(
    ("code", "kind", "is_retriable"),
    [
        ("server_error", "provider_error", True),
        ("rate_limit_exceeded", "rate_limited", True),
        ("server_is_overloaded", "overloaded", True),
        ("something_new", "something_new", True),
        ("invalid_prompt", "bad_request", False),
        ("insufficient_quota", "bad_request", False),
        ("context_length_exceeded", "context_overflow", False),
    ],
)
@pytest.mark.parametrize("form", ["failed", "error", "nested"])
def test_an_error_in_a_stream_is_judged_by_its_code(
    server: FakeServer, form: str, code: str, kind: str, is_retriable: bool
) -> None:
    error = {"code": code, "message": "It is so."}
    events = {
        "failed": whole([], status="failed", error=error)[-1],
        "error": {"type": "error", **error},
        "nested": {"type": "error", "error": error},
    }
    with pytest.raises(ModelError, match="It is so") as raised:
        hear(server, [*said.message(0, "hi"), events[form]])
    assert (raised.value.kind, raised.value.is_retriable) == (kind, is_retriable)


def test_no_credit_is_not_waited_for(server: FakeServer) -> None:
    error = {"code": "insufficient_quota", "message": "Check your plan."}
    server.gives(Exchange(status=429, body={"error": error}))
    opened = model(url=f"{server.url}/v1")
    with pytest.raises(ModelError, match="Check your plan") as raised:
        opened.stream(asked(), lambda _: None, Interrupt())
    assert not raised.value.is_retriable


@pytest.mark.parametrize(
    "event",
    [
        [],
        {},
        {"type": "response.output_text.delta"},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.function_call_arguments.delta", "output_index": 9},
        {"type": "response.completed", "response": {"output": [7]}},
        {"type": "response.completed", "response": {"usage": {"output_tokens": 1}}},
    ],
)
def test_a_malformed_event_is_a_model_error(server: FakeServer, event: Any) -> None:
    server.gives(Exchange(pieces=[f"data: {json.dumps(event)}\n\n".encode()]))
    opened = model(url=f"{server.url}/v1")
    with pytest.raises(ModelError) as raised:
        opened.stream(asked(), lambda _: None, Interrupt())
    assert (raised.value.kind, raised.value.is_retriable) == ("malformed", True)


def test_an_answer_that_is_whole_is_kept_when_the_connection_breaks_after_it(
    server: FakeServer,
) -> None:
    pieces = [said.frame(event) for event in whole(said.message(0, "hi"))]
    for then in ("cut", "stall"):
        server.gives(Exchange(pieces=pieces, then=then))
        opened = model(url=f"{server.url}/v1")
        assert opened.stream(asked(), lambda _: None, Interrupt()).text == "hi"
