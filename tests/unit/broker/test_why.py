"""Why something happened, read from what was written down."""

from __future__ import annotations

from typing import Any

import pytest

from broker import turns, why
from broker.errors import NotFound
from broker.times import SECOND_US, now_us
from broker.turns import Park


@pytest.fixture
def story(house: Any) -> Any:
    """`scout` asks `owl`, whose turn starts an exec that is not over."""
    house.agent()
    house.agent("owl")
    first = house.take_turn("find it out")
    asked = house.post(
        "do it", to="owl", source="agent/scout", key=f"send/{first.id}/2"
    )
    turn = house.claim_turn(asked.turn_id)
    house.create(id="e", agent_id="owl", parent_id=turn.id)
    return house, first, turn


def test_the_chain_leads_from_an_exec_to_the_first_message(story) -> None:
    house, first, turn = story
    chain = why.explain(house.database, "e")["chain"]
    assert [link["kind"] for link in chain] == [
        "event",
        "turn",
        "event",
        "turn",
        "exec",
    ]
    assert [chain[1]["id"], chain[3]["id"]] == [first.id, turn.id]
    assert chain[0]["what"].endswith("find it out")


def test_the_tree_holds_everything_that_came_of_the_root(story) -> None:
    house, first, _ = story
    found = why.explain(house.database, first.id)
    names = []
    node = found["tree"]
    while node:
        names.append((node["kind"], node["id"]))
        node = next(iter(node["led_to"]), None)
    assert [kind for kind, _ in names] == ["event", "turn", "event", "turn", "exec"]
    assert found["is_cut"] is False


def test_a_parked_turn_says_what_would_wake_it(story) -> None:
    house, _, turn = story
    due = now_us() + 60 * SECOND_US
    with house.write() as tx:
        park = Park(step=1, target_ids=("e",), deadline_at=due, why={})
        assert turns.park(tx, turn, park)
    tree = why.explain(house.database, turn.id)["tree"]
    node = tree["led_to"][0]["led_to"][0]["led_to"][0]
    assert node["unblocked_by"].startswith("the end of e (queued), at the latest in ")
    assert node["led_to"][0]["unblocked_by"] == "a worker that is free"


def test_a_queued_turn_says_what_is_before_it(story) -> None:
    house, first, _ = story
    later = house.post("and then").turn_id
    node = why.explain(house.database, later)["tree"]["led_to"][0]
    assert node["unblocked_by"] == (f"the end of {first.id}, which the agent takes now")


def test_a_storm_is_cut(house) -> None:
    house.create("job", id="root")
    for n in range(why.NODES):
        house.create("job", id=f"j{n}", parent_id="root")
    found = why.explain(house.database, "root")
    assert (len(found["tree"]["led_to"]), found["is_cut"]) == (why.NODES - 1, True)


def test_a_loop_ends(house) -> None:
    house.create("job", id="a", parent_id="b")
    house.create("job", id="b", parent_id="a")
    found = why.explain(house.database, "a")
    assert [link["id"] for link in found["chain"]] == ["b", "a"]
    assert found["tree"]["led_to"][0]["led_to"] == []


def test_a_cause_that_retention_forgot_is_where_the_chain_begins(house) -> None:
    house.create("job", id="child", parent_id="forgotten", cause_id=999)
    chain = why.explain(house.database, "child")["chain"]
    assert [link["id"] for link in chain] == ["child"]


@pytest.mark.parametrize("id", ["nothing", "12", "²", "9" * 30])
def test_what_is_not_there_is_not_found(house, id) -> None:
    with pytest.raises(NotFound):
        why.explain(house.database, id)
