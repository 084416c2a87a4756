"""Between an agent's entries and the conversation: the same things in two shapes.

Entries are what is remembered (JSON, one per item); messages are what is thought with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agents.frame import render
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

Entry = Mapping[str, Any]

COMPACTED: Final = "The conversation so far was compacted. Its summary:\n\n"


def to_messages(entries: Sequence[Entry]) -> list[Message]:
    """Read the conversation out of entries; skip what nobody thinks with."""
    messages: list[Message] = []
    for entry in entries:
        if entry["type"] in ("user_message", "wake"):
            messages.append(_to_user_message(entry))
        elif entry["type"] == "assistant_message":
            messages.append(AssistantMessage(answer=_to_answer(entry)))
        elif entry["type"] == "tool_result":
            messages.append(_to_tool_message(entry))
        elif summary := _summary_of(entry):
            text = {"type": "text", "text": COMPACTED + summary}
            messages.append(UserMessage(content=[text]))
    return messages


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return what an assistant_message entry keeps in `data` to be read back."""
    data = {
        "reasoning": answer.reasoning,
        "stop_reason": answer.stop_reason,
        "tool_calls": [asdict(call) for call in answer.tool_calls],
    }
    return data if answer.native is None else {**data, "native": asdict(answer.native)}


def _summary_of(entry: Entry) -> str | None:
    """What is left of what was compacted; without a summary, nothing."""
    if entry["type"] != "context_compaction":
        return None
    summary: str | None = (entry["data"] or {}).get("summary")
    return summary


def _to_user_message(entry: Entry) -> UserMessage:
    content = entry["content"]
    frame = (entry["data"] or {}).get("frame")
    if frame is None:
        return UserMessage(content=content)
    # The first block is the message itself; the frame has the rest in a better form.
    has_message = "event_id" in frame
    text = content[0]["text"] if has_message and content else ""
    return UserMessage(content=content, framed=render(frame, text))


def _to_answer(entry: Entry) -> Answer:
    data = entry["data"] or {}
    return Answer(
        text="".join(b["text"] for b in entry["content"] if b["type"] == "text"),
        reasoning=data.get("reasoning", ""),
        tool_calls=tuple(ToolCall(**call) for call in data.get("tool_calls", ())),
        stop_reason=data.get("stop_reason", "end"),
        usage=Usage(**(entry["usage"] or {})),
        native=_to_native(data.get("native")),
    )


def _to_native(native: Mapping[str, Any] | None) -> Native | None:
    if native is None:
        return None
    return Native(
        provider=native["provider"],
        model=native["model"],
        items=tuple(native["items"]),
    )


def _to_tool_message(entry: Entry) -> ToolMessage:
    text = "".join(b["text"] for b in entry["content"] if b["type"] == "text")
    return ToolMessage(
        call_id=entry["tool_call_id"],
        name=entry["tool_name"],
        result=ToolResult(
            text=text,
            status=entry["status"],
            blocks=tuple(b for b in entry["content"] if b["type"] != "text"),
        ),
    )
