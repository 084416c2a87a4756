"""Why something happened, read from what was written down."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker import agents, entries, inbox, steering, tasks, turns, why
from broker.entries import NewEntry
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


def node_of(house: Any, id: str) -> Any:
    """The node of a task, wherever it stands in its tree."""
    waiting = [why.explain(house.database, id)["tree"]]
    while waiting:
        node = waiting.pop()
        if node["id"] == id:
            return node
        waiting += node["led_to"]
    raise AssertionError(f"{id} is not in its own tree")


def unblocked_by(house: Any, id: str) -> str:
    return str(node_of(house, id)["unblocked_by"])


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
        assert turns.park(tx, turn, [park], heeds=True)
    tree = why.explain(house.database, turn.id)["tree"]
    node = tree["led_to"][0]["led_to"][0]["led_to"][0]
    assert node["unblocked_by"].startswith("the end of e (queued), at the latest in ")
    assert node["led_to"][0]["unblocked_by"] == "a worker that is free"


def test_a_queued_turn_says_what_is_before_it(story) -> None:
    house, first, _ = story
    later = house.post("and then").turn_id
    node = why.explain(house.database, later)["tree"]["led_to"][0]
    assert node["unblocked_by"] == (f"the end of {first.id}, which the agent takes now")


def test_turns_in_line_say_what_is_before_them(house) -> None:
    house.agent()
    first, second = house.post("one").turn_id, house.post("two").turn_id
    assert unblocked_by(house, first) == "a worker that is free"
    assert unblocked_by(house, second) == (
        f"the end of {first}, which is before it in the line"
    )
    with house.write() as tx:
        agents.archive(tx, "scout")
    assert unblocked_by(house, second) == "the start of agent scout, which is stopped"


def test_a_turn_that_backs_off_says_until_when_and_why(house) -> None:
    house.agent()
    turn = house.take_turn()
    with house.write() as tx:
        turns.fail(tx, turn, {"type": "x", "message": "It is ill."}, retriable=True)
    said = unblocked_by(house, turn.id)
    assert said.startswith("its back-off (20")
    assert said.endswith("after: It is ill.")


def test_a_turn_that_waits_in_several_steps_names_each(story) -> None:
    house, _, turn = story
    house.create(id="f", agent_id="owl", parent_id=turn.id)
    due = now_us() + 60 * SECOND_US
    parks = [
        Park(step=2, target_ids=("e",), deadline_at=due, why={"task_ids": ["e"]}),
        Park(step=3, target_ids=("e", "f"), deadline_at=None, why={"task_ids": ["f"]}),
    ]
    with house.write() as tx:
        assert turns.park(tx, turn, parks, heeds=True)
    assert json.loads(house.task(turn.id)["waiting_for"])["steps"] == [2, 3]
    node = node_of(house, turn.id)
    assert [(w["key"], w["targets"]) for w in node["waits"]] == [
        (f"{turn.id}/2", [{"id": "e", "status": "queued"}]),
        (
            f"{turn.id}/3",
            [{"id": "e", "status": "queued"}, {"id": "f", "status": "queued"}],
        ),
    ]
    left = node["waits"][0]["seconds_left"]
    assert node["unblocked_by"] == (
        f"the end of e (queued), at the latest in {left} s (step 2);"
        " or the end of e (queued) or f (queued) (step 3), or a waking message"
    )


def test_a_turn_that_waits_for_its_prompt_heeds_no_message(house) -> None:
    house.agent()
    turn = house.take_turn()
    house.create("prompt", id="p", agent_id="scout", parent_id=turn.id)
    with house.write() as tx:
        park = Park(step=0, target_ids=("p",), deadline_at=None, why={})
        assert turns.park(tx, turn, [park], heeds=False)
    assert unblocked_by(house, turn.id) == "the end of p (queued)"


# What came in while a turn was under way.


def absorb(house: Any, turn: Any) -> None:
    with house.write() as tx:
        assert steering.absorb(tx, turn, news_only=False, limit=9)


def test_a_turn_that_was_absorbed_is_answered_by_another(house) -> None:
    house.agent()
    turn = house.take_turn("one")
    second = house.post("two")
    absorb(house, turn)
    assert unblocked_by(house, second.turn_id) == (
        f"the end of {turn.id}, which has read its message"
    )
    house.complete(turn, "both")
    found = why.explain(house.database, second.turn_id)
    assert [link["id"] for link in found["chain"]] == [
        second.event_id,
        second.turn_id,
    ]
    assert found["chain"][1]["what"].endswith(f"answered by {turn.id}")
    (own,) = found["tree"]["led_to"]
    (other,) = own["led_to"]
    assert (own["id"], other["id"], other["reply"]) == (
        second.turn_id,
        turn.id,
        "both",
    )
    (read,) = node_of(house, turn.id)["also_read"]
    assert (read["id"], read["turn_id"]) == (second.event_id, second.turn_id)


def test_the_reply_to_a_message_that_was_absorbed_leads_back_to_it(story) -> None:
    house, first, turn = story
    asked = house.post("also", to="owl", source="agent/scout", key=f"send/{first.id}/3")
    absorb(house, turn)
    house.complete(first)
    house.complete(turn, "both")
    reply = house.events(scope="agent/scout")[-1]
    assert (reply["kind"], reply["cause_id"]) == ("reply", asked.event_id)
    chain = why.explain(house.database, str(reply["id"]))["chain"]
    assert [link["id"] for link in chain] == [
        first.cause_id,
        first.id,
        asked.event_id,
        asked.turn_id,
        turn.id,
        reply["id"],
    ]


def test_a_turn_that_was_absorbed_says_that_it_is_yet_to_be_answered(house) -> None:
    house.agent()
    turn = house.take_turn("one")
    second = house.post("two")
    absorb(house, turn)
    said = node_of(house, second.turn_id)["what"]
    assert said.endswith(f"queued, to be answered by {turn.id}")


def test_whoever_was_absorbed_learns_what_else_the_turn_has_read(house) -> None:
    house.agent()
    turn = house.take_turn("one")
    second = house.post("two")
    absorb(house, turn)
    (own,) = why.explain(house.database, second.turn_id)["tree"]["led_to"]
    (other,) = own["led_to"]
    assert [(read["id"], read["turn_id"]) for read in other["also_read"]] == [
        (turn.cause_id, None)
    ]


def test_what_a_step_did_names_the_step(story) -> None:
    house, first, turn = story
    house.create(id="f", agent_id="owl", parent_id=turn.id, key=f"{turn.id}/2")
    nodes = node_of(house, first.id)["led_to"]
    assert [node["step"] for node in nodes] == [f"{first.id}/2"]
    nodes = node_of(house, turn.id)["led_to"]
    assert [(node["id"], node["step"]) for node in nodes] == [
        ("e", None),
        ("f", f"{turn.id}/2"),
    ]


def test_what_failed_or_was_stopped_says_because_of_what(house) -> None:
    house.agent()
    turn = house.take_turn("one")
    second = house.post("two")
    with house.write() as tx:
        turns.fail(tx, turn, {"type": "x", "message": "It is ill."}, retriable=False)
        inbox.withdraw(tx, "scout", second.event_id)
    assert node_of(house, turn.id)["error"] == "It is ill."
    assert node_of(house, second.turn_id)["error"] == "The message was withdrawn."


def test_a_long_text_is_cut_and_says_so(house) -> None:
    house.agent()
    turn = house.take_turn("long " * 99)
    house.complete(turn, "short")
    found = why.explain(house.database, turn.id)
    assert found["chain"][0]["what"].endswith("long …")
    assert node_of(house, turn.id)["reply"] == "short"


# What a task in the background led to.


def test_the_end_of_a_task_in_the_background_leads_to_the_turn_that_it_woke(
    house,
) -> None:
    house.agent()
    turn = house.take_turn("begin")
    house.create(id="e", agent_id="scout", parent_id=turn.id, cause_id=turn.cause_id)
    house.complete(turn)
    row = house.claim("e")
    with house.write() as tx:
        tasks.complete(tx, "e", row["epoch"], 4)
    news = house.task("turn-2")["cause_id"]
    found = why.explain(house.database, "turn-2")
    way = [turn.cause_id, turn.id, "e", news, "turn-2"]
    assert [link["id"] for link in found["chain"]] == way
    ids, node = [], found["tree"]
    while node:
        ids.append(node["id"])
        node = next(iter(node["led_to"]), None)
    assert ids == way


@pytest.mark.parametrize("kind", ["turn_start", "agent_run_complete", "task_update"])
def test_what_a_task_tells_of_itself_leads_to_the_task(house, kind) -> None:
    house.agent()
    turn = house.take_turn("begin")
    house.create(id="e", agent_id="scout", parent_id=turn.id)
    house.complete(turn)
    told = [event for event in house.events() if event["kind"] == kind][-1]
    chain = why.explain(house.database, str(told["id"]))["chain"]
    doers = [turn.id, "e"] if kind == "task_update" else [turn.id]
    assert [link["id"] for link in chain] == [turn.cause_id, *doers, told["id"]]


def test_a_summary_is_told_with_its_time_and_its_use(house) -> None:
    house.agent()
    turn = house.take_turn("go on")
    details = {"took_seconds": 1.5, "cost_usd": 0.5, "usage": {"input_tokens": 7}}
    data = {"reason": "threshold", "summarised_by": "demo", "details": details}
    said = NewEntry(type="context_compaction", role=None, content=[], data=data)
    with house.write() as tx:
        (id,) = entries.append(tx, "scout", 2, turn.id, said)
    assert node_of(house, turn.id)["summaries"] == [
        {
            "entry_id": id,
            "what": "summary, threshold, by demo",
            "generation": 2,
            **details,
        }
    ]


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
