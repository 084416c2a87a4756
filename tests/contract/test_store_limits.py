"""Limits of providers, on each store: rates, places, and who is let in first."""

from __future__ import annotations

from typing import Any

import pytest

from broker import limits, recovery, tasks, turns
from broker.leases import Worker
from broker.limits import Busy
from broker.states import Priority
from broker.times import SECOND_US, now_us
from broker.turns import Park, Turn

MODEL = "acme/large"


def take(
    store: Any, turn: Turn, known: dict[str, dict[str, float]], tokens: int = 100
) -> Busy | None:
    with store.write() as tx:
        return limits.take(tx, known, MODEL, (turn.id, turn.epoch), tokens=tokens)


def settle(
    store: Any, turn: Turn, known: dict[str, dict[str, float]], unexpected: int = 0
) -> None:
    with store.write() as tx:
        limits.settle(tx, known, MODEL, turn.id, unexpected=unexpected)


def park(store: Any, turn: Turn, busy: Busy) -> None:
    wait = Park(
        step=-1,
        target_ids=(busy.target,),
        deadline_at=busy.deadline_at,
        why=busy.why,
    )
    with store.write() as tx:
        turns.park(tx, turn, [wait], heeds=False)


def let_pass(store: Any, seconds: float) -> None:
    with store.write() as tx:
        tx.execute(
            "UPDATE rates SET filled_at = filled_at - ?", int(seconds * SECOND_US)
        )


@pytest.fixture
def takers(store: Any) -> list[Turn]:
    """Running turns of agents of their own."""
    found = []
    for number in range(12):
        store.agent(f"a{number}")
        found.append(store.claim_turn(store.post(to=f"a{number}").turn_id))
    return found


def test_without_a_limit_nothing_is_counted(store, takers) -> None:
    assert take(store, takers[0], {"another/*": {"in_flight": 1}}) is None
    assert store.database.read("SELECT * FROM calls") == []


def test_requests_a_minute_are_let_through_and_fill_up_with_time(store, takers) -> None:
    known = {"acme/*": {"requests_per_minute": 6}}
    found = [take(store, turn, known) for turn in takers[:7]]
    assert found[:6] == [None] * 6
    busy = found[6]
    assert busy is not None
    assert busy.why == {
        "kind": "provider_limit",
        "name": "acme/*",
        "unit": "requests_per_minute",
        "limit": 6,
    }
    assert 9 < (busy.deadline_at - now_us()) / SECOND_US < 11
    let_pass(store, 10)
    assert take(store, takers[6], known) is None
    assert take(store, takers[7], known) is not None


def test_tokens_are_counted_as_they_were_used(store, takers) -> None:
    known = {MODEL: {"tokens_per_minute": 1000}}
    assert take(store, takers[0], known, tokens=600) is None
    assert take(store, takers[1], known, tokens=600) is not None
    settle(store, takers[0], known, unexpected=-500)
    assert take(store, takers[1], known, tokens=600) is None
    settle(store, takers[1], known, unexpected=1_300)
    busy = take(store, takers[2], known, tokens=100)
    assert busy is not None
    assert 65 < (busy.deadline_at - now_us()) / SECOND_US < 80


def test_a_call_that_is_larger_than_a_minute_s_tokens_is_made_alone(
    store, takers
) -> None:
    known = {MODEL: {"tokens_per_minute": 1000}}
    assert take(store, takers[0], known, tokens=5000) is None
    assert take(store, takers[1], known, tokens=1) is not None


def test_only_so_many_calls_are_under_way_and_an_end_lets_the_next_in(
    store, takers
) -> None:
    known = {"acme/*": {"in_flight": 2}}
    assert [take(store, turn, known) for turn in takers[:2]] == [None, None]
    for turn in takers[2:4]:
        busy = take(store, turn, known)
        assert busy is not None
        park(store, turn, busy)
        assert store.status(turn.id) == "waiting"
    settle(store, takers[0], known)
    assert [store.status(t.id) for t in takers[2:4]] == ["queued", "waiting"]
    assert limits.list_rates(store.database) == [{"name": "acme/*", "in_flight": 1}]


def test_of_those_that_wait_the_most_urgent_is_let_in_first(store, takers) -> None:
    known = {"acme/*": {"in_flight": 1}}
    assert take(store, takers[0], known) is None
    store.agent("late")
    urgent = store.claim_turn(
        store.post(to="late", priority=Priority.INTERRUPT).turn_id
    )
    for turn in (takers[1], urgent):
        busy = take(store, turn, known)
        assert busy is not None
        park(store, turn, busy)
    settle(store, takers[0], known)
    assert store.status(urgent.id) == "queued"
    assert store.status(takers[1].id) == "waiting"


def test_a_call_whose_worker_died_holds_no_place(store, takers) -> None:
    known = {"acme/*": {"in_flight": 1}}
    assert take(store, takers[0], known) is None
    assert take(store, takers[1], known) is not None
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
        claimed = tasks.claim(tx, takers[1].id, Worker(owner="worker-2"))
    assert claimed is not None
    with store.write() as tx:
        again = (takers[1].id, claimed["epoch"])
        assert limits.take(tx, known, MODEL, again, tokens=1) is None


def test_a_call_that_is_made_again_takes_one_place(store, takers) -> None:
    known = {"acme/*": {"in_flight": 2}}
    for _ in range(3):
        assert take(store, takers[0], known) is None
    assert take(store, takers[1], known) is None


def test_what_works_in_the_background_leaves_room_for_people(store, takers) -> None:
    known = {"acme/*": {"in_flight": 10, "requests_per_minute": 100}}
    with store.write() as tx:
        tx.execute("UPDATE tasks SET rank = rank + 1 WHERE id <> ?", takers[11].id)
    found = [take(store, turn, known) for turn in takers[:9]]
    assert found[:8] == [None] * 8
    assert found[8] is not None
    assert take(store, takers[11], known) is None


def test_nothing_is_taken_where_there_is_no_room_everywhere(store, takers) -> None:
    known = {
        MODEL: {"requests_per_minute": 10},
        "acme/*": {"in_flight": 1},
    }
    assert take(store, takers[0], known) is None
    for _ in range(20):
        assert take(store, takers[1], known) is not None
    (row,) = store.database.read("SELECT requests FROM rates WHERE name = ?", MODEL)
    assert round(row["requests"]) == 9


def test_a_list_of_models_counts_as_its_first() -> None:
    known = {"acme/*": {}, "acme/large": {}, "other/*": {}}
    assert limits.fitting(known, "acme/large,other/small") == ["acme/large", "acme/*"]
    assert limits.fitting(known, "other/small") == ["other/*"]
    assert limits.fitting(known, "demo") == []
