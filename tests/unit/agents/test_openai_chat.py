"""What is particular to Chat Completions, and to each of its dialects."""

from __future__ import annotations

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
from agents.models import ModelError, Request, ToolSpec
from agents.models.ollama import ollama_root, ollama_url
from agents.models.openai_chat import DIALECTS, ChatModel
from agents.models.provider import Access
from tests.contract.wires.openai_chat import MODELS, frame
from tests.contract.wires.server import Exchange, FakeServer

JSON = dict[str, Any]
PROVIDERS = tuple(DIALECTS)

LOOK = ToolCall(id="call_a", name="look", arguments={}, raw_arguments="{}")
IMAGE = {
    "type": "image",
    "media_type": "image/png",
    "artifact": "a",
    "name": "sky.png",
    "fidelity": "medium",
}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


def model(
    provider: str = "openai-chat", name: str | None = None, url: str | None = None
) -> ChatModel:
    access = Access(
        provider=provider, key_name=None, find_key=lambda: "key", base_url=url
    )
    return ChatModel(name or MODELS[provider], access)


def user(text: str) -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}])


def answered(*calls: ToolCall, **more: Any) -> AssistantMessage:
    return AssistantMessage(answer=Answer(tool_calls=calls, **more))


def result(call: ToolCall, text: str, *blocks: JSON) -> ToolMessage:
    told = ToolResult(text=text, blocks=blocks)
    return ToolMessage(call_id=call.id, name=call.name, result=told)


def asked(*messages: Message, **more: Any) -> Request:
    return Request(system="", messages=messages or (user("hi"),), tools=(), **more)


def chunk(delta: JSON, finish: str | None = None, **more: Any) -> JSON:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


def piece(arguments: Any = "", **more: Any) -> JSON:
    """A piece of a tool call."""
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"type": "function", "function": function, **more}]}


def hear(
    server: FakeServer, *chunks: JSON, provider: str = "openai-chat", **more: Any
) -> Answer:
    """Return the answer that these chunks make."""
    server.gives(Exchange(pieces=[frame(each) for each in chunks]))
    opened = model(provider, url=server.url)
    return opened.stream(asked(**more), lambda _: None, Interrupt())


END = chunk({}, "stop")


# What is asked.


@pytest.mark.parametrize(
    ("provider", "limit"),
    [
        ("openai-chat", "max_completion_tokens"),
        ("openrouter", "max_tokens"),
        ("ollama", "max_tokens"),
    ],
)
def test_an_output_limit_has_the_name_that_the_provider_gives_it(
    provider: str, limit: str
) -> None:
    assert model(provider).body(asked(max_output_tokens=99))[limit] == 99


@pytest.mark.parametrize(
    ("provider", "level", "sent"),
    [
        ("openai-chat", "off", {"reasoning_effort": "none"}),
        ("openai-chat", "xhigh", {"reasoning_effort": "xhigh"}),
        ("openrouter", "minimal", {"reasoning": {"effort": "minimal"}}),
        ("openrouter", "off", {"reasoning": {"effort": "none"}}),
        ("ollama", "off", {"reasoning_effort": "none"}),
        ("ollama", "minimal", {"reasoning_effort": "low"}),
        ("ollama", "xhigh", {"reasoning_effort": "high"}),
        ("ollama", None, {}),
    ],
)
def test_a_thinking_level_is_told_in_the_words_of_the_provider(
    provider: str, level: Any, sent: JSON
) -> None:
    body = model(provider).body(asked(thinking=level))
    found = {name: body[name] for name in body if name.startswith("reasoning")}
    assert found == sent


def test_a_model_that_does_not_think_is_asked_for_no_effort() -> None:
    body = model("openai-chat", "gpt-4.1").body(asked(thinking="high"))
    assert "reasoning_effort" not in body


def test_only_openai_itself_is_told_the_cache_key() -> None:
    request = asked(cache_key="agent-1")
    assert model().body(request)["prompt_cache_key"] == "agent-1"
    others = model(url="http://127.0.0.1:8000/v1").body(request)
    assert "prompt_cache_key" not in others
    assert "prompt_cache_key" not in model("ollama").body(request)


