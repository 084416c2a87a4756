"""The scripted model: in order, by rule, with errors, and nothing left over."""

from __future__ import annotations

import json
from pathlib import Path
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
from agents.models import open_model
from agents.models.base import Delta, ModelError, Request
from agents.models.scripted import ScriptedModel, ScriptError


def user(text: str) -> Message:
    return UserMessage(content=[{"type": "text", "text": text}])


def ask(
    model: ScriptedModel, *messages: Message, attempt: int = 1, **more: Any
) -> Answer:
    request = Request(
        system="", messages=messages or (user("go"),), tools=(), attempt=attempt
    )
    emit = more.get("emit", lambda delta: None)
    return model.stream(request, emit, more.get("interrupt", Interrupt()))


def conversation(model: ScriptedModel, *inputs: str) -> list[str]:
    """Ask one after the other, each on top of the last."""
    messages: list[Message] = []
    for text in inputs:
        messages.append(user(text))
        messages.append(AssistantMessage(answer=ask(model, *messages)))
    return [m.answer.text for m in messages if isinstance(m, AssistantMessage)]


def test_responses_come_in_order() -> None:
    model = ScriptedModel([{"text": "one"}, {"text": "two"}])
    assert conversation(model, "a", "b") == ["one", "two"]


def test_the_place_in_the_line_is_counted_from_the_conversation() -> None:
    model = ScriptedModel([{"text": "one"}, {"text": "two"}])
    assert [ask(model).text, ask(model).text] == ["one", "one"]


def test_a_rule_fits_the_newest_input_as_often_as_it_comes() -> None:
    model = ScriptedModel(
        [
            {"when": {"contains": "ping"}, "text": "pong"},
            {"when": {"matches": r"^\d+$"}, "text": "a number"},
            {"text": "one"},
        ]
    )
    assert conversation(model, "ping", "42", "a ping") == ["pong", "a number", "pong"]
    assert ask(model, user("other")).text == "one"


def test_a_rule_fits_a_tool_result_too() -> None:
    model = ScriptedModel([{"when": {"contains": "boom"}, "text": "oh"}])
    done = ToolMessage(call_id="1", name="x", result=ToolResult(text="boom"))
    calling = Answer(tool_calls=(ToolCall(id="1", name="x", arguments={}),))
    assert ask(model, user("go"), AssistantMessage(answer=calling), done).text == "oh"


def test_calls_usage_and_reasoning_come_as_they_are_written() -> None:
    deltas: list[Delta] = []
    model = ScriptedModel(
        [
            {
                "text": "I look.",
                "reasoning": "hm",
                "tool_calls": [
                    {"name": "look", "arguments": {"a": 1}},
                    {"name": "look", "raw_arguments": "{", "id": "mine"},
                ],
                "usage": {"output_tokens": 3},
            }
        ]
    )
    assert ask(model, emit=deltas.append) == Answer(
        text="I look.",
        reasoning="hm",
        tool_calls=(
            ToolCall(
                id="call_1_0",
                name="look",
                arguments={"a": 1},
                raw_arguments='{"a": 1}',
            ),
            ToolCall(id="mine", name="look", arguments=None, raw_arguments="{"),
        ),
        stop_reason="tool_use",
        usage=Usage(output_tokens=3),
    )
    assert [(delta.kind, delta.text) for delta in deltas] == [
        ("reasoning", "hm"),
        ("text", "I"),
        ("text", " look."),
        ("tool_call", '{"a": 1}'),
        ("tool_call", "{"),
    ]


def test_each_attempt_meets_the_next_error_and_then_the_answer() -> None:
    busy = {"error": {"status": 429, "message": "busy", "retry_after_seconds": 2}}
    model = ScriptedModel(
        [busy, {"error": {"status": 400}}, {"text": "one"}, busy, {"text": "two"}]
    )
    with pytest.raises(ModelError, match="busy") as first:
        ask(model, attempt=1)
    with pytest.raises(ModelError, match="400") as second:
        ask(model, attempt=2)
    assert [
        (raised.value.kind, raised.value.is_retriable, raised.value.retry_after_seconds)
        for raised in (first, second)
    ] == [("http_429", True, 2), ("http_400", False, None)]
    assert ask(model, attempt=3).text == "one"
    spoken = (user("a"), AssistantMessage(answer=Answer(text="one")), user("b"))
    with pytest.raises(ModelError, match="busy"):
        ask(model, *spoken, attempt=1)
    assert ask(model, *spoken, attempt=2).text == "two"


def test_a_cut_breaks_in_mid_stream() -> None:
    said: list[str] = []
    model = ScriptedModel([{"text": "a b c", "cut_after_tokens": 2}, {"text": "whole"}])
    with pytest.raises(ModelError, match="mid-stream") as raised:
        ask(model, emit=lambda delta: said.append(delta.text))
    assert (said, raised.value.is_retriable) == (["a", " b"], True)
    assert ask(model, attempt=2).text == "whole"


def test_a_call_that_nothing_fits_is_an_error() -> None:
    model = ScriptedModel([{"text": "one"}])
    with pytest.raises(ScriptError, match="unexpected call 2; the script has 1"):
        conversation(model, "a", "b")


def test_a_response_that_nobody_took_can_be_asked_for() -> None:
    model = ScriptedModel([{"text": "one"}, {"text": "two"}])
    assert model.unconsumed(1) == [{"text": "two"}]
    assert model.unconsumed(2) == []


def test_a_field_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ScriptError, match="unknown field 'txet'"):
        ScriptedModel([{"txet": "one"}])


def test_an_interrupt_keeps_what_was_said() -> None:
    interrupt = Interrupt()
    model = ScriptedModel([{"text": "a b c", "token_seconds": 0.001}])
    answer = ask(model, interrupt=interrupt, emit=lambda delta: interrupt.set())
    assert (answer.text, answer.stop_reason) == ("a", "interrupted")


def test_an_interrupt_ends_a_long_silence() -> None:
    interrupt = Interrupt()
    interrupt.set()
    answer = ask(
        ScriptedModel([{"text": "a", "delay_seconds": 60}]), interrupt=interrupt
    )
    assert (answer.text, answer.stop_reason) == ("", "interrupted")


@pytest.mark.parametrize("text", ["a  b\n\nc ", " lead", "", "\n", "é 😀"])
def test_tokens_add_up_to_the_text(text: str) -> None:
    said: list[str] = []
    answer = ask(
        ScriptedModel([{"text": text}]), emit=lambda delta: said.append(delta.text)
    )
    assert ("".join(said), answer.text) == (text, text)


def test_a_script_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"text": "one"}]))
    model = open_model(f"scripted/{path}")
    assert model.name == f"scripted/{path}"
    assert ask(model).text == "one"


@pytest.mark.parametrize(
    ("text", "says"), [("{", "cannot be read"), ("{}", "JSON list"), (None, "cannot")]
)
def test_a_file_that_is_no_script_is_refused(tmp_path: Path, text, says) -> None:
    path = tmp_path / "script.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ScriptError, match=says):
        open_model(f"scripted/{path}")
