"""Between entries and messages nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.messages import (
    Answer,
    AssistantMessage,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from agents.transcript import COMPACTED, answer_data, to_messages


def entry(type: str, text: str = "", **more: Any) -> dict[str, Any]:
    said = [{"type": "text", "text": text}] if text else []
    return {"type": type, "content": said, "data": None, "usage": None, **more}


@pytest.mark.line("P21")
def test_an_answer_comes_back_as_it_was() -> None:
    answer = Answer(
        text="I look.",
        reasoning="hm",
        tool_calls=(
            ToolCall(id="1", name="a", arguments={"n": [1]}, raw_arguments="{}"),
            ToolCall(id="2", name="b", arguments=None, raw_arguments="{"),
        ),
        stop_reason="tool_use",
        usage=Usage(input_tokens=3),
    )
    kept = entry(
        "assistant_message",
        answer.text,
        data=json.loads(json.dumps(answer_data(answer))),
        usage=answer.usage.as_json(),
    )
    assert to_messages([kept]) == [AssistantMessage(answer=answer)]


@pytest.mark.line("P35")
def test_messages_and_results_come_back_and_the_rest_is_skipped() -> None:
    found = to_messages(
        [
            entry("user_message", "hello"),
            entry("reasoning", "hm"),
            entry("tool_call", "…"),
            entry(
                "tool_result",
                "4",
                tool_call_id="1",
                tool_name="exec",
                status="uncertain",
            ),
            entry("error", "boom"),
        ]
    )
    assert found == [
        UserMessage(content=[{"type": "text", "text": "hello"}]),
        ToolMessage(
            call_id="1", name="exec", result=ToolResult(text="4", status="uncertain")
        ),
    ]


def test_a_summary_is_told_as_a_message_and_a_compaction_without_one_is_not() -> None:
    found = to_messages(
        [
            entry("context_compaction", "asked for", data={"summary": "They met."}),
            entry("context_compaction", "asked for", data={"reason": "manual"}),
            entry("context_compaction", "asked for"),
        ]
    )
    text = f"{COMPACTED}They met."
    assert found == [UserMessage(content=[{"type": "text", "text": text}])]
    assert text.startswith("The conversation so far was compacted. Its summary:\n\n")