def test_openrouter_keeps_a_session_together_and_caches_where_it_must_be_asked() -> (
    None
):
    request = asked(cache_key="agent-1")
    of_anthropic = model("openrouter", "anthropic/claude-sonnet-5-5").body(request)
    assert of_anthropic["session_id"] == "agent-1"
    assert of_anthropic["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in model("openrouter", "qwen/qwen3").body(request)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_schemas_go_as_they_are_and_not_strict(provider: str) -> None:
    schema = {"type": "object", "properties": {"x": {"anyOf": [{"type": "null"}]}}}
    tools = (ToolSpec(name="look", description="d", parameters=schema),)
    request = Request(system="s", messages=(user("hi"),), tools=tools)
    body = model(provider).body(request)
    assert body["messages"][0] == {"role": "system", "content": "s"}
    assert body["tools"][0]["function"] == {
        "name": "look",
        "description": "d",
        "parameters": schema,
        "strict": False,
    }


def test_users_who_speak_in_a_row_are_told_as_one() -> None:
    empty = AssistantMessage(answer=Answer(stop_reason="interrupted"))
    body = model().body(asked(user("one"), user("two"), empty, user("three")))
    assert body["messages"] == [{"role": "user", "content": "one\n\ntwo\n\nthree"}]


def test_the_images_of_results_follow_the_last_result_as_the_users() -> None:
    other = ToolCall(id="call_b", name="look", arguments={}, raw_arguments="{}")
    history = (
        user("hi"),
        answered(LOOK, other),
        result(LOOK, "seen", IMAGE),
        result(other, "", IMAGE),
        user("well?"),
    )
    body = model().body(asked(*history, image_bytes=lambda _: b"\x89PNG"))
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]
    shown = body["messages"][-1]["content"]
    assert [part["type"] for part in shown] == [
        "text",
        "image_url",
        "text",
        "image_url",
        "text",
    ]
    assert shown[1]["image_url"] == {
        "url": "data:image/png;base64,iVBORw==",
        "detail": "auto",
    }
    assert "call_b" in shown[2]["text"]
    assert shown[-1]["text"] == "well?"


def test_an_image_that_the_model_cannot_see_is_told_of_in_words() -> None:
    seen = UserMessage(content=[{"type": "text", "text": "hi"}, IMAGE])
    body = model("ollama").body(asked(seen, image_bytes=lambda _: b"\x89PNG"))
    assert "sky.png cannot be shown" in body["messages"][0]["content"]


def test_call_ids_stay_as_they_are_unless_they_were_used_before() -> None:
    again = ToolCall(id="functions.look:0", name="look", arguments={})
    history = [user("hi")]
    for _ in range(2):
        history += [answered(again), result(again, "sky")]
    told = model().body(asked(*history))["messages"]
    ids = [call["id"] for each in told for call in each.get("tool_calls", ())]
    assert ids[0] == "functions.look:0"
    assert len(set(ids)) == 2
    assert [each["tool_call_id"] for each in told if each["role"] == "tool"] == ids


def test_a_call_id_that_is_too_long_is_shortened_in_both_places() -> None:
    long = ToolCall(id="x" * 64, name="look", arguments={})
    told = model().body(asked(user("hi"), answered(long), result(long, "sky")))
    calling, resulting = told["messages"][1:]
    assert calling["tool_calls"][0]["id"] == resulting["tool_call_id"]
    assert len(resulting["tool_call_id"]) <= 40


# What is heard.


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_reasoning_is_heard_under_either_name(
    server: FakeServer, provider: str, name: str
) -> None:
    thoughts = [chunk({name: "Let me "}), chunk({name: "see."})]
    answer = hear(server, *thoughts, chunk({"content": "hi"}), END, provider=provider)
    assert (answer.reasoning, answer.text) == ("Let me see.", "hi")


@pytest.mark.parametrize(
    ("provider", "name", "is_kept"),
    [
        ("openai-chat", "reasoning_content", True),
        ("openai-chat", "reasoning", False),
        ("ollama", "reasoning", True),
        ("openrouter", "reasoning", False),
    ],
)
def test_plain_reasoning_goes_back_only_beside_calls_and_to_those_who_want_it(
    server: FakeServer, provider: str, name: str, is_kept: bool
) -> None:
    thought, call = chunk({name: "Hm."}), chunk(piece("{}", id="call_a", name="look"))
    without = hear(server, thought, chunk({"content": "x"}), END, provider=provider)
    assert without.native is None
    answer = hear(server, thought, call, END, provider=provider)
    assert (answer.native is not None) == is_kept
    history = (user("hi"), AssistantMessage(answer=answer), result(LOOK, "sky"))
    told = model(provider).body(asked(*history))["messages"][1]
    assert told.get(name) == ("Hm." if is_kept else None)


