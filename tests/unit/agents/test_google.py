"""What is particular to Gemini: signatures, ids, thinking, counts, and histories."""

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
from agents.models import Delta, ModelError, Request, ToolSpec
from agents.models.google import NO_SIGNATURE, GoogleModel, think
from agents.models.history import OPENING
from agents.models.provider import Access
from tests.contract.wires.google import MODEL, SIGNATURE, GoogleWire, frame
from tests.contract.wires.server import Exchange, FakeServer

WIRE = GoogleWire()
EXEC = ToolSpec(name="exec", description="Run.", parameters={"type": "object"})
ASK = ToolSpec(name="ask", description="Ask.", parameters={"type": "object"})
PNG = {"type": "image", "media_type": "image/png", "artifact": "a.1", "name": "cat.png"}
BYTES = b"\x89PNG\r\n\x1a\n\xfb\xff"
CALL = ToolCall(id="fn_1", name="exec", arguments={"n": 1}, raw_arguments='{"n": 1}')
USAGE = Usage(input_tokens=40, output_tokens=12, cache_read_tokens=100)
THOUGHT = Answer(
    text="Let me see.",
    reasoning="Hm, hm.",
    tool_calls=(CALL,),
    stop_reason="tool_use",
    usage=USAGE,
)


def said(text: str, *blocks: dict[str, Any]) -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}, *blocks])


def result(text: str, call: ToolCall = CALL, **more: Any) -> ToolMessage:
    return ToolMessage(
        call_id=call.id, name=call.name, result=ToolResult(text=text, **more)
    )


def calling(*calls: ToolCall) -> AssistantMessage:
    return AssistantMessage(answer=Answer(tool_calls=calls or (CALL,)))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        running.gives(Exchange(pieces=WIRE.frames(Answer(text="Hi."))))
        yield running


def ask(server: FakeServer, *messages: Message, **more: Any) -> Answer:
    given: dict[str, Any] = {"tools": (EXEC,), "messages": messages or (said("hi"),)}
    request = Request(system="Be brief.", **{**given, **more})
    model = WIRE.model(server.url, lambda: "key")
    answer = model.stream(request, lambda _: None, Interrupt())
    asked = server.asked[-1]
    WIRE.check(asked.path, asked.headers, asked.body)
    return answer


def told(server: FakeServer, *messages: Message, **more: Any) -> list[dict[str, Any]]:
    """Return the conversation as it is sent."""
    ask(server, *messages, **more)
    sent: list[dict[str, Any]] = server.asked[-1].body["contents"]
    return sent


def chunk(*parts: dict[str, Any], finish: str | None = "STOP") -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish:
        candidate["finishReason"] = finish
    return frame({"candidates": [candidate]})


def urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


# What comes back.


def test_parts_go_back_with_their_signatures_and_text_is_joined(server) -> None:
    server.gives(Exchange(pieces=WIRE.frames(THOUGHT)))
    answer = ask(server)
    assert answer.usage == USAGE
    sent = told(server, said("hi"), AssistantMessage(answer=answer), result("2"))
    signature = urlsafe(base64.b64decode(SIGNATURE))
    made = {"id": "fn_1", "name": "exec", "args": {"n": 1}}
    assert sent[1] == {
        "role": "model",
        "parts": [
            {"text": "Hm, hm.", "thought": True},
            {"text": "Let me see."},
            {"functionCall": made, "thoughtSignature": signature},
        ],
    }


def test_a_signature_stays_with_its_own_part_be_it_empty(server) -> None:
    pieces = [
        chunk({"text": "a"}, finish=None),
        chunk({"text": "b", "thoughtSignature": "QUFB"}, finish=None),
        chunk({"text": "c"}, {"text": "d"}, finish=None),
        chunk({"text": "", "thoughtSignature": "QkJC"}, {"text": ""}),
    ]
    server.gives(Exchange(pieces=pieces))
    answer = ask(server)
    assert answer.text == "abcd"
    assert answer.native is not None
    assert answer.native.items == (
        {"text": "a"},
        {"text": "b", "thoughtSignature": "QUFB"},
        {"text": "cd"},
        {"text": "", "thoughtSignature": "QkJC"},
    )


def test_calls_without_ids_get_some_that_are_not_sent(server) -> None:
    made = [{"functionCall": {"name": "exec", "args": {"n": n}}} for n in (1, 2)]
    signed = {**made[0], "thoughtSignature": "QUFB"}
    server.gives(Exchange(pieces=[chunk(signed, finish=None), chunk(made[1])]))
    deltas: list[Delta] = []
    request = Request(system="", messages=(said("hi"),), tools=(EXEC,))
    model = WIRE.model(server.url, lambda: "key")
    answers = [model.stream(request, deltas.append, Interrupt()) for _ in range(2)]
    ids = [call.id for answer in answers for call in answer.tool_calls]
    assert len(set(ids)) == 4
    assert [delta.tool_call_id for delta in deltas] == ids
    assert answers[0].stop_reason == "tool_use"
    results = [result(str(n), call) for n, call in enumerate(answers[0].tool_calls)]
    sent = told(server, said("hi"), AssistantMessage(answer=answers[0]), *results)
    assert sent[1]["parts"] == [signed, made[1]]
    assert sent[2]["parts"] == [
        {"functionResponse": {"name": "exec", "response": {"output": str(n)}}}
        for n in (0, 1)
    ]


