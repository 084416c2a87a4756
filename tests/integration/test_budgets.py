"""Budgets and costs of whole turns, with the scripted model, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agents.compaction import estimate_all
from agents.messages import Answer, Usage
from agents.models.base import Request
from broker import agents, budgets, recovery, steps, tasks
from broker.agents import AgentChange
from broker.states import Priority

# A dollar for a thousand tokens, in or out.
PRICES = {"scripted/*": {"input": 1000, "output": 1000, "cache_read": 100}}
USAGE = {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 1000}


PRICED = {"ROOST_PRICES": json.dumps(PRICES)}


@pytest.fixture(params=[PRICED], ids=["priced"])
def house(open_house: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A home where the scripted model has a price, unless a test says otherwise."""
    return open_house(**request.param)


def in_home(**environ: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("house", [environ], indirect=True, ids=[""])


def say(text: str, **usage: int) -> dict[str, Any]:
    return {"text": text, "usage": usage or USAGE}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}], "usage": USAGE}


def limit(house: Any, agent_id: str = "scout", **scopes: Any) -> None:
    with house.write() as tx:
        budgets.change(tx, agent_id, scopes)


def shown(house: Any, id: str) -> dict[str, Any]:
    return tasks.shape(house.task(id))


def spent(house: Any, scope: str = "turn", unit: str = "rounds") -> float:
    line = budgets.show(house.database, "scout")[scope][unit]
    assert line["reserved"] == 0
    return float(line["spent"])


def told(house: Any) -> list[str]:
    return [kind for kind in house.kinds() if kind.startswith("budget_")]


# What it costs.


def test_every_step_and_its_turn_have_a_cost(house, workshop, scripted) -> None:
    id = house.post().turn_id
    workshop.work(workshop.taker(scripted(call("noop"), say("rested"))))
    found = [(s["kind"], s["cost_usd"]) for s in steps.list_of(house.database, id)]
    assert found == [("model", 0.25), ("tool", None), ("model", 0.25)]
    assert shown(house, id)["cost_usd"] == 0.5
    assert spent(house, unit="usd") == 0.5
    assert spent(house, unit="tokens") == 2300
    assert agents.get(house.database, "scout")["cost_usd_today"] == 0.5


@in_home()
def test_without_a_price_list_a_script_costs_nothing(house, workshop, scripted) -> None:
    id = house.post().turn_id
    workshop.work(workshop.taker(scripted(say("hi"))))
    assert shown(house, id)["cost_usd"] == 0.0


# The end of a budget.


def test_a_turn_parks_at_its_limit_and_goes_on_after_a_raise(
    house, workshop, scripted
) -> None:
    limit(house, turn={"rounds": 1})
    model = scripted(call("noop"), say("rested"))
    taker = workshop.taker(model)
    id = house.post().turn_id
    workshop.work(taker)
    assert (house.status(id), house.state(), model.asked) == ("waiting", "waiting", 1)
    why = shown(house, id)["waiting_for"]
    assert (why["scope"], why["unit"], why["limit"], why["spent"]) == (
        "turn",
        "rounds",
        1,
        1,
    )
    limit(house, turn={"rounds": 2})
    workshop.work(taker)
    assert shown(house, id)["result"] == {"text": "rested"}
    assert (model.asked, spent(house)) == (2, 2)
    assert told(house) == ["budget_warning", "budget_reached", "budget_warning"]


@pytest.mark.parametrize(
    ("unit", "most"), [("tokens", 1500), ("usd", 0.5), ("seconds", 0.000_1)]
)
def test_every_unit_stops_a_turn(house, workshop, scripted, unit, most) -> None:
    limit(house, day={unit: most})
    model = scripted(call("noop"), say("rested"))
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    assert (house.status(id), shown(house, id)["waiting_for"]["unit"]) == (
        "waiting",
        unit,
    )


def test_a_budget_that_is_used_up_stops_the_next_turn_too(
    house, workshop, scripted
) -> None:
    limit(house, agent={"rounds": 1})
    model = scripted(say("one"), say("two"))
    first, second = (house.post().turn_id for _ in range(2))
    workshop.work(workshop.taker(model))
    assert (house.status(first), house.status(second)) == ("completed", "waiting")
    limit(house, agent=None)
    workshop.work(workshop.taker(model))
    assert shown(house, second)["result"] == {"text": "two"}


def test_an_interrupt_ends_a_turn_that_waits_for_a_budget(
    house, workshop, scripted
) -> None:
    limit(house, turn={"rounds": 1})
    model = scripted(call("noop"), say("stopped"))
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    last = house.post("stop", priority=Priority.INTERRUPT).turn_id
    workshop.work(workshop.taker(model))
    assert shown(house, id)["result"] == {"text": "", "interrupted": True}
    assert shown(house, last)["result"] == {"text": "stopped"}
    assert spent(house) == 1


def test_a_message_waits_for_the_budget_with_the_turn_and_is_answered_by_it(
    house, workshop, scripted
) -> None:
    limit(house, turn={"rounds": 1})
    model = scripted(call("noop"), say("both"))
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    other = house.post("and this").turn_id
    workshop.work(workshop.taker(model))
    assert (house.status(id), house.status(other)) == ("waiting", "queued")
    limit(house, turn={"rounds": 5})
    workshop.work(workshop.taker(model))
    assert [shown(house, each)["cost_usd"] for each in (id, other)] == [0.5, 0]