def test_reasoning_details_are_put_together_and_go_back_to_openrouter(
    server: FakeServer,
) -> None:
    text = {"type": "reasoning.text", "index": 0}
    secret = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "index": 1}
    details: list[list[JSON]] = [
        [{**text, "text": "Let "}],
        [{**text, "text": "me.", "format": "anthropic-claude-v1"}],
        [{**text, "signature": "EqQB"}, secret],
        [{**secret, "data": "gBBB", "id": "rs_2"}],
    ]
    heard = [chunk({"reasoning_details": each}) for each in details]
    answer = hear(server, *heard, chunk({"content": "hi"}), END, provider="openrouter")
    whole = {
        **text,
        "text": "Let me.",
        "format": "anthropic-claude-v1",
        "signature": "EqQB",
    }
    kept = [whole, secret, {**secret, "data": "gBBB", "id": "rs_2"}]
    assert answer.reasoning == "Let me."
    assert answer.native == Native(
        provider="openrouter",
        model=MODELS["openrouter"],
        items=({"reasoning_details": kept},),
    )
    history = (user("hi"), AssistantMessage(answer=answer), user("and?"))
    told = model("openrouter").body(asked(*history))["messages"][1]
    assert told == {"role": "assistant", "content": "hi", "reasoning_details": kept}
    other = model("openrouter", "qwen/qwen3").body(asked(*history))["messages"][1]
    assert "reasoning_details" not in other


@pytest.mark.parametrize(
    "pieces",
    [
        # by index, as documented
        [
            piece('{"n": ', index=0, id="a", name="look"),
            piece("1}", index=0),
            piece('{"n": 2}', index=1, id="b", name="look"),
        ],
        # interleaved
        [
            piece('{"n": ', index=0, id="a", name="look"),
            piece('{"n": ', index=1, id="b", name="look"),
            piece("1}", index=0),
            piece("2}", index=1),
        ],
        # all at index 0, told apart by their ids
        [
            piece('{"n": 1}', index=0, id="a", name="look"),
            piece('{"n": 2}', index=0, id="b", name="look"),
        ],
        # the id in every piece, and no index
        [
            piece('{"n": ', id="a", name="look"),
            piece("1}", id="a"),
            piece('{"n": 2}', id="b", name="look"),
        ],
        # as the object itself
        [
            piece({"n": 1}, index=0, id="a", name="look"),
            piece({"n": 2}, index=1, id="b", name="look"),
        ],
    ],
)
def test_pieces_of_calls_find_their_calls(server: FakeServer, pieces: Any) -> None:
    answer = hear(server, *(chunk(each) for each in pieces), chunk({}, "tool_calls"))
    assert [(c.id, c.arguments) for c in answer.tool_calls] == [
        ("a", {"n": 1}),
        ("b", {"n": 2}),
    ]
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize("given", [{}, {"id": ""}, {"id": "call_0"}])
def test_calls_without_ids_of_their_own_get_some_the_same_ones_at_each_attempt(
    server: FakeServer, given: JSON
) -> None:
    pieces = [chunk(piece("{}", index=i, name="look", **given)) for i in range(2)]
    first = hear(server, *pieces, END)
    second = hear(server, *pieces, END, attempt=2)
    ids = [call.id for call in first.tool_calls]
    assert len(set(ids)) == 2
    assert all(ids)
    assert ids == [call.id for call in second.tool_calls]


def test_a_call_without_arguments_has_none(server: FakeServer) -> None:
    answer = hear(server, chunk(piece("", index=0, id="a", name="look")), END)
    assert answer.tool_calls[0].arguments == {}


@pytest.mark.parametrize("raw", ["[]", '"x"', "{", "nonsense"])
def test_arguments_that_are_no_object_are_none(server: FakeServer, raw: str) -> None:
    answer = hear(server, chunk(piece(raw, index=0, id="a", name="look")), END)
    (call,) = answer.tool_calls
    assert (call.arguments, call.raw_arguments) == (None, raw)


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("content_filter", "refusal"),
        ("tool_calls", "end"),
        ("eos", "end"),
    ],
)
def test_a_finish_reason_is_one_of_ours(
    server: FakeServer, finish: str, stop_reason: str
) -> None:
    answer = hear(server, chunk({"content": "hi"}), chunk({}, finish))
    assert answer.stop_reason == stop_reason


def test_calls_are_tool_use_also_where_the_server_says_stop(server: FakeServer) -> None:
    answer = hear(server, chunk(piece("{}", index=0, id="a", name="look")), END)
    assert answer.stop_reason == "tool_use"


def test_a_refusal_is_an_answer(server: FakeServer) -> None:
    answer = hear(server, chunk({"refusal": "I will not."}), END)
    assert (answer.text, answer.stop_reason) == ("I will not.", "refusal")


