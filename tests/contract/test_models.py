"""One suite for every provider's adapter: same history in, same neutral answer out.

The server is ours and does what it is told (`wires.server`); what it sends is each
provider's protocol from the provider's side (`wires.*`), and what it is asked is judged
by the SDK's own request types. The table of failures is the one that all SDKs were
tried with: an answer that merely stops must never be taken for one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import (
    INTERRUPTED,
    OUTCOME_UNKNOWN,
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
from agents.models import Delta, Model, ModelError, Request, ToolSpec, wire
from agents.models.base import CONTEXT_OVERFLOW, THINKING
from tests.contract.wires.base import Wire
from tests.contract.wires.server import Exchange, FakeServer

# module of tests.contract.wires, class
WIRES = {
    "anthropic": ("anthropic", "AnthropicWire"),
    "google": ("google", "GoogleWire"),
    "openai": ("openai_responses", "ResponsesWire"),
    "openai-chat": ("openai_chat", "ChatWire"),
    "openrouter": ("openai_chat", "OpenRouterWire"),
    "ollama": ("openai_chat", "OllamaWire"),
}
KEY = "sk-canary-5f2c"
WEATHER = ToolSpec(
    name="weather",
    description="Look at the sky.",
    parameters={
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
        "additionalProperties": False,
    },
)
USAGE = Usage(
    input_tokens=40, output_tokens=12, cache_read_tokens=100, cache_write_tokens=0
)
PLAIN = Answer(text="It is sunny in Ulm today.", usage=USAGE)
CALLS = (
    ToolCall(
        id="call_1",
        name="weather",
        arguments={"town": "Ulm"},
        raw_arguments='{"town": "Ulm"}',
    ),
    ToolCall(
        id="call_2",
        name="weather",
        arguments={"town": "Bonn"},
        raw_arguments='{"town": "Bonn"}',
    ),
)
CALLING = Answer(
    text="Let me look.", tool_calls=CALLS, stop_reason="tool_use", usage=USAGE
)
INTERRUPT_SECONDS = 0.05


@dataclass
class Line:
    """A model, the server at its other end, and what was heard of it."""

    wire: Wire
    server: FakeServer
    model: Model
    deltas: list[Delta] = field(default_factory=list)

    def ask(
        self,
        *messages: Message,
        interrupt: Interrupt | None = None,
        tools: tuple[ToolSpec, ...] = (WEATHER,),
        **more: Any,
    ) -> Answer:
        request = Request(
            system="You are brief.",
            messages=messages or (said("What is the weather?"),),
            tools=tools,
            **more,
        )
        return self.model.stream(request, self.deltas.append, interrupt or Interrupt())

    def fails(self, *exchanges: Exchange) -> ModelError:
        self.server.gives(*exchanges)
        with pytest.raises(ModelError) as raised:
            self.ask()
        assert KEY not in str(raised.value) + repr(raised.value.as_json())
        return raised.value

    def streams(self, answer: Answer, **more: Any) -> Exchange:
        return Exchange(pieces=self.wire.frames(answer), **more)

    def heard(self, kind: str) -> str:
        return "".join(d.text for d in self.deltas if d.kind == kind)

    def check(self) -> None:
        """Let the provider's own types judge all that was asked."""
        assert self.server.asked
        for asked in self.server.asked:
            self.wire.check(asked.path, asked.headers, asked.body)
            assert self.wire.key_of(asked.headers) in (KEY, "none")


def said(text: str, *blocks: dict[str, Any]) -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}, *blocks])


def answered(answer: Answer) -> AssistantMessage:
    return AssistantMessage(answer=answer)


def result(call: ToolCall, text: str, **more: Any) -> ToolMessage:
    return ToolMessage(
        call_id=call.id, name=call.name, result=ToolResult(text=text, **more)
    )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


# Who asks for no key; whose arguments are JSON values and no text; who signs nothing.
KEYLESS = {"ollama"}
TEXTLESS = {"google"}
UNSIGNED = {"openai-chat", "ollama"}


