"""Histories that were cut anywhere become conversations a provider accepts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.messages import (
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
    close_abandoned_calls,
    open_calls,
    with_own_ids,
)
from agents.models.history import parse_arguments


def turn(number: int, rounds: list[int]) -> list[Message]:
    """A whole turn: a message, answers with so many calls each, and a reply."""
    content = [{"type": "text", "text": f"message {number}"}]
    messages: list[Message] = [UserMessage(content=content)]
    for round_number, count in enumerate([*rounds, 0]):
        ids = [f"{number}-{round_number}-{index}" for index in range(count)]
        made = tuple(ToolCall(id=id, name="noop", arguments={}) for id in ids)
        messages.append(AssistantMessage(answer=Answer(tool_calls=made)))
        done = ToolResult(text="done")
        messages += [ToolMessage(call_id=i, name="noop", result=done) for i in ids]
    return messages


@st.composite
def cut_histories(draw: st.DrawFn) -> list[Message]:
    """Turns one behind the other, each of them cut off somewhere."""
    history: list[Message] = []
    for number in range(draw(st.integers(0, 4))):
        whole = turn(number, draw(st.lists(st.integers(0, 3), max_size=3)))
        history += whole[: draw(st.integers(1, len(whole)))]
    return history


def blocks(messages: list[Message]) -> Iterator[tuple[Answer, list[ToolMessage]]]:
    """Each answer with the results that stand directly behind it."""
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            behind: list[ToolMessage] = []
            for follower in messages[index + 1 :]:
                if not isinstance(follower, ToolMessage):
                    break
                behind.append(follower)
            yield message.answer, behind


@given(cut_histories())
def test_every_call_is_answered_once_in_order_and_behind_its_answer(history) -> None:
    for answer, behind in blocks(close_abandoned_calls(history)):
        assert [result.call_id for result in behind] == [
            call.id for call in answer.tool_calls
        ]


@given(cut_histories())
def test_nothing_is_lost_and_only_unknown_outcomes_are_added(history) -> None:
    closed = close_abandoned_calls(history)
    added = [
        message
        for message in closed
        if isinstance(message, ToolMessage) and message.result.text == OUTCOME_UNKNOWN
    ]
    assert [message for message in closed if message not in added] == history
    assert {message.result.status for message in added} <= {"uncertain"}


@given(cut_histories())
def test_closing_twice_is_closing_once(history) -> None:
    closed = close_abandoned_calls(history)
    assert close_abandoned_calls(closed) == closed


@given(cut_histories())
def test_what_is_open_is_what_would_be_closed_at_the_end(history) -> None:
    added = len(close_abandoned_calls(history)) - len(history)
    inner = len(close_abandoned_calls([*history, *turn(9, [])])) - len(history) - 2
    assert inner == added
    still_open = {call.id for call in open_calls(history)}
    closed_at_the_end = [
        message.call_id
        for message in close_abandoned_calls(history)[-len(still_open) or None :]
        if isinstance(message, ToolMessage) and still_open
    ]
    assert closed_at_the_end == [call.id for call in open_calls(history)]


def test_a_message_after_the_answer_leaves_nothing_open() -> None:
    whole = turn(1, [2])[:2]
    assert [call.id for call in open_calls(whole)] == ["1-0-0", "1-0-1"]
    assert open_calls([*whole, UserMessage(content=[])]) == []
    assert open_calls([]) == []


def test_usage_adds_up() -> None:
    total = Usage(input_tokens=1, cache_read_tokens=2) + Usage(input_tokens=3)
    assert total.as_json() == {
        "input_tokens": 4,
        "output_tokens": 0,
        "cache_read_tokens": 2,
        "cache_write_tokens": 0,
    }


def test_the_text_of_a_message_is_its_text_blocks() -> None:
    message = UserMessage(
        content=[
            {"type": "text", "text": "a"},
            {"type": "image", "data": "…"},
            {"type": "text", "text": "b"},
        ]
    )
    assert message.text == "a\n\nb"


def test_calls_without_an_id_of_their_own_are_given_one() -> None:
    def call(id: str) -> ToolCall:
        return ToolCall(id=id, name="noop", arguments={})

    before = AssistantMessage(answer=Answer(tool_calls=(call("c"),)))
    native = Native(provider="acme", model="m", items=({"id": "c"},))
    answer = Answer(
        tool_calls=(call("c"), call("d"), call("d"), call(""), call("")), native=native
    )
    changed = with_own_ids(answer, [before], step=7)
    ids = [each.id for each in changed.tool_calls]
    assert ids == ["c-7-1", "d", "d-7-3", "call-7-4", "call-7-5"]
    assert changed.native is None


def test_calls_with_ids_of_their_own_keep_them_and_the_provider_s_form() -> None:
    native = Native(provider="acme", model="m", items=({"id": "c"},))
    call = ToolCall(id="c", name="noop", arguments={})
    answer = Answer(tool_calls=(call,), native=native)
    assert with_own_ids(answer, [], step=1) is answer


@pytest.mark.parametrize("raw", ['{"n": NaN}', '{"n": -Infinity}', "[1]", '{"n"', "7"])
def test_arguments_that_are_no_json_object_are_none(raw: str) -> None:
    assert parse_arguments(raw) is None


def test_no_arguments_are_an_empty_object() -> None:
    assert parse_arguments("") == {}