def test_an_unknown_price_fails_a_turn_with_what_to_do(
    house, workshop, scripted
) -> None:
    limit(house, day={"usd": 5})
    model = scripted(say("never"))
    model.model.name = "openai/nobody-has-heard-of-it"
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    error = shown(house, id)["error"]
    assert (house.status(id), error["type"], model.asked) == (
        "failed",
        "unknown_price",
        0,
    )
    assert "Set ROOST_PRICES to" in error["message"]


# Failures and deaths.


def test_a_call_that_fails_uses_nothing_and_keeps_nothing(
    house, workshop, scripted
) -> None:
    limit(house, turn={"rounds": 1})
    model = scripted({"error": {"status": 500}}, say("at last"))
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    assert (house.status(id), spent(house)) == ("queued", 0)
    with house.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = NULL")
        recovery.offer_again(tx, "turn", queue_is_empty=True)
    workshop.work(workshop.taker(model))
    assert (shown(house, id)["result"], spent(house)) == ({"text": "at last"}, 1)


def test_a_worker_that_dies_in_a_call_leaves_its_reservation_to_the_next(
    house, workshop, scripted, died
) -> None:
    limit(house, turn={"rounds": 1, "usd": 50})
    model = scripted(say("hello"), dies_at=1)
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.work(workshop.taker(model))
    before = budgets.show(house.database, "scout")["turn"]["rounds"]
    assert (before["spent"], before["reserved"]) == (0, 1)
    workshop.bury()
    workshop.work(workshop.taker(model, "worker-2"))
    assert shown(house, id)["result"] == {"text": "hello"}
    assert (spent(house), spent(house, unit="usd")) == (1, 0.25)


def test_a_turn_that_is_killed_in_a_call_leaves_nothing_reserved(
    house, workshop, scripted, died
) -> None:
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.work(workshop.taker(scripted(say("never"), dies_at=1)))
    with house.write() as tx:
        tasks.kill(tx, id, None)
    assert spent(house) == 0


# Summaries.


@in_home(**PRICED, ROOST_CONTEXT_TOKENS="1000")
def test_a_turn_pays_for_its_summaries(house, workshop, scripted) -> None:
    model = scripted(
        {**say("a summary"), "when": {"contains": "<conversation>"}},
        say("word " * 800, input_tokens=100, output_tokens=700),
        say("first", input_tokens=10, output_tokens=10),
        say("second", input_tokens=10, output_tokens=10),
    )
    for text in ("one", "two " * 400):
        id = house.post(text).turn_id
        workshop.work(workshop.taker(model))
    kinds = house.kinds()
    assert kinds.count("compaction_end") == 1
    row = shown(house, id)
    calls = [s for s in steps.list_of(house.database, id) if s["kind"] == "model"]
    assert row["cost_usd"] == pytest.approx(
        sum(step["cost_usd"] for step in calls) + 0.25
    )
    assert row["usage"]["cache_read_tokens"] == 1000
    assert spent(house, unit="usd") == pytest.approx(row["cost_usd"])


@in_home(**PRICED, ROOST_CONTEXT_TOKENS="1000")
def test_a_summary_waits_for_a_budget_too(house, workshop, scripted) -> None:
    model = scripted(
        {**say("a summary"), "when": {"contains": "<conversation>"}},
        say("word " * 800, input_tokens=100, output_tokens=700),
        say("first", input_tokens=10, output_tokens=10),
    )
    house.post("one")
    workshop.work(workshop.taker(model))
    limit(house, turn={"usd": 0.001})
    id = house.post("two " * 400).turn_id
    workshop.work(workshop.taker(model))
    assert (house.status(id), model.asked) == ("waiting", 1)
    limit(house, turn={"usd": 100})
    workshop.work(workshop.taker(model))
    assert (shown(house, id)["result"], model.asked) == ({"text": "first"}, 3)
    assert spent(house) == 1  # a summary is no round
    assert house.kinds().count("compaction_end") == 1


# Many at once.


class Wordy:
    """A model that says as much as it may, and so costs as much as it may."""

    name = "scripted"
    context_tokens = 200_000

    def stream(self, request: Request, emit: Any, interrupt: Any) -> Answer:
        read = estimate_all(request.messages)
        most = request.max_output_tokens
        assert most is not None
        return Answer(text="word", usage=Usage(input_tokens=read, output_tokens=most))


def test_ten_children_at_once_stay_within_the_budget_of_their_tree(
    house, workshop
) -> None:
    most = 30_000
    ids = [f"child-{number}" for number in range(10)]
    with house.write() as tx:
        for id in ids:
            agents.upsert(tx, id, AgentChange(), parent_id="scout")
    limit(house, tree={"tokens": most})
    takers = [workshop.taker(Wordy(), f"worker-{id}") for id in ids]
    turns = [house.post(to=id).turn_id for id in ids]
    house.hints.clear()
    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(lambda taker, id: taker.take(id), takers, turns))
    workshop.work(workshop.taker(Wordy()))
    used = spent(house, "tree", "tokens")
    ends = [house.status(id) for id in turns]
    assert set(ends) == {"completed", "waiting"}
    waiting = [shown(house, id)["waiting_for"] for id in turns]
    assert most - min(why["needed"] for why in waiting if why) < used <= most
    assert told(house).count("budget_warning") == 1
    limit(house, tree=None)
    workshop.work(workshop.taker(FewWords()))
    assert {house.status(id) for id in turns} == {"completed"}


class FewWords(Wordy):
    """The same, without anybody who says how much it may say."""

    def stream(self, request: Request, emit: Any, interrupt: Any) -> Answer:
        assert request.max_output_tokens is None
        return Answer(text="word")