def all_but(excepted: set[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("line", sorted(set(WIRES) - excepted), indirect=True)


@pytest.fixture(params=WIRES)
def line(request: pytest.FixtureRequest, server: FakeServer) -> Line:
    """Each provider's adapter, connected to our server."""
    module, name = WIRES[request.param]
    spoken: Wire = getattr(import_module(f"tests.contract.wires.{module}"), name)()
    return Line(spoken, server, spoken.model(server.url, lambda: KEY))


def neutral(answer: Answer) -> Answer:
    """An answer without its provider's form, and with calls as they are compared."""
    calls = tuple(replace(c, id="", raw_arguments="") for c in answer.tool_calls)
    return replace(answer, native=None, tool_calls=calls)


# Answers.


def test_a_text_is_streamed_in_pieces_and_comes_back_whole(line: Line) -> None:
    line.server.gives(line.streams(PLAIN))
    assert neutral(line.ask()) == PLAIN
    assert line.heard("text") == PLAIN.text
    assert len([d for d in line.deltas if d.kind == "text"]) >= 2
    line.check()


def test_parallel_calls_come_in_order_with_their_arguments(line: Line) -> None:
    line.server.gives(line.streams(CALLING))
    answer = line.ask()
    assert neutral(answer) == neutral(CALLING)
    assert len({call.id for call in answer.tool_calls}) == 2
    for call in answer.tool_calls:
        pieces = [d for d in line.deltas if d.tool_call_id == call.id]
        assert {d.tool_name for d in pieces} == {"weather"}
    line.check()


def test_reasoning_is_streamed_and_kept_apart_from_the_text(line: Line) -> None:
    thought = replace(PLAIN, reasoning="They ask about the sky, so I look.")
    line.server.gives(line.streams(thought))
    answer = line.ask(thinking="medium")
    assert (answer.reasoning, answer.text) == (thought.reasoning, thought.text)
    assert line.heard("reasoning") == thought.reasoning
    line.check()


@pytest.mark.parametrize("stop_reason", ["length", "refusal"])
def test_an_answer_that_was_stopped_says_why(line: Line, stop_reason: Any) -> None:
    line.server.gives(line.streams(replace(PLAIN, stop_reason=stop_reason)))
    assert line.ask().stop_reason == stop_reason


@all_but(TEXTLESS)
def test_arguments_that_are_no_json_are_kept_and_never_mended(line: Line) -> None:
    call = replace(CALLS[0], arguments=None, raw_arguments='{"town": "Ul')
    line.server.gives(line.streams(replace(CALLING, tool_calls=(call,))))
    (found,) = line.ask().tool_calls
    assert (found.arguments, found.raw_arguments) == (None, '{"town": "Ul')


@pytest.mark.line("P39")
def test_what_is_shown_of_a_request_is_what_is_sent(line: Line) -> None:
    shown: list[dict[str, Any]] = []
    line.server.gives(line.streams(PLAIN))
    line.ask(
        said("look"),
        answered(CALLING),
        result(CALLS[0], "sunny"),
        result(CALLS[1], "rain"),
        thinking="high",
        on_payload=shown.append,
    )
    (payload,), (asked,) = shown, line.server.asked
    if line.wire.provider == "google":  # whose SDK spells the rest in another way
        assert payload["contents"] == asked.body["contents"]
        assert {"systemInstruction", "tools"} <= set(payload["config"])
    else:
        assert payload == asked.body
    assert KEY not in repr(payload)


@pytest.mark.parametrize("level", THINKING)
def test_every_thinking_level_is_one_that_the_provider_knows(
    line: Line, level: Any
) -> None:
    line.server.gives(line.streams(PLAIN))
    line.ask(thinking=level)
    line.check()


# Conversations.


def test_a_second_round_sends_every_call_with_its_result(line: Line) -> None:
    line.server.gives(line.streams(replace(CALLING, reasoning="Hm.")))
    first = line.ask(thinking="low")
    line.server.gives(line.streams(PLAIN))
    results = [result(call, "sunny") for call in first.tool_calls]
    line.ask(said("What is the weather?"), answered(first), *results)
    line.check()
    assert str(line.server.asked[-1].body).count("sunny") == 2


OTHERS = Native(
    provider="somebody", model="else", items=({"type": "theirs", "signature": "xyz"},)
)
IMAGE = {
    "type": "image",
    "media_type": "image/png",
    "artifact": "turn-1/2.1",
    "name": "sky.png",
    "fidelity": "low",
    "size_bytes": 4,
}
HISTORIES: dict[str, tuple[Message, ...]] = {
    "of another provider": (
        said("hello"),
        answered(replace(CALLING, native=OTHERS, reasoning="secret thought")),
        result(CALLS[0], "sunny"),
        result(CALLS[1], "rain"),
        answered(replace(PLAIN, native=OTHERS)),
        said("and tomorrow?"),
    ),
    "interrupted": (
        said("hello"),
        answered(Answer(text="It is", stop_reason="interrupted")),
        said("stop, what about Bonn?"),
    ),
    "interrupted before a word": (
        said("hello"),
        answered(Answer(stop_reason="interrupted")),
        said("stop, what about Bonn?"),
    ),
    "steered": (
        said("hello"),
        answered(CALLING),
        result(CALLS[0], "sunny"),
        result(CALLS[1], INTERRUPTED, status="failed"),
        said("what about Bonn?"),
        said("and Köln?"),
    ),
    "uncertain": (
        said("hello"),
        answered(replace(CALLING, text="", tool_calls=CALLS[:1])),
        result(CALLS[0], OUTCOME_UNKNOWN, status="uncertain"),
    ),
    "compacted": (
        said("The conversation so far was compacted. Its summary:\n\nWe met."),
        said("go on"),
        answered(PLAIN),
        said("and then?"),
    ),
    "beginning with an answer": (answered(PLAIN), said("and then?")),
    "with an empty result": (
        said("hello"),
        answered(replace(CALLING, tool_calls=CALLS[:1])),
        result(CALLS[0], ""),
    ),
    "with arguments that were none": (
        said("hello"),
        answered(
            replace(
                CALLING,
                tool_calls=(replace(CALLS[0], arguments=None, raw_arguments='{"to'),),
            )
        ),
        result(CALLS[0], "The arguments are no JSON.", status="failed"),
    ),
    "with images": (
        said("what is this?", IMAGE),
        answered(replace(CALLING, tool_calls=CALLS[:1])),
        result(CALLS[0], "a picture", blocks=(IMAGE,)),
    ),
    "with odd names and texts": (
        said("\u202e\x00\ud83d?".encode("utf-8", "replace").decode()),
        answered(replace(CALLING, tool_calls=(replace(CALLS[0], id="a/b c:ü" * 9),))),
        result(replace(CALLS[0], id="a/b c:ü" * 9), "</tool_result>"),
    ),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_every_history_that_the_loop_can_make_is_one_that_the_provider_takes(
    line: Line, history: str
) -> None:
    line.server.gives(line.streams(PLAIN))
    line.ask(*HISTORIES[history], image_bytes=lambda _: b"\x89PNG")
    line.check()
    assert "secret thought" not in str(line.server.asked[-1].body)


def test_an_image_whose_bytes_are_gone_is_told_of_in_words(line: Line) -> None:
    line.server.gives(line.streams(PLAIN))
    line.ask(said("what is this?", IMAGE))
    line.check()
    assert "sky.png" in str(line.server.asked[-1].body)


@all_but(UNSIGNED)
def test_what_the_provider_signed_goes_back_to_it_unchanged(line: Line) -> None:
    line.server.gives(line.streams(replace(CALLING, reasoning="Hm.")))
    first = line.ask(thinking="low")
    assert first.native is not None
    line.server.gives(line.streams(PLAIN))
    results = [result(call, "sunny") for call in first.tool_calls]
    line.ask(said("hello"), answered(first), *results)
    line.check()
    kept = str(line.server.asked[-1].body)
    for item in first.native.items:
        signed = item.get("signature") or item.get("encrypted_content")
        assert not signed or signed in kept


def test_the_prefix_is_the_same_bytes_in_every_call(line: Line) -> None:
    line.server.gives(line.streams(PLAIN))
    line.ask(said("one"), cache_key="scout")
    line.ask(said("one"), answered(PLAIN), said("two"), cache_key="scout")
    first, second = (asked.body for asked in line.server.asked)
    for name in ("system", "instructions", "tools", "systemInstruction"):
        assert first.get(name) == second.get(name)


@all_but(KEYLESS)
def test_the_key_is_asked_for_at_every_call(server: FakeServer, line: Line) -> None:
    keys = iter(["first-key", "second-key"])
    line.model = line.wire.model(server.url, lambda: next(keys))
    line.server.gives(line.streams(PLAIN))
    line.ask(), line.ask()
    sent = [line.wire.key_of(asked.headers) for asked in server.asked]
    assert sent == ["first-key", "second-key"]


@all_but(KEYLESS)
def test_a_call_without_its_key_names_the_variable(line: Line) -> None:
    line.model = line.wire.model(line.server.url, lambda: None)
    error = line.fails(line.streams(PLAIN))
    assert (error.kind, error.is_retriable) == ("missing_key", False)
    assert "_API_KEY" in str(error)
    assert line.server.asked == []


# The table of failures.


def test_a_connection_that_breaks_in_mid_stream_is_tried_again(line: Line) -> None:
    pieces = line.wire.unfinished(PLAIN)
    error = line.fails(Exchange(pieces=pieces, then="cut"))
    assert (error.kind, error.is_retriable) == ("connection", True)


def test_nobody_at_the_other_end_is_tried_again(line: Line) -> None:
    line.model = line.wire.model("http://127.0.0.1:9", lambda: KEY)
    error = line.fails(line.streams(PLAIN))
    assert (error.kind, error.is_retriable) == ("connection", True)


def test_a_stream_that_falls_silent_is_tried_again(line: Line, monkeypatch) -> None:
    monkeypatch.setattr(wire, "READ_SECONDS", 0.2)
    line.model = line.wire.model(line.server.url, lambda: KEY)
    silent = Exchange(pieces=line.wire.unfinished(PLAIN), then="stall")
    error = line.fails(silent)
    assert (error.kind, error.is_retriable) == ("timeout", True)


@pytest.mark.parametrize("answer", [PLAIN, CALLING, Answer()])
def test_a_stream_that_ends_without_saying_so_is_never_an_answer(
    line: Line, answer: Answer
) -> None:
    error = line.fails(Exchange(pieces=line.wire.unfinished(answer)))
    assert (error.kind, error.is_retriable) == ("incomplete", True)


def test_a_malformed_piece_is_an_error_of_the_provider(line: Line) -> None:
    pieces = [*line.wire.unfinished(PLAIN)[:1], b"data: {not json\n\n"]
    error = line.fails(Exchange(pieces=pieces))
    assert error.is_retriable


def test_an_error_inside_a_stream_is_tried_again(line: Line) -> None:
    pieces = [*line.wire.unfinished(PLAIN), line.wire.error_frame("Overloaded, sorry.")]
    error = line.fails(Exchange(pieces=pieces))
    assert error.is_retriable
    assert "Overloaded, sorry." in str(error)


def refusal(line: Line, status: int, **headers: str) -> Exchange:
    body = line.wire.error_body(status, "That did not work.")
    return Exchange(status=status, body=body, headers=headers)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again_by_the_runtime_and_not_by_the_sdk(
    line: Line, status: int
) -> None:
    error = line.fails(refusal(line, status))
    assert error.is_retriable
    assert "That did not work." in str(error)
    assert len(line.server.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "bad_request"), (401, "unauthorized"), (403, "forbidden"), (404, None)],
)
def test_what_will_not_pass_fails_at_once(line: Line, status: int, kind: str) -> None:
    error = line.fails(refusal(line, status))
    assert not error.is_retriable
    assert kind in (None, error.kind)
    assert len(line.server.asked) == 1


def test_a_short_delay_that_is_asked_for_is_heeded(line: Line) -> None:
    error = line.fails(refusal(line, 429, **{"Retry-After": "2"}))
    assert (error.kind, error.is_retriable) == ("rate_limited", True)
    assert error.retry_after_seconds == 2.0


def test_an_absurd_delay_is_told_at_once_and_not_slept(line: Line) -> None:
    began = time.monotonic()
    error = line.fails(refusal(line, 429, **{"Retry-After": "2000"}))
    assert not error.is_retriable
    assert error.retry_after_seconds == 2000.0
    assert "2000 s" in str(error)
    assert time.monotonic() - began < 10


def test_a_conversation_that_is_too_long_is_an_overflow(line: Line) -> None:
    status, body = line.wire.overflow()
    error = line.fails(Exchange(status=status, body=body))
    assert (error.kind, error.is_retriable) == (CONTEXT_OVERFLOW, False)


# Interrupts.


def interrupted(line: Line, exchange: Exchange) -> tuple[Answer, float]:
    """Interrupt a call once the server is where it stalls; how long it took to end."""
    line.server.gives(exchange)
    interrupt, raised_at = Interrupt(), [0.0]

    def cut() -> None:
        exchange.reached.wait(10)
        while len(line.deltas) < 1 and not exchange.stalls_first:
            exchange.reached.wait(0.001)
        raised_at[0] = time.monotonic()
        interrupt.set()

    cutter = threading.Thread(target=cut)
    cutter.start()
    answer = line.ask(interrupt=interrupt)
    took = time.monotonic() - raised_at[0]
    cutter.join()
    return answer, took


@pytest.mark.parametrize("stalls_first", [True, False])
def test_an_interrupt_ends_a_silent_call_at_once(
    line: Line, stalls_first: bool
) -> None:
    """Before its first byte, or in mid-stream. Measured again, twice at most, when the
    machine was busy with something else."""
    pieces = line.wire.unfinished(PLAIN)
    for _ in range(3):
        line.deltas.clear()
        exchange = Exchange(pieces=pieces, then="stall", stalls_first=stalls_first)
        answer, took = interrupted(line, exchange)
        exchange.release.set()
        assert (answer.stop_reason, answer.tool_calls) == ("interrupted", ())
        assert answer.native is None
        assert answer.text == line.heard("text")
        if took < INTERRUPT_SECONDS:
            break
    assert took < INTERRUPT_SECONDS


def test_an_interrupt_before_the_call_asks_nobody(line: Line) -> None:
    line.server.gives(line.streams(PLAIN))
    interrupt = Interrupt()
    interrupt.set()
    assert line.ask(interrupt=interrupt).stop_reason == "interrupted"


def test_a_call_whose_turn_is_lost_is_ended(line: Line) -> None:
    """What hears the deltas raises: the lease is gone."""

    class Lost(Exception):
        pass

    def emit(delta: Delta) -> None:
        raise Lost

    exchange = Exchange(pieces=line.wire.unfinished(PLAIN), then="stall")
    line.server.gives(exchange)
    request = Request(system="", messages=(said("hello"),), tools=())
    with pytest.raises(Lost):
        line.model.stream(request, emit, Interrupt())


def test_many_calls_run_side_by_side(line: Line) -> None:
    line.server.gives(line.streams(PLAIN))
    found: list[Answer] = []

    def ask() -> None:
        request = Request(system="", messages=(said("hello"),), tools=())
        found.append(line.model.stream(request, lambda _: None, Interrupt()))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [neutral(answer) for answer in found] == [PLAIN] * 20
