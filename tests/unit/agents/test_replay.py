"""The replayed model: as it was recorded, or a sentence that says where it was not."""

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
from agents.models import Delta, ModelError, Request, open_model
from agents.models.replay import ReplayModel

LOOK = {
    "id": "toolu_7",
    "name": "look",
    "arguments": {"at": "ü"},
    "raw_arguments": '{"at":"ü"}',
}
CASSETTE: list[dict[str, Any]] = [
    {
        "inputs": ["What do you see?"],
        "text": "Let me look.",
        "reasoning": "They ask.",
        "tool_calls": [LOOK],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 9, "output_tokens": 4},
    },
    {
        "inputs": ["Be brief."],
        "text": "The  sky.\n",
        "reasoning": "",
        "tool_calls": [],
        "stop_reason": "length",
        "usage": {},
    },
]
FIRST = Answer(
    text="Let me look.",
    reasoning="They ask.",
    tool_calls=(ToolCall(**LOOK),),
    stop_reason="tool_use",
    usage=Usage(input_tokens=9, output_tokens=4),
)
SECOND = Answer(text="The  sky.\n", stop_reason="length")


def user(text: str) -> Message:
    return UserMessage(content=[{"type": "text", "text": text}])


def result(text: str) -> Message:
    return ToolMessage(call_id="toolu_7", name="look", result=ToolResult(text=text))


ASKED = (user("What do you see?"), AssistantMessage(answer=FIRST))
WHOLE = (*ASKED, result("blue"), user("Be brief."), AssistantMessage(answer=SECOND))


def ask(*messages: Message) -> tuple[Answer, list[Delta]]:
    deltas: list[Delta] = []
    request = Request(system="", messages=messages, tools=())
    model = ReplayModel(CASSETTE)
    return model.stream(request, deltas.append, Interrupt()), deltas


def test_an_answer_comes_as_it_was_in_pieces() -> None:
    answer, deltas = ask(user("What do you see?"))
    assert answer == FIRST
    assert [(each.kind, each.text) for each in deltas] == [
        ("reasoning", "They ask."),
        ("text", "Let"),
        ("text", " me"),
        ("text", " look."),
        ("tool_call", '{"at":"ü"}'),
    ]


def test_what_was_said_and_what_tools_return_may_differ() -> None:
    answer, _ = ask(user("And now?"), ASKED[1], result("grey"), user("Briefly!"))
    assert answer == SECOND


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ((user("a"), user("b")), "before answer 1: 2 messages where it had 1"),
        ((*ASKED, result("blue")), "before answer 2: 0 messages where it had 1"),
        ((*ASKED, user("x")), "before answer 2: 0 tool results where it had 1"),
        (
            (*ASKED, result("blue"), result("red"), user("x")),
            "before answer 2: 2 tool results where it had 1",
        ),
        ((*WHOLE, user("more")), "unexpected call 3; the record has 2 answers"),
    ],
)
def test_a_conversation_that_departs_from_the_record_is_told_where(
    messages, sentence
) -> None:
    with pytest.raises(ModelError, match=sentence) as raised:
        ask(*messages)
    assert (raised.value.kind, raised.value.is_retriable) == ("script", False)


def test_a_cassette_is_opened_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "cassette.json"
    file.write_text(json.dumps({"turn_id": "turn-1", "answers": CASSETTE}))
    model = open_model(f"replay/{file}")
    request = Request(system="", messages=ASKED[:1], tools=())
    assert model.name == f"replay/{file}"
    assert model.stream(request, lambda _: None, Interrupt()) == FIRST


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "roost record TURN >"),
        ('{"answers": [{"txt": ""}]}', "unknown field 'txt'"),
    ],
)
def test_a_file_that_is_no_cassette_says_so(tmp_path, text, sentence) -> None:
    file = tmp_path / "cassette.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ModelError, match=sentence) as raised:
        open_model(f"replay/{file}")
    assert raised.value.kind == "script"
