"""What the lines of pi's agent core say of the loop, where no neighbour says it whole.

Their numbers and texts are literal here: a constant that changes breaks its line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agents.compaction import (
    context_tokens,
    find_cut,
    items_of,
    keep_limit,
    threshold,
)
from agents.control import Interrupt
from agents.hooks import Hooks
from agents.loop import think
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
from agents.models.base import Request
from agents.models.scripted import ScriptedModel
from agents.summaries import transcript
from agents.tools.registry import ToolContext, tool


class Listening(ScriptedModel):
    """A scripted model that keeps what it was sent."""

    def __init__(self, responses: Sequence[dict[str, Any]]) -> None:
        super().__init__(responses)
        self.requests: list[Request] = []

    def stream(
        self, request: Request, emit: Callable[..., None], interrupt: Interrupt
    ) -> Answer:
        self.requests.append(request)
        return super().stream(request, emit, interrupt)


@tool(effect="pure")
def double(context: ToolContext, n: int) -> ToolResult:
    """Double a number."""
    return ToolResult(text=str(2 * n))


def says(text: str) -> list[Message]:
    return [UserMessage(content=[{"type": "text", "text": text}])]


def calls(*named: tuple[str, Any]) -> dict[str, Any]:
    return {"tool_calls": [{"name": n, "arguments": a} for n, a in named]}


def told(messages: Sequence[Message]) -> list[str]:
    """A conversation as one line for each message."""
    lines = []
    for message in messages:
        if isinstance(message, UserMessage):
            lines.append(f"user: {message.text}")
        elif isinstance(message, ToolMessage):
            lines.append(f"{message.name}: {message.result.text}")
        else:
            called = ", ".join(call.name for call in message.answer.tool_calls)
            lines.append(f"model: {message.answer.text or called}")
    return lines


# Arguments (P4).


@pytest.mark.line("P4")
@pytest.mark.parametrize("mode", ["together", "one by one"])
def test_only_arguments_that_hold_reach_a_handler(thinker, pool, mode: str) -> None:
    made: list[int] = []

    @tool(effect="pure")
    def count(context: ToolContext, n: int) -> ToolResult:
        """Count."""
        made.append(n)
        return ToolResult(text="counted")

    wrong = ({}, {"n": "1"}, {"n": 1.5}, {"n": None}, {"n": 1, "m": 2})
    script = [calls(*(("count", each) for each in (*wrong, {"n": 7}))), {"text": "ok"}]
    own = says("go")
    shared = pool if mode == "together" else None
    think(thinker(script, count, pool=shared), [], own)
    assert made == [7]
    results = [each.result for each in own if isinstance(each, ToolMessage)]
    assert [each.status for each in results] == ["failed"] * 5 + ["succeeded"]
    named = ["'n' is a required property", "- n: ", "- n: ", "- n: ", "'m' was"]
    for result, field in zip(results, named, strict=False):
        assert field in result.text


# The context (P8, P35).


@pytest.mark.line("P8", "P35", "P39")
def test_the_context_is_transformed_and_then_converted_before_every_call(
    thinker,
) -> None:
    seen: list[tuple[str, list[str]]] = []

    def transform(messages: Sequence[Message]) -> Sequence[Message]:
        seen.append(("transform", told(messages)))
        return [*messages, *says("P.S.")]

    def convert(messages: Sequence[Message]) -> Sequence[Message]:
        seen.append(("convert", told(messages)))
        return [*says("To whom it may concern"), *messages]

    # Chained by place, not by the order in which they were given.
    hooks = Hooks(convert_to_llm=(convert,), transform_context=(transform,))
    model = Listening([calls(("double", {"n": 2})), {"text": "4."}])
    own = says("2 + 2?")
    think(thinker(model, double, hooks=hooks), [], own)
    first, second = ["user: 2 + 2?"], ["user: 2 + 2?", "model: double", "double: 4"]
    assert seen == [
        ("transform", first),
        ("convert", [*first, "user: P.S."]),
        ("transform", second),
        ("convert", [*second, "user: P.S."]),
    ]
    assert [told(request.messages) for request in model.requests] == [
        ["user: To whom it may concern", *shown, "user: P.S."]
        for shown in (first, second)
    ]
    assert told(own) == [*second, "model: 4."]


@pytest.mark.line("P8")
def test_the_loop_itself_leaves_no_message_out(thinker) -> None:
    past = [each for number in range(100) for each in says(f"message {number}")]
    model = Listening([{"text": "ok"}])
    think(thinker(model), past, says("now"))
    assert told(model.requests[0].messages) == [*told(past), "user: now"]


# Steering and follow-ups (P28, P29).


@pytest.mark.line("P28")
@pytest.mark.parametrize("mode", ["together", "one by one"])
def test_a_message_that_came_before_the_calls_takes_their_place(
    thinker, inbox, pool, mode: str
) -> None:
    inbox.waking.append("do that")
    both = calls(("double", {"n": 1}), ("double", {"n": 2}))
    model = Listening([both, {"text": "done that"}])
    own = says("do this")
    shared = pool if mode == "together" else None
    think(thinker(model, double, pool=shared), [], own)
    skipped = "double: Skipped due to queued user message."
    expected = ["user: do this", "model: double, double", skipped, skipped]
    assert told(model.requests[1].messages) == [*expected, "user: do that"]
    results = [each.result for each in own if isinstance(each, ToolMessage)]
    assert [each.is_error for each in results] == [True, True]


@pytest.mark.line("P29")
def test_where_both_wait_at_the_end_the_quiet_one_lets_the_turn_go_on(
    thinker, inbox
) -> None:
    inbox.waking.append("and this")
    inbox.quiet.append("by the way")
    own = says("go")
    thought = think(thinker([{"text": "one"}, {"text": "both"}]), [], own)
    assert told(own) == [
        "user: go",
        "model: one",
        "user: by the way",
        "user: and this",
        "model: both",
    ]
    assert thought.text == "one\n\nboth"


# The numbers of compaction (P41, P42, P45).


@pytest.mark.line("P41")
def test_a_window_may_be_filled_but_for_16384_tokens() -> None:
    assert threshold(200_000) == 183_616


@pytest.mark.line("P41", "P48")
def test_behind_an_answer_that_was_cut_short_the_last_good_one_counts() -> None:
    good = Answer(text="ok", usage=Usage(input_tokens=100, output_tokens=20))
    short = Answer(
        text="hm", usage=Usage(input_tokens=9_000), stop_reason="interrupted"
    )
    said = [
        *says("one"),
        AssistantMessage(answer=good),
        *says("x" * 40),
        AssistantMessage(answer=short),
    ]
    assert context_tokens(said) == 120 + 10 + 1


def entry(id: int, type: str, text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    base = {"id": id, "type": type, "content": content, "generation": 1}
    return {**base, "data": None, "usage": None, **more}


@pytest.mark.line("P42")
def test_about_the_last_20000_tokens_stay() -> None:
    assert keep_limit(200_000, 183_617) == 20_000
    hundred_tokens = "x" * 400
    history = [
        entry(id, "user_message" if id % 2 else "assistant_message", hundred_tokens)
        for id in range(1, 401)
    ]
    cut = find_cut(items_of(history), 20_000)
    assert cut is not None
    assert (len(cut.kept), cut.first_kept_entry_id) == (200, 201)


@pytest.mark.line("P45")
def test_a_transcript_keeps_2000_characters_of_a_result() -> None:
    call = ToolCall(id="a", name="read", arguments={})
    said: list[Message] = [
        AssistantMessage(answer=Answer(tool_calls=(call,))),
        ToolMessage(
            call_id="a",
            name="read",
            result=ToolResult(
                text="x" * 2_000 + "y" * 500, blocks=({"type": "image"},)
            ),
        ),
    ]
    text = transcript(said)
    assert "x" * 2_000 in text
    assert "y" not in text
    assert "500 characters left out" in text
    assert "image" not in text
