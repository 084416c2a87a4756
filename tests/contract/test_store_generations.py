"""The store seam: generations, their summaries and their prompts, on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from broker import agents, entries, generations, recovery, steps
from broker.entries import NewEntry
from broker.errors import LeaseLost, NotFound
from broker.generations import Compaction
from broker.turns import Turn


def append(store: Any, turn: Turn, type: str, text: str, **more: Any) -> int:
    content = [{"type": "text", "text": text}]
    new = NewEntry(type=type, role=None, content=content, **more)
    with store.write() as tx:
        generation = turn.agent["generation"]
        return entries.append(tx, turn.agent["id"], generation, turn.id, new)[0]


def say(store: Any, turn: Turn, text: str) -> int:
    return append(store, turn, "assistant_message", text)


def freeze(store: Any, turn: Turn, text: str) -> None:
    append(store, turn, "tools_config", "no tools")
    append(store, turn, "system_prompt", text)


def compaction(first_kept: int | None = None, summary: str = "so far") -> Compaction:
    return Compaction(
        reason="threshold",
        summary=summary,
        first_kept_entry_id=first_kept,
        tokens_before=100,
        summarised_by="m",
        details={"read_files": ["a"]},
    )


def compact(store: Any, why: str | None = None) -> int:
    with store.write() as tx:
        return generations.compact(tx, "scout", why)


def advance(store: Any, turn: Turn, new: Compaction, *, with_prompt: bool) -> int:
    with store.write() as tx:
        return generations.advance(tx, turn, new, with_prompt=with_prompt)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    """What a model reads of entries: not a mere request."""
    said = [
        row for row in rows if row["data"] is None or "instructions" not in row["data"]
    ]
    return [row["content"][0]["text"] for row in said]


def rebuilt(store: Any, turn: Turn, generation: int) -> list[str]:
    with store.write() as tx:
        return texts(entries.rebuild(tx, "scout", generation, turn.id))


def before(store: Any, turn: Turn) -> list[str]:
    with store.write() as tx:
        return texts(generations.conversation_before(tx, turn))


@pytest.fixture
def turn(store: Any) -> Turn:
    """A turn that has answered once, after one that is over."""
    store.agent()
    first = store.take_turn("one")
    say(store, first, "1")
    store.complete(first)
    second = store.take_turn("two")
    freeze(store, second, "Be brief.")
    say(store, second, "2")
    return second


# A person asks.


@pytest.mark.line("G72")
def test_who_asks_begins_a_generation_and_keeps_the_old_one(store, turn) -> None:
    assert compact(store, "names") == 2
    assert agents.get(store.database, "scout")["generation"] == 2
    listed = entries.list_after(store.database, "scout", generation=2)
    assert [(each["type"], each["data"]) for each in listed] == [
        ("context_compaction", {"reason": "manual", "instructions": "names"})
    ]
    old = entries.list_after(store.database, "scout", generation=1)
    assert len(old) == 6


def test_who_asks_for_an_unknown_agent_is_told(store) -> None:
    with store.write() as tx, pytest.raises(NotFound):
        generations.compact(tx, "ghost", None)


def test_the_first_turn_of_a_generation_finds_the_request(store, turn) -> None:
    assert generations.find_request(store.database, turn) is None
    compact(store, "names")
    assert generations.find_request(store.database, turn) is None  # it is not its own
    with store.write() as tx:
        assert generations.find_later_request(tx, turn) == "names"
    store.complete(turn)
    third = store.take_turn("three")
    assert generations.find_request(store.database, third) == "names"
    assert before(store, third) == ["one", "1", "two", "2"]


def test_a_request_without_a_word_is_a_request(store, turn) -> None:
    store.complete(turn)
    compact(store)
    assert generations.find_request(store.database, store.take_turn()) == ""


def test_requests_with_nothing_between_them_see_the_same_past(store, turn) -> None:
    store.complete(turn)
    compact(store)
    compact(store)
    assert before(store, store.take_turn("three")) == ["one", "1", "two", "2"]


def test_an_agent_that_has_said_nothing_has_no_past(store) -> None:
    store.agent()
    compact(store)
    assert before(store, store.take_turn("one")) == []


def test_a_summary_heads_the_generation_that_was_asked_for(store, turn) -> None:
    store.complete(turn)
    compact(store)
    third = store.take_turn("three")
    own = next(e["id"] for e in third.history if e["turn_id"] == third.id)
    with store.write() as tx:
        generations.summarise(tx, third, compaction(own))
    assert rebuilt(store, third, 2) == ["so far", "three"]
    say(store, third, "3")
    store.complete(third)
    fourth = store.take_turn("four")
    assert rebuilt(store, fourth, 2) == ["so far", "three", "3", "four"]
    assert generations.find_request(store.database, fourth) == ""  # but it has begun


def test_a_summary_alone_is_a_past_too(store, turn) -> None:
    store.complete(turn)
    compact(store)
    third = store.take_turn("three")
    own = next(e["id"] for e in third.history if e["turn_id"] == third.id)
    with store.write() as tx:
        generations.summarise(tx, third, compaction(own))
    store.complete(third)
    compact(store)
    assert before(store, store.take_turn("four")) == ["so far", "three"]


# A turn has no room.


def test_a_turn_moves_with_its_agent_into_the_next_generation(store, turn) -> None:
    kept = next(e["id"] for e in turn.history if e["turn_id"] == turn.id)
    assert advance(store, turn, compaction(kept), with_prompt=False) == 2
    assert agents.get(store.database, "scout")["generation"] == 2
    assert rebuilt(store, turn, 2)[0] == "so far"
    assert "one" not in rebuilt(store, turn, 2)
    assert {"two", "2"} < set(rebuilt(store, turn, 2))
    assert entries.find_prompt(store.database, "scout", 2) is None


def test_within_a_turn_the_frozen_prompt_goes_along(store, turn) -> None:
    advance(store, turn, compaction(), with_prompt=True)
    assert entries.find_prompt(store.database, "scout", 2) == "Be brief."
    new = entries.list_after(store.database, "scout", generation=2)
    assert [each["type"] for each in new] == [
        "context_compaction",
        "tools_config",
        "system_prompt",
    ]
    assert new[0]["data"] == {
        "reason": "threshold",
        "summary": "so far",
        "first_kept_entry_id": None,
        "tokens_before": 100,
        "summarised_by": "m",
        "details": {"read_files": ["a"]},
    }


def test_a_turn_moves_into_the_generation_that_somebody_asked_for(store, turn) -> None:
    """The request is fulfilled: its summary is there, its prompt is made anew."""
    compact(store)
    assert compact(store) == 3
    assert advance(store, turn, compaction(), with_prompt=True) == 3
    assert agents.get(store.database, "scout")["generation"] == 3
    assert entries.find_prompt(store.database, "scout", 3) is None
    assert rebuilt(store, turn, 3)[0] == "so far"


def test_who_lost_the_lease_begins_no_generation(store, turn) -> None:
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
    with pytest.raises(LeaseLost):
        advance(store, turn, compaction(), with_prompt=True)
    with store.write() as tx, pytest.raises(LeaseLost):
        generations.summarise(tx, turn, compaction())
    assert agents.get(store.database, "scout")["generation"] == 1
    assert entries.list_after(store.database, "scout", generation=2) == []


def test_answers_that_were_cut_off_are_found_but_not_those_before_an_edit(
    store, turn
) -> None:
    own = next(e["id"] for e in turn.history if e["turn_id"] == turn.id)
    last = say(store, turn, "3")

    def cut_off(first_kept: int) -> list[str]:
        rows = generations.answers_cut_off(store.database, turn, first_kept)
        return [row["content"][0]["text"] for row in rows]

    assert (cut_off(own), cut_off(last), cut_off(last + 1)) == ([], ["2"], ["2", "3"])
    append(store, turn, "user_message", "rather this", data={"edited": True})
    newest = say(store, turn, "4")
    assert cut_off(newest + 1) == ["4"]


def test_an_answer_knows_the_model_that_gave_it(store, turn) -> None:
    with store.write() as tx:
        number, _ = steps.start_model(tx, turn.id, turn.epoch, "demo")
    assert generations.model_of(store.database, turn.id, number) == "demo"
    assert generations.model_of(store.database, turn.id, number + 1) is None