def test_usage_counts_what_was_neither_read_from_nor_written_to_a_cache(
    server: FakeServer,
) -> None:
    details = {"cached_tokens": 60, "cache_write_tokens": 30}
    usage = {"prompt_tokens": 100, "completion_tokens": 7}
    told = {"choices": [], "usage": {**usage, "prompt_tokens_details": details}}
    assert hear(server, chunk({"content": "hi"}), END, told).usage == Usage(
        input_tokens=10, output_tokens=7, cache_read_tokens=60, cache_write_tokens=30
    )
    bare = {"choices": None, "usage": usage}
    assert hear(server, END, bare).usage == Usage(input_tokens=100, output_tokens=7)
    assert hear(server, END).usage == Usage()


# What goes wrong.


@pytest.mark.parametrize(
    ("error", "kind", "is_retriable"),
    [
        ({"code": 502, "message": "It is so."}, "provider_error", True),
        ({"code": 429, "message": "It is so."}, "rate_limited", True),
        ({"code": 400, "message": "It is so."}, "bad_request", False),
        ({"code": 402, "message": "It is so."}, "bad_request", False),
        ({"message": "It is so."}, "provider_error", True),
        ({"code": "server_error", "message": "It is so."}, "provider_error", True),
    ],
)
def test_an_error_in_a_stream_is_judged_by_its_code(
    server: FakeServer, error: JSON, kind: str, is_retriable: bool
) -> None:
    begun = chunk({"content": "hi"})
    for told in (
        {**chunk({}, "error"), "error": error},
        {"error": error},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": error}]},
    ):
        with pytest.raises(ModelError, match="It is so") as raised:
            hear(server, begun, told)
        assert (raised.value.kind, raised.value.is_retriable) == (kind, is_retriable)


def test_what_the_provider_behind_openrouter_said_is_passed_on(
    server: FakeServer,
) -> None:
    metadata = {"raw": "out of sky", "provider_name": "Somebody"}
    error = {"code": 400, "message": "Provider returned error", "metadata": metadata}
    server.gives(Exchange(status=400, body={"error": error}))
    opened = model("openrouter", url=server.url)
    with pytest.raises(ModelError, match="Provider returned error: out of sky"):
        opened.stream(asked(), lambda _: None, Interrupt())


@pytest.mark.parametrize(
    "body", ["Gateway down", ["what"], {"error": "model not found"}, {}]
)
def test_an_error_of_any_shape_is_told(server: FakeServer, body: Any) -> None:
    server.gives(Exchange(status=404, body=body))
    opened = model("ollama", url=server.url)
    with pytest.raises(ModelError) as raised:
        opened.stream(asked(), lambda _: None, Interrupt())
    assert (raised.value.kind, raised.value.is_retriable) == ("unknown_model", False)
    assert str(raised.value) != "ollama: "


@pytest.mark.parametrize(
    "told",
    [
        [],
        7,
        {"choices": 7},
        {"choices": [7]},
        {"choices": [{"delta": {"content": 7}, "finish_reason": "stop"}]},
        {"choices": [{"delta": {"tool_calls": [7]}}]},
        {"choices": [], "usage": 7},
    ],
)
def test_a_malformed_chunk_is_a_model_error(server: FakeServer, told: Any) -> None:
    with pytest.raises(ModelError) as raised:
        hear(server, told)
    assert (raised.value.kind, raised.value.is_retriable) == ("malformed", True)


def test_a_server_that_ignores_streaming_is_not_taken_for_a_whole_answer(
    server: FakeServer,
) -> None:
    server.gives(Exchange(body={"choices": [{"message": {"content": "hi"}}]}))
    opened = model(url=server.url)
    with pytest.raises(ModelError) as raised:
        opened.stream(asked(), lambda _: None, Interrupt())
    assert raised.value.is_retriable


# Where an Ollama is.


@pytest.mark.parametrize(
    ("host", "root"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8000", "http://127.0.0.1:8000"),
        ("big.lan", "http://big.lan:11434"),
        ("big.lan:8000", "http://big.lan:8000"),
        ("[::1]", "http://[::1]:11434"),
        ("http://big.lan", "http://big.lan:80"),
        ("https://ollama.example/", "https://ollama.example:443"),
        ("https://big.lan:8443/ollama/v1", "https://big.lan:8443/ollama"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(host: str | None, root: str) -> None:
    assert ollama_root(host) == root
    assert ollama_url(host) == f"{root}/v1"


@pytest.mark.parametrize("host", ["ftp://big.lan", "big.lan:port", "http://[", "a:0x1"])
def test_an_ollama_host_that_is_no_address_is_a_model_error(host: str) -> None:
    with pytest.raises(ModelError, match="OLLAMA_HOST") as raised:
        model("ollama", url=host).stream(asked(), lambda _: None, Interrupt())
    assert not raised.value.is_retriable