def test_an_id_that_comes_twice_in_an_answer_is_used_once(server) -> None:
    made = {"functionCall": {"id": "fn_1", "name": "exec", "args": {}}}
    server.gives(Exchange(pieces=[chunk(made, made)]))
    first, second = ask(server).tool_calls
    assert first.id == "fn_1"
    assert second.id != "fn_1"


@pytest.mark.parametrize(
    ("reason", "neutral"),
    [
        ("STOP", "end"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
    ],
)
def test_each_reason_to_stop_has_a_neutral_one(server, reason, neutral) -> None:
    server.gives(Exchange(pieces=[chunk({"text": "Hi."}, finish=reason)]))
    answer = ask(server)
    assert (answer.text, answer.stop_reason) == ("Hi.", neutral)
    assert (answer.native is None) == (neutral == "refusal")


@pytest.mark.parametrize(
    ("reason", "kind", "is_retriable"),
    [
        ("MALFORMED_FUNCTION_CALL", "malformed", True),
        ("OTHER", "malformed", True),
        ("MISSING_THOUGHT_SIGNATURE", "bad_request", False),
        ("PUP_LIMITED_DISABLED", "forbidden", False),
    ],
)
def test_an_answer_that_went_wrong_is_an_error(
    server, reason, kind, is_retriable
) -> None:
    server.gives(Exchange(pieces=[chunk({"text": "Hi."}, finish=reason)]))
    with pytest.raises(ModelError, match=reason) as raised:
        ask(server)
    assert (raised.value.kind, raised.value.is_retriable) == (kind, is_retriable)


def test_a_question_that_is_refused_has_an_empty_answer(server) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    server.gives(Exchange(pieces=[frame(blocked)]))
    assert ask(server) == Answer(stop_reason="refusal")


def test_an_answer_is_never_gone_on_with_behind_our_back(server) -> None:
    token = {"finishReason": "CONTINUATION", "continuationToken": "QUFB"}
    content = {"role": "model", "parts": [{"text": "Hi."}]}
    more = frame({"candidates": [{"content": content, **token}]})
    server.gives(Exchange(pieces=[more]))
    assert ask(server).stop_reason == "length"
    assert len(server.asked) == 1


@pytest.mark.line("P39")
@pytest.mark.parametrize(
    ("delay", "seconds", "is_retriable"), [("34.5s", 34.5, True), ("90s", 90.0, False)]
)
def test_a_delay_is_read_from_the_body(server, delay, seconds, is_retriable) -> None:
    body = WIRE.error_body(429, "Quota exceeded.")
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body["error"]["details"] = [{"@type": "…/google.rpc.Help", "links": []}, info]
    server.gives(Exchange(status=429, body=body))
    with pytest.raises(ModelError, match="Quota exceeded") as raised:
        ask(server)
    assert raised.value.retry_after_seconds == seconds
    assert (raised.value.kind, raised.value.is_retriable) == (
        "rate_limited",
        is_retriable,
    )


def test_an_error_without_a_code_in_a_stream_is_malformed(server) -> None:
    server.gives(Exchange(pieces=[frame({"error": {"message": "x"}})]))
    with pytest.raises(ModelError) as raised:
        ask(server)
    assert (raised.value.kind, raised.value.is_retriable) == ("malformed", True)


# What is sent.


def test_tools_are_in_one_order_with_their_schemas_as_they_are(server) -> None:
    for tools in [(EXEC, ASK), (ASK, EXEC)]:
        ask(server, tools=tools)
    first, second = (asked.body for asked in server.asked)
    assert json.dumps(first) == json.dumps(second)
    declared = first["tools"][0]["functionDeclarations"]
    assert [each["name"] for each in declared] == ["ask", "exec"]
    assert declared[0]["parameters_json_schema"] == ASK.parameters


@pytest.mark.line("P36")
@pytest.mark.parametrize(
    ("model", "level", "sent"),
    [
        ("gemini-3.8-flash", None, {"include_thoughts": True}),
        ("gemini-3.8-flash", "off", {"include_thoughts": False, "level": "LOW"}),
        ("gemini-3.8-flash", "minimal", {"include_thoughts": True, "level": "LOW"}),
        ("gemini-3-flash", "minimal", {"include_thoughts": True, "level": "MINIMAL"}),
        ("gemini-4-argon", "medium", {"include_thoughts": True, "level": "MEDIUM"}),
        ("gemini-4-argon", "xhigh", {"include_thoughts": True, "level": "HIGH"}),
        ("gemini-2.5-flash", "off", {"include_thoughts": False, "budget": 0}),
        ("gemini-2.5-pro", "off", {"include_thoughts": False, "budget": 128}),
        ("gemini-2.5-pro", "high", {"include_thoughts": True, "budget": 24_576}),
        ("gemma-unheard-of", "high", None),
    ],
)
def test_a_level_of_thinking_is_what_its_model_knows(model, level, sent) -> None:
    config = think(model, level)
    if sent is None:
        assert config is None
        return
    assert config is not None
    found = {
        "include_thoughts": config.include_thoughts,
        "level": config.thinking_level and config.thinking_level.value,
        "budget": config.thinking_budget,
    }
    assert found == {"level": None, "budget": None, **sent}


@pytest.mark.parametrize("level", [None, "low"])
def test_a_request_with_any_thinking_is_one_that_google_takes(server, level) -> None:
    ask(server, thinking=level, max_output_tokens=99)
    settings = server.asked[-1].body["generationConfig"]
    assert settings["maxOutputTokens"] == 99


# Histories.


def test_what_the_user_says_in_a_row_is_one_turn(server) -> None:
    empty = AssistantMessage(answer=Answer(stop_reason="refusal", reasoning="Hm."))
    framed = UserMessage(content=[{"type": "text", "text": "b"}], framed="<news> b")
    sent = told(server, said("a"), empty, framed, said(" "), said("c"))
    parts = [{"text": "a"}, {"text": "<news> b"}, {"text": "c"}]
    assert sent == [{"role": "user", "parts": parts}]


def test_the_user_begins_also_where_the_history_does_not(server) -> None:
    sent = told(server, AssistantMessage(answer=Answer(text="Hello.")), said("hi"))
    assert sent[0] == {"role": "user", "parts": [{"text": OPENING}]}


def test_results_have_a_turn_of_their_own_and_say_what_failed(server) -> None:
    calls = (CALL, ToolCall(id="fn_2", name="ask", arguments={}))
    failed = result("No.", calls[1], status="failed")
    sent = told(
        server, said("hi"), calling(*calls), result("2"), failed, said("and now?")
    )
    responses = [part["functionResponse"] for part in sent[2]["parts"]]
    assert responses == [
        {"id": "fn_1", "name": "exec", "response": {"output": "2"}},
        {"id": "fn_2", "name": "ask", "response": {"error": "No."}},
    ]
    assert sent[3] == {"role": "user", "parts": [{"text": "and now?"}]}


def test_calls_of_others_are_signed_as_google_says(server) -> None:
    calls = (CALL, ToolCall(id="fn_2", name="ask", arguments={}))
    sent = told(server, said("hi"), calling(*calls), result("1"), result("2", calls[1]))
    signatures = [part.get("thoughtSignature") for part in sent[1]["parts"]]
    assert signatures == [urlsafe(NO_SIGNATURE), None]


def test_another_gemini_s_answer_is_told_in_the_neutral_form(server) -> None:
    server.gives(Exchange(pieces=WIRE.frames(THOUGHT)))
    answer = AssistantMessage(answer=ask(server))
    access = Access(
        provider="google",
        key_name=None,
        find_key=lambda: "key",
        base_url=server.url,
    )
    model = GoogleModel("gemini-2.5-pro", access)
    request = Request(
        system="", messages=(said("hi"), answer, result("2")), tools=(EXEC,)
    )
    model.stream(request, lambda _: None, Interrupt())
    made = {"id": "fn_1", "name": "exec", "args": {"n": 1}}
    parts = [{"text": "Let me see."}, {"functionCall": made}]
    assert server.asked[-1].body["contents"][1] == {"role": "model", "parts": parts}


# Images.


def test_an_image_is_sent_as_its_bytes_in_messages_and_in_results(server) -> None:
    sent = told(
        server,
        said("Look.", PNG),
        calling(),
        result("A cat.", blocks=(PNG,)),
        image_bytes={"a.1": BYTES}.__getitem__,
    )
    image = {"mime_type": "image/png", "data": urlsafe(BYTES)}
    assert sent[0]["parts"][1] == {"inlineData": image}
    response = sent[2]["parts"][0]["functionResponse"]
    assert response["parts"] == [{"inline_data": image}]


def test_an_image_that_is_gone_or_unreadable_is_told_of(server) -> None:
    gif = {**PNG, "media_type": "image/gif", "name": "cat.gif"}
    sent = told(
        server, said("Look.", PNG, gif), calling(), result("A cat.", blocks=(PNG,))
    )
    gone = {"text": "[The image cat.png is no longer there.]"}
    unread = "[The image cat.gif cannot be shown: image/gif is not read here.]"
    assert sent[0]["parts"][1:] == [gone, {"text": unread}]
    assert sent[3] == {"role": "user", "parts": [gone]}


def test_the_model_is_named_with_its_provider_and_knows_its_window(server) -> None:
    model = WIRE.model(server.url, lambda: "key")
    assert (model.name, model.context_tokens) == (f"google/{MODEL}", 1_048_576)
