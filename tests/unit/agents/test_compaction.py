"""Where a conversation may be cut, how long it is, and what is told of what goes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.compaction import (
    KEEP_TOKENS,
    RESERVE_TOKENS,
    Cut,
    Item,
    context_tokens,
    estimate,
    estimate_all,
    find_cut,
    find_summary,
    fresh_from,
    items_of,
    keep_limit,
    threshold,
)
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


def user(text: str = "hello") -> UserMessage:
    return UserMessage(content=[{"type": "text", "text": text}])


def answer(text: str = "", *calls: str, **more: Any) -> AssistantMessage:
    made = tuple(
        ToolCall(id=id, name="noop", arguments={}, raw_arguments="{}") for id in calls
    )
    return AssistantMessage(answer=Answer(text=text, tool_calls=made, **more))


def result(call_id: str, text: str = "done") -> ToolMessage:
    return ToolMessage(call_id=call_id, name="noop", result=ToolResult(text=text))


def items(*messages: Message, generation: int = 1) -> list[Item]:
    return [
        Item(entry={"id": id, "generation": generation}, message=message)
        for id, message in enumerate(messages, start=1)
    ]


def ids(part: tuple[Item, ...]) -> list[int]:
    return [item.entry_id for item in part]


def shown(cut: Cut | None) -> tuple[list[int], list[int], list[int]] | None:
    return cut and (ids(cut.past), ids(cut.head), ids(cut.kept))


LONG = "x" * 400  # a hundred tokens


# How long it is.


@pytest.mark.line("P41")
def test_four_characters_are_a_token_and_an_image_is_4800_characters() -> None:
    image = UserMessage(content=[{"type": "image", "artifact": "a"}])
    assert (estimate(user("12345678")), estimate(user("123456789"))) == (2, 3)
    assert estimate(image) == 1_200
    assert estimate(answer("1234", "a")) == 3  # "1234", "noop", "{}"


@pytest.mark.line("P41")
def test_the_models_own_count_goes_before_an_estimate() -> None:
    usage = Usage(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=3,
        cache_write_tokens=4,
    )
    said = [user(LONG), answer("hm", usage=usage), user(LONG)]
    assert context_tokens(said) == 127 + 100
    assert context_tokens(said, fresh_from=2) == estimate_all(said)
    assert context_tokens(said[2:], before=7) == 107


@pytest.mark.line("P48")
def test_an_answer_that_was_cut_short_counts_for_nothing() -> None:
    usage = Usage(input_tokens=10_000)
    said = [user(), answer("hm", usage=usage, stop_reason="interrupted")]
    assert context_tokens(said) == estimate_all(said)


@pytest.mark.line("P48")
def test_counts_from_before_a_compaction_are_not_believed() -> None:
    usage = Usage(input_tokens=180_000)
    kept = items(user(), answer("ok", usage=usage), generation=1)
    new = items(user(), answer("ok"), generation=2)
    assert fresh_from([*kept, *new], 2) == 2
    assert fresh_from(kept, 1) == 0
    said = [item.message for item in [*kept, *new]]
    assert context_tokens(said, fresh_from=2) < 100


@pytest.mark.line("P41", "P42")
@pytest.mark.parametrize("window", [200_000, 1_000_000])
def test_a_large_window_has_pis_reserve_and_pis_tail(window: int) -> None:
    assert threshold(window) == window - RESERVE_TOKENS
    assert keep_limit(window, window) == KEEP_TOKENS


@pytest.mark.line("P41", "P42")
def test_a_small_window_keeps_less_than_it_allows() -> None:
    assert threshold(4_000) == 3_000
    assert keep_limit(4_000, 3_000) == 1_500
    assert keep_limit(4_000, 100_000) == 2_000


# Where it is cut.


@pytest.mark.line("P42")
def test_a_cut_keeps_the_newest_turns() -> None:
    said = items(user(LONG), answer(LONG), user(LONG), answer(LONG), user(LONG))
    assert shown(find_cut(said, 250)) == ([1, 2], [], [3, 4, 5])


def test_what_fits_is_not_cut() -> None:
    assert find_cut(items(user(LONG), answer(LONG)), 1_000) is None
    assert find_cut([], 10) is None


@pytest.mark.line("P42")
def test_a_message_that_nobody_has_answered_is_never_cut_off() -> None:
    said = items(user("old"), answer("ok"), user(LONG), user("quick"))
    assert shown(find_cut(said, 1)) == ([1, 2], [], [3, 4])
    assert find_cut(items(user(LONG)), 1) is None
    assert find_cut(items(user(LONG), user(LONG)), 1) is None


@pytest.mark.line("P42", "P43")
def test_a_cut_within_a_turn_has_its_head_apart() -> None:
    said = items(
        user("one"),
        answer("ok"),
        user("two"),
        answer(LONG, "a"),
        result("a", LONG),
        answer(LONG, "b"),
        result("b"),
    )
    cut = find_cut(said, 50)
    assert shown(cut) == ([1, 2], [3, 4, 5], [6, 7])
    assert cut is not None
    assert cut.first_kept_entry_id == 6
    assert ids(cut.summarised) == [1, 2, 3, 4, 5]


def test_a_turn_that_was_cut_before_has_no_head_any_more() -> None:
    said = items(answer(LONG, "a"), result("a"), answer(LONG, "b"), result("b"))
    assert shown(find_cut(said, 50)) == ([1, 2], [], [3, 4])


@pytest.mark.line("P42")
def test_a_result_that_is_too_long_itself_stays_with_its_call() -> None:
    said = items(user("go"), answer("", "a"), result("a", LONG * 100))
    assert shown(find_cut(said, 50)) == ([], [1], [2, 3])


@pytest.mark.line("P42")
def test_a_message_between_a_call_and_its_result_is_no_place_to_cut() -> None:
    said = items(
        user("go"), answer(LONG, "a", "b"), result("a"), user("stop"), result("b")
    )
    assert shown(find_cut(said, 1)) == ([], [1], [2, 3, 4, 5])


def test_a_turn_that_was_tried_again_is_not_cut_apart_by_its_age() -> None:
    """It stands behind another that is younger, and what is kept is told by an id."""
    turns = [user(LONG), answer(LONG), user("go"), answer("", "a"), user(LONG)]
    said = items(*turns, answer(LONG))
    moved = [said[id - 1] for id in (1, 2, 5, 6, 3, 4)]
    cut = find_cut(moved, 50)
    assert shown(cut) == ([1, 2], [], [5, 6, 3, 4])
    assert cut is not None
    assert cut.first_kept_entry_id == 3


def test_no_more_messages_are_kept_than_may_be() -> None:
    said = items(*[user("a"), answer("b")] * 5)
    assert shown(find_cut(said, 1_000, keep_messages=4)) == (
        [1, 2, 3, 4, 5, 6],
        [],
        [7, 8, 9, 10],
    )


def test_nothing_younger_than_a_given_entry_is_cut_off() -> None:
    said = [item for item in items(*[user("a"), answer("b")] * 4) if item.entry_id != 4]
    assert shown(find_cut(said, 1, before_id=4)) == ([1, 2, 3], [], [5, 6, 7, 8])
    assert find_cut(said, 1, before_id=1) is None


# What holds for every conversation.


@st.composite
def conversations(draw: st.DrawFn) -> list[Item]:
    """Turns of a message, rounds of calls with their results, perhaps an answer."""
    texts = st.text("ab ", max_size=120)
    messages: list[Message] = []
    for turn in range(draw(st.integers(0, 4))):
        messages.append(user(draw(texts)))
        for round in range(draw(st.integers(0, 3))):
            calls = [f"{turn}-{round}-{n}" for n in range(draw(st.integers(1, 3)))]
            messages.append(answer(draw(texts), *calls))
            answered = calls if draw(st.booleans()) else calls[:-1]
            messages += [result(id, draw(texts)) for id in answered]
        if draw(st.booleans()):
            messages.append(answer(draw(texts)))
    return items(*messages)


@given(conversations(), st.integers(0, 200))
def test_what_is_kept_and_what_is_summarised_is_all_of_it(
    said: list[Item], keep: int
) -> None:
    cut = find_cut(said, keep)
    if cut is not None:
        assert [*cut.past, *cut.head, *cut.kept] == said
        assert cut.summarised
        assert cut.kept
        first = cut.first_kept_entry_id or 0
        assert [i for i in said if i.entry_id >= first] == list(cut.kept)


@pytest.mark.line("P42")
@given(conversations(), st.integers(0, 200))
def test_a_cut_never_separates_a_call_from_its_result(
    said: list[Item], keep: int
) -> None:
    cut = find_cut(said, keep)
    if cut is not None:
        asked = {
            call.id
            for item in cut.kept
            if isinstance(item.message, AssistantMessage)
            for call in item.message.answer.tool_calls
        }
        got = {
            item.message.call_id
            for item in cut.kept
            if isinstance(item.message, ToolMessage)
        }
        assert got <= asked
        assert not isinstance(cut.kept[0].message, ToolMessage)


@given(conversations(), st.integers(0, 200))
def test_a_head_begins_with_the_turns_message(said: list[Item], keep: int) -> None:
    cut = find_cut(said, keep)
    if cut is not None and cut.head:
        assert isinstance(cut.head[0].message, UserMessage)
        assert isinstance(cut.kept[0].message, AssistantMessage)


@given(conversations(), conversations())
def test_more_conversation_is_never_fewer_tokens(
    said: list[Item], more: list[Item]
) -> None:
    first = [item.message for item in said]
    then = [item.message for item in more]
    assert context_tokens([*first, *then]) >= context_tokens(first)
    assert estimate_all([*first, *then]) == estimate_all(first) + estimate_all(then)


@given(st.integers(1, 2_000_000), st.integers(0, 2_000_000))
def test_a_tail_always_fits_below_the_threshold(window: int, said: int) -> None:
    assert 0 <= keep_limit(window, said) <= threshold(window) <= window


# What is read from entries.


def entry(id: int, type: str, text: str = "", **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    base = {"id": id, "type": type, "content": content, "generation": 1}
    return {**base, "data": None, "usage": None, **more}


def summary_entry(id: int, text: str, reason: str = "manual") -> dict[str, Any]:
    data = {"reason": reason, "summary": text, "summarised_by": "m", "details": {}}
    return entry(id, "context_compaction", data=data)


@pytest.mark.line("P46")
def test_only_the_newest_summary_counts_and_a_request_is_none() -> None:
    request = entry(9, "context_compaction", data={"reason": "manual"})
    history = [summary_entry(5, "new"), entry(6, "user_message"), request]
    found = find_summary([summary_entry(3, "old"), *history])
    assert found is not None
    assert found.text == "new"
    assert find_summary([request]) is None


def test_messages_keep_the_ids_of_their_entries_and_summaries_are_none() -> None:
    history = [
        summary_entry(7, "so far"),
        entry(3, "user_message", "hello"),
        entry(4, "system_prompt", "be brief"),
        entry(5, "assistant_message", "hi"),
    ]
    found = items_of(history)
    assert ids(tuple(found)) == [3, 5]
