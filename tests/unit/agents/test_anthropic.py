"""What is particular to Claude: signatures, cache marks, thinking, histories."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from agents.models import ModelError, Request, ToolSpec
from agents.models.anthropic import BINDING_BETA, CACHED, request_body, think
from agents.models.history import NO_OUTPUT, OPENING
from tests.contract.wires.anthropic import AnthropicWire, check_history, frame
from tests.contract.wires.server import Exchange, FakeServer

WIRE = AnthropicWire()
MODEL = "claude-sonnet-5-5"
EXEC = ToolSpec(name="exec", description="Run.", parameters={"type": "object"})
ASK = ToolSpec(name="ask", description="Ask.", parameters={"type": "object"})
PNG = {"type": "image", "media_type": "image/png", "artifact": "a.1", "name": "cat.png"}
CALL = ToolCall(id="toolu_1", name="exec", arguments={"n": 1}, raw_arguments='{"n": 1}')
THOUGHT = Answer(
    text="Let me see.", reasoning="Hm, hm.", tool_calls=(CALL,), stop_reason="tool_use"
)


def said(text: str, *blocks: dict[str, Any]) -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}, *blocks])


def result(text: str, call: ToolCall = CALL, **more: Any) -> ToolMessage:
    return ToolMessage(
        call_id=call.id, name=call.name, result=ToolResult(text=text, **more)
    )


def told(*messages: Message, model: str = MODEL, **more: Any) -> list[dict[str, Any]]:
    """Return the conversation as it is sent."""
    request = Request(system="", messages=messages, tools=(), **more)
    sent: list[dict[str, Any]] = request_body(model, request)[0]["messages"]
    check_history(sent)
    return sent


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


def ask(server: FakeServer, *messages: Message, **more: Any) -> Answer:
    request = Request(
        system="Be brief.", messages=messages or (said("hi"),), tools=(EXEC,), **more
    )
    model = WIRE.model(server.url, lambda: "key")
    answer = model.stream(request, lambda _: None, Interrupt())
    asked = server.asked[-1]
    WIRE.check(asked.path, asked.headers, asked.body)
    return answer


# What comes back.


def test_a_thought_goes_back_with_its_signature_as_it_came(server) -> None:
    server.gives(Exchange(pieces=WIRE.frames(THOUGHT)))
    answer = ask(server)
    ask(server, said("hi"), AssistantMessage(answer=answer), result("2"))
    assert server.asked[-1].body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm, hm.", "signature": "EqQB+7/=="},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_1", "name": "exec", "input": {"n": 1}},
    ]


def test_a_redacted_thought_is_kept_though_nobody_reads_it(server) -> None:
    block = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    frames = WIRE.frames(Answer(text="Done."))
    start = {"type": "content_block_start", "index": 7, "content_block": block}
    stop = {"type": "content_block_stop", "index": 7}
    server.gives(Exchange(pieces=[frames[0], frame(start), frame(stop), *frames[1:]]))
    answer = ask(server)
    assert answer.reasoning == ""
    assert answer.native is not None
    assert block in answer.native.items


def test_a_thought_that_was_cut_off_is_not_kept(server) -> None:
    pieces = [
        piece
        for piece in WIRE.frames(Answer(reasoning="Hm, hm.", stop_reason="length"))
        if b"signature_delta" not in piece
    ]
    server.gives(Exchange(pieces=pieces))
    answer = ask(server)
    assert (answer.reasoning, answer.stop_reason, answer.native) == (
        "Hm, hm.",
        "length",
        None,
    )


def test_what_no_json_is_goes_back_wrapped(server) -> None:
    call = ToolCall(id="toolu_1", name="exec", arguments=None, raw_arguments='{"n": ')
    spoken = Answer(text="Now.", tool_calls=(call,), stop_reason="tool_use")
    server.gives(Exchange(pieces=WIRE.frames(spoken)))
    answer = ask(server)
    assert answer.tool_calls == (call,)
    for each in (answer, spoken):  # in its native form, and without one
        sent = told(said("hi"), AssistantMessage(answer=each), result("no", call))
        assert sent[1]["content"][-1]["input"] == {"INVALID_JSON": '{"n": '}


def test_arguments_may_come_whole_or_not_at_all(server) -> None:
    call = ToolCall(id="toolu_1", name="exec", arguments={}, raw_arguments="{}")
    pieces = [
        piece
        for piece in WIRE.frames(Answer(tool_calls=(call,), stop_reason="tool_use"))
        if b"input_json_delta" not in piece
    ]
    server.gives(Exchange(pieces=pieces))
    assert ask(server).tool_calls == (call,)


def test_counts_grow_and_are_never_added_up(server) -> None:
    usage = Usage(
        input_tokens=5, output_tokens=70, cache_read_tokens=900, cache_write_tokens=30
    )
    server.gives(Exchange(pieces=WIRE.frames(Answer(text="Hi.", usage=usage))))
    assert ask(server).usage == usage


@pytest.mark.parametrize(
    ("reason", "neutral"),
    [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("max_tokens", "length"),
        ("pause_turn", "length"),
        ("refusal", "refusal"),
        ("something_new", "end"),
    ],
)
def test_each_reason_to_stop_has_a_neutral_one(server, reason, neutral) -> None:
    stop = json.dumps(reason).encode()
    pieces = WIRE.frames(Answer(text="Hi."))
    pieces = [piece.replace(b'"end_turn"', stop) for piece in pieces]
    server.gives(Exchange(pieces=pieces))
    assert ask(server).stop_reason == neutral


def test_a_full_window_is_an_overflow(server) -> None:
    pieces = WIRE.frames(Answer(text="Hi."))
    full = [p.replace(b"end_turn", b"model_context_window_exceeded") for p in pieces]
    server.gives(Exchange(pieces=full))
    with pytest.raises(ModelError) as raised:
        ask(server)
    assert (raised.value.kind, raised.value.is_retriable) == ("context_overflow", False)


def test_a_refused_answer_calls_nothing_and_is_not_sent_back_natively(server) -> None:
    refused = Answer(text="I will", tool_calls=(CALL,), stop_reason="refusal")
    server.gives(Exchange(pieces=WIRE.frames(refused)))
    assert ask(server) == Answer(text="I will", stop_reason="refusal")


def test_a_wrong_request_is_not_tried_again_though_it_is_told_in_a_stream(
    server,
) -> None:
    told = frame(WIRE.error_body(400, "messages.1: the block is bound elsewhere"))
    server.gives(Exchange(pieces=[*WIRE.unfinished(Answer(text="Hi.")), told]))
    with pytest.raises(ModelError, match="bound elsewhere") as raised:
        ask(server)
    assert (raised.value.kind, raised.value.is_retriable) == ("bad_request", False)


def test_an_answer_that_is_whole_needs_no_end_of_its_stream(server) -> None:
    answer = Answer(text="Hi.")
    for then in ("cut", "stall"):
        server.gives(Exchange(pieces=WIRE.frames(answer), then=then))
        assert ask(server).text == "Hi."


# What is sent.


def test_the_frozen_prefix_is_marked_and_its_tools_are_in_one_order() -> None:
    bodies = [
        request_body(MODEL, Request(system="S", messages=(said("hi"),), tools=tools))[0]
        for tools in [(EXEC, ASK), (ASK, EXEC)]
    ]
    assert json.dumps(bodies[0]) == json.dumps(bodies[1])
    assert [tool["name"] for tool in bodies[0]["tools"]] == ["ask", "exec"]
    marks = [tool.get("cache_control") for tool in bodies[0]["tools"]]
    assert marks == [None, CACHED]
    assert bodies[0]["system"] == [
        {"type": "text", "text": "S", "cache_control": CACHED}
    ]
    assert bodies[0]["cache_control"] == CACHED


def test_nothing_is_sent_for_no_system_and_no_tools() -> None:
    request = Request(system="", messages=(said("hi"),), tools=())
    body, _ = request_body("claude-haiku-4-5", request)
    assert set(body) == {"model", "max_tokens", "messages", "cache_control"}


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        (MODEL, None, 128_000),
        (MODEL, 500, 500),
        ("claude-haiku-4-5-20251001", None, 64_000),
        ("claude-haiku-4-5", 1_000_000, 64_000),
        ("claude-unheard-of", None, 32_000),
    ],
)
def test_an_answer_may_be_as_long_as_its_model_can(model, asked, sent) -> None:
    request = Request(
        system="", messages=(said("hi"),), tools=(), max_output_tokens=asked
    )
    assert request_body(model, request)[0]["max_tokens"] == sent


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
BOUND = {**ADAPTIVE, "block_binding": {"prefix_mismatch_behavior": "drop_block"}}


@pytest.mark.line("P36")
@pytest.mark.parametrize(
    ("model", "level", "thinking", "effort"),
    [
        ("claude-sonnet-5-5", None, BOUND, None),
        ("claude-sonnet-5-5", "off", {"type": "between_tools"}, None),
        ("claude-sonnet-5-5", "minimal", BOUND, "low"),
        ("claude-sonnet-5-5", "xhigh", BOUND, "xhigh"),
        ("claude-opus-5-5", "off", BOUND, "low"),
        ("claude-opus-5", "off", {"type": "disabled"}, None),
        ("claude-opus-5", "medium", ADAPTIVE, "medium"),
        ("claude-fable-5", None, ADAPTIVE, None),
        ("claude-fable-5-2", None, BOUND, None),
        ("claude-opus-4-7", None, None, None),
        ("claude-opus-4-7", "off", None, None),
        ("claude-opus-4-7", "low", ADAPTIVE, "low"),
        ("claude-opus-4-6", "xhigh", ADAPTIVE, "high"),
        ("claude-haiku-4-5", None, None, None),
        ("claude-haiku-4-5", "off", {"type": "disabled"}, None),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 4096}, None),
        ("claude-unheard-of", None, None, None),
        ("claude-unheard-of", "high", ADAPTIVE, "high"),
    ],
)
def test_a_level_of_thinking_is_what_its_model_knows(
    model, level, thinking, effort
) -> None:
    assert think(model, level, 64_000) == (thinking, effort)


def test_a_budget_leaves_room_for_the_answer() -> None:
    enabled = {"type": "enabled", "budget_tokens": 1_976}
    assert think("claude-haiku-4-5", "high", 3_000) == (enabled, None)
    assert think("claude-haiku-4-5", "high", 2_000) == ({"type": "disabled"}, None)


def test_the_binding_of_thoughts_is_told_with_its_beta_and_never_without() -> None:
    request = Request(system="", messages=(said("hi"),), tools=())
    assert request_body(MODEL, request)[1] == {"anthropic-beta": BINDING_BETA}
    assert request_body("claude-opus-5", request)[1] == {}


def test_without_thinking_no_earlier_thought_is_sent(server) -> None:
    server.gives(Exchange(pieces=WIRE.frames(THOUGHT)))
    answer = AssistantMessage(answer=ask(server))
    sent = told(said("hi"), answer, result("2"), thinking="off")
    assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use"]


# Histories.


def test_what_the_user_says_in_a_row_is_one_message() -> None:
    empty = AssistantMessage(answer=Answer(stop_reason="refusal", reasoning="Hm."))
    framed = UserMessage(content=[{"type": "text", "text": "b"}], framed="<news> b")
    sent = told(said("a"), empty, framed, said(" "), said("c"))
    texts = [{"type": "text", "text": text} for text in ("a", "<news> b", "c")]
    assert sent == [{"role": "user", "content": texts}]


def test_the_user_begins_also_where_the_history_does_not() -> None:
    sent = told(AssistantMessage(answer=Answer(text="Hello.")), said("hi"))
    assert sent[0] == {"role": "user", "content": [{"type": "text", "text": OPENING}]}


def test_all_results_of_an_answer_are_in_one_message_before_anything_else() -> None:
    calls = (CALL, ToolCall(id="toolu_2", name="ask", arguments={}))
    sent = told(
        said("hi"),
        AssistantMessage(answer=Answer(tool_calls=calls, stop_reason="tool_use")),
        result("2"),
        result("", calls[1], status="failed"),
        said("and now?"),
    )
    assert sent[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "2"}],
        },
        {
            "type": "tool_result",
            "tool_use_id": "toolu_2",
            "content": [{"type": "text", "text": NO_OUTPUT}],
            "is_error": True,
        },
        {"type": "text", "text": "and now?"},
    ]


def test_ids_of_others_are_made_safe_and_unique() -> None:
    call = ToolCall(id="fc|1/ü", name="exec", arguments={})
    calling = AssistantMessage(answer=Answer(tool_calls=(call,)))
    sent = told(said("a"), calling, result("1", call), calling, result("2", call))
    ids = [sent[index]["content"][0]["id"] for index in (1, 3)]
    answered = [sent[index]["content"][0]["tool_use_id"] for index in (2, 4)]
    assert ids == answered == ["fc_1__", "fc_1___2"]


# Images.


def test_an_image_is_sent_as_its_bytes_in_messages_and_in_results() -> None:
    content = b"\x89PNG\r\n\x1a\n..."
    calling = AssistantMessage(answer=Answer(tool_calls=(CALL,)))
    sent = told(
        said("Look.", PNG),
        calling,
        result("A cat.", blocks=(PNG,)),
        image_bytes={"a.1": content}.__getitem__,
    )
    data = base64.b64encode(content).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    image = {"type": "image", "source": source}
    assert sent[0]["content"][1] == image
    assert sent[2]["content"][0]["content"][1] == image


def test_an_image_that_is_gone_or_unreadable_is_told_of() -> None:
    tiff = {**PNG, "media_type": "image/tiff", "name": "fax.tiff"}
    sent = told(said("Look.", PNG, tiff))
    assert [block["text"] for block in sent[0]["content"][1:]] == [
        "[The image cat.png is no longer there.]",
        "[The image fax.tiff cannot be shown: image/tiff is not read here.]",
    ]


def test_beside_an_error_no_image_is_sent() -> None:
    calling = AssistantMessage(answer=Answer(tool_calls=(CALL,)))
    failed = result("No.", status="failed", blocks=(PNG,))
    sent = told(said("hi"), calling, failed)
    assert sent[2]["content"][0]["content"] == [{"type": "text", "text": "No."}]
