"""The store seam: what agents may use and have used, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker import (
    agents,
    blockers,
    budgets,
    leases,
    recovery,
    steering,
    steps,
    tasks,
    turns,
)
from broker.agents import AgentChange
from broker.budgets import LEAST_OUTPUT_TOKENS, Ask, Grant, Refusal, Used
from broker.database import Row
from broker.errors import NotFound, UnknownPrice
from broker.recovery import MAX_CRASHES
from broker.states import Priority
from broker.times import now_us
from broker.turns import Park, Reply, Turn

CHILD = Path(__file__).parent / "children" / "reserve.py"
ERROR = {"type": "http_500", "message": "The provider is ill."}
# A dollar for each token: what is bought can be counted on the fingers.
DOLLAR = {"input_usd": 100.0, "output_token_usd": 1.0}
FREE = {"input_usd": 0.0, "output_token_usd": 0.0}


def ask(**change: Any) -> Ask:
    """Ask for a hundred tokens in and at the most a thousand out, at no cost."""
    usual = {"model": "m/1", "input_tokens": 100, "output_tokens": 1000, **FREE}
    return Ask(**{**usual, **change})


def limit(store: Any, agent_id: str = "scout", **scopes: Any) -> None:
    with store.write() as tx:
        budgets.change(tx, agent_id, scopes)


def start(store: Any, turn: Turn, **change: Any) -> Grant | Refusal:
    """Do as the journal does before a model call."""
    with store.write() as tx:
        leases.guard(tx, turn.id, turn.epoch)
        found = budgets.reserve(tx, turn.id, turn.agent["id"], ask(**change))
        if isinstance(found, Grant):
            number, _ = steps.start_model(tx, turn.id, turn.epoch, "m/1")
            budgets.hold(tx, turn.id, number, found)
    return found


def finish(store: Any, turn: Turn, **used: Any) -> None:
    with store.write() as tx:
        spent = Used(**{"rounds": 1, **used})
        budgets.settle(tx, turn.id, turn.agent["id"], spent)


def park(store: Any, turn: Turn, refused: Refusal) -> bool:
    wait = Park(
        step=budgets.STEP,
        target_ids=(refused.target,),
        deadline_at=refused.deadline_at,
        why=refused.why,
    )
    with store.write() as tx:
        return turns.park(tx, turn, [wait], heeds=False)


def refused(store: Any, turn: Turn, **change: Any) -> Refusal:
    found = start(store, turn, **change)
    assert isinstance(found, Refusal)
    return found


def meters(store: Any, column: str = "reserved_tokens") -> dict[str, int]:
    """What is counted, by key; of days without the date."""
    rows = store.database.read("SELECT * FROM meters")
    return {
        row["key"].removesuffix(f"/{datetime.now(UTC).date()}"): row[column]
        for row in rows
    }


def held(store: Any) -> int:
    """How many reservations there are."""
    return len(store.database.read("SELECT * FROM reservations"))


def told(store: Any) -> list[tuple[str, str, str]]:
    """Of which limits people were told."""
    return [
        (event["kind"], event["payload"]["key"], event["payload"]["unit"])
        for event in store.events(stream="signals")
        if event["kind"].startswith("budget_")
    ]


def family(store: Any) -> None:
    """A root, its child and its grandchild, `scout`."""
    with store.write() as tx:
        agents.upsert(tx, "root", AgentChange())
        agents.upsert(tx, "child", AgentChange(), parent_id="root")
        agents.upsert(tx, "scout", AgentChange(), parent_id="child")


# A call is counted.


def test_the_most_that_a_call_may_use_is_reserved_on_every_meter_above_it(
    store,
) -> None:
    family(store)
    turn = store.take_turn()
    grant = start(store, turn, **DOLLAR)
    assert isinstance(grant, Grant)
    assert grant.max_output_tokens is None
    keys = [f"turn/{turn.id}", "agent/scout", "day/scout"]
    keys += ["tree/scout", "tree/child", "tree/root"]
    assert meters(store) == dict.fromkeys(keys, 1100)
    nano = dict.fromkeys(keys, 1100 * 10**9)
    assert meters(store, "reserved_nano_usd") == nano
    assert meters(store, "reserved_rounds") == dict.fromkeys(keys, 1)


def test_what_was_used_takes_the_place_of_what_was_reserved(store) -> None:
    store.agent()
    turn = store.take_turn()
    start(store, turn, **DOLLAR)
    finish(store, turn, tokens=150, cost_usd=2.5, seconds=1.5)
    shown = budgets.show(store.database, "scout")
    line = {"limit": None, "reserved": 0, "left": None}
    for scope in budgets.SCOPES:
        assert {unit: shown[scope][unit] for unit in budgets.UNITS} == {
            "tokens": {**line, "spent": 150},
            "usd": {**line, "spent": 2.5},
            "rounds": {**line, "spent": 1},
            "seconds": {**line, "spent": 1.5},
        }
    assert shown["turn"]["key"] == f"turn/{turn.id}"
    assert held(store) == 0


def test_what_an_agent_has_cost_today_is_what_its_day_has(store) -> None:
    store.agent()
    turn = store.take_turn()
    start(store, turn)
    finish(store, turn, cost_usd=0.25)
    assert agents.get(store.database, "scout")["cost_usd_today"] == 0.25


def test_before_its_first_turn_an_agent_has_no_meter_of_one(store) -> None:
    store.agent()
    shown = budgets.show(store.database, "scout")
    assert (shown["turn"]["key"], shown["tree"]["key"]) == (None, "tree/scout")
    assert shown["turn"]["tokens"]["spent"] == 0


def test_an_agent_that_does_not_exist_has_no_budgets(store) -> None:
    with pytest.raises(NotFound):
        limit(store, turn={"tokens": 1})
    with pytest.raises(NotFound):
        budgets.show(store.database, "scout")


# A limit refuses.


@pytest.mark.parametrize("scope", budgets.SCOPES)
@pytest.mark.parametrize(
    ("unit", "most", "needed"),
    [
        ("tokens", 355, 356),
        ("usd", 355.5, 356.0),
        ("rounds", 0, 1),
        ("seconds", 2.0, 0.001),
    ],
)
def test_a_call_that_does_not_fit_is_refused(store, scope, unit, most, needed) -> None:
    store.agent()
    limit(store, **{scope: {unit: most}})
    turn = store.take_turn()
    why = refused(store, turn, **DOLLAR, worked_seconds=2.0).why
    wanted = {"kind": "budget", "scope": scope, "agent_id": "scout", "unit": unit}
    assert why | wanted == why
    assert (why["limit"], why["needed"]) == (most, needed)
    assert why["spent"] == (2.0 if unit == "seconds" else 0)
    assert (held(store), steps.list_of(store.database, turn.id)) == (0, [])


@pytest.mark.parametrize(
    ("unit", "most"), [("tokens", 356), ("usd", 357), ("rounds", 1), ("seconds", 2.1)]
)
def test_a_call_that_just_fits_is_made(store, unit, most) -> None:
    store.agent()
    limit(store, day={unit: most})
    found = start(store, store.take_turn(), **DOLLAR, worked_seconds=2.0)
    assert isinstance(found, Grant)


def test_a_limit_holds_for_all_that_an_agent_has_made(store) -> None:
    family(store)
    limit(store, "root", tree={"rounds": 1})
    turn = store.take_turn()
    start(store, turn)
    finish(store, turn)
    why = refused(store, turn).why
    assert (why["agent_id"], why["key"], why["scope"]) == ("root", "tree/root", "tree")


@pytest.mark.parametrize("scope", ["turn", "agent", "day"])
def test_no_other_limit_of_a_parent_is_its_childs(store, scope) -> None:
    family(store)
    limit(store, "root", **{scope: {"rounds": 0}})
    assert isinstance(start(store, store.take_turn()), Grant)


def test_a_limit_that_is_set_later_knows_what_was_used_before(store) -> None:
    store.agent()
    turn = store.take_turn()
    start(store, turn)
    finish(store, turn, tokens=900)
    limit(store, day={"tokens": 1000})
    assert refused(store, turn).why["spent"] == 900


def test_an_answer_is_cut_to_what_fits(store) -> None:
    store.agent()
    limit(store, turn={"tokens": 600}, day={"usd": 500})
    grant = start(store, store.take_turn(), **DOLLAR)
    assert isinstance(grant, Grant)
    assert grant.max_output_tokens == 399  # less than tokens leave: money is short
    assert set(meters(store).values()) == {499}


def test_an_answer_that_may_be_short_needs_no_more_room_than_that(store) -> None:
    store.agent()
    limit(store, turn={"tokens": 110})
    grant = start(store, store.take_turn(), output_tokens=10)
    assert isinstance(grant, Grant)
    assert grant.max_output_tokens == 10


def test_under_a_limit_a_model_is_told_its_own_limit(store) -> None:
    store.agent()
    limit(store, turn={"tokens": 10_000})
    grant = start(store, store.take_turn())
    assert isinstance(grant, Grant)
    assert grant.max_output_tokens == 1000


def test_no_limit_in_money_holds_for_a_model_without_a_price(store) -> None:
    family(store)
    limit(store, "root", tree={"usd": 100})
    turn = store.take_turn()
    with pytest.raises(UnknownPrice, match="what m/1 costs"):
        start(store, turn, input_usd=None, output_token_usd=None)
    limit(store, "root", tree={"usd": None, "tokens": 5000})
    assert isinstance(start(store, turn, input_usd=None, output_token_usd=None), Grant)


def test_null_takes_a_limit_or_a_whole_scope_away(store) -> None:
    store.agent()
    limit(store, turn={"tokens": 1, "rounds": 1}, day={"usd": 1}, agent={"usd": 1})
    limit(store, turn={"tokens": None}, day=None)
    shown = budgets.show(store.database, "scout")
    found = {
        (scope, unit)
        for scope in budgets.SCOPES
        for unit in budgets.UNITS
        if shown[scope][unit]["limit"] is not None
    }
    assert found == {("turn", "rounds"), ("agent", "usd")}


# People are told.


def test_four_fifths_are_told_once(store) -> None:
    store.agent()
    limit(store, day={"tokens": 10_000})
    turn = store.take_turn()
    seen = []
    for tokens in (7999, 1, 100):
        start(store, turn)
        finish(store, turn, tokens=tokens)
        seen.append(len(told(store)))
    assert seen == [0, 1, 1]
    [event] = [e for e in store.events() if e["kind"] == "budget_warning"]
    key = f"day/scout/{datetime.now(UTC).date()}"
    assert event["payload"] == {
        "scope": "day",
        "agent_id": "scout",
        "key": key,
        "unit": "tokens",
        "limit": 10_000,
        "spent": 8000,
        "reserved": 0,
        "turn_id": turn.id,
    }
    assert event["body"] == f"{key} has used 8000 of its 10000 tokens."


@pytest.mark.parametrize(
    ("unit", "most", "used", "said"),
    [
        ("tokens", 20_000_000, {"tokens": 16_000_001}, "16000001 of its 20000000"),
        ("usd", 0.01, {"cost_usd": 0.0085}, "0.0085 of its 0.01 usd"),
    ],
)
def test_numbers_are_written_as_people_do(store, unit, most, used, said) -> None:
    store.agent()
    limit(store, agent={unit: most})
    finish(store, store.take_turn(), **used)
    [event] = [e for e in store.events() if e["kind"] == "budget_warning"]
    assert said in event["body"]


def test_of_another_limit_people_are_told_again(store) -> None:
    store.agent()
    turn = store.take_turn()
    for most in (10_000, 20_000):
        limit(store, agent={"tokens": most})
        start(store, turn)
        finish(store, turn, tokens=8000)
    assert told(store) == [("budget_warning", "agent/scout", "tokens")] * 2


def test_the_end_of_a_budget_is_told_once(store) -> None:
    store.agent()
    limit(store, agent={"rounds": 1})
    turn = store.take_turn()
    start(store, turn)
    finish(store, turn)
    for _ in range(2):
        refused(store, turn)
    assert told(store) == [
        ("budget_warning", "agent/scout", "rounds"),
        ("budget_reached", "agent/scout", "rounds"),
    ]


# A reservation is never left behind.


def test_a_step_that_is_resumed_uses_the_same_reservation(store) -> None:
    store.agent()
    limit(store, turn={"tokens": 1100})
    turn = store.take_turn()
    start(store, turn)
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
    assert held(store) == 1
    again = store.claim_turn(turn.id, by="worker-2")
    assert isinstance(start(store, again), Grant)
    assert set(meters(store).values()) == {1100}
    assert held(store) == 1


def end_well(store: Any, turn: Turn) -> None:
    store.complete(turn)


def end_interrupted(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        turns.interrupt(tx, "scout")
        steering.complete(tx, turn, Reply(text="", usage={}, is_interrupted=True))


def end_badly(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        turns.fail(tx, turn, ERROR, retriable=False)


def end_for_now(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        turns.fail(tx, turn, ERROR, retriable=True)


def end_cancelled(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        tasks.cancel(tx, turn.id, None)
        turns.cancel(tx, turn, None)


def end_killed(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        tasks.kill(tx, turn.id, None)


def end_given_up(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        tx.execute("UPDATE tasks SET crashes = ?", MAX_CRASHES)
        recovery.expire(tx, owner="worker-1")


def end_cancelled_while_lost(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        tasks.cancel(tx, turn.id, None)
        recovery.expire(tx, owner="worker-1")


@pytest.mark.parametrize(
    "end",
    [
        end_well,
        end_interrupted,
        end_badly,
        end_for_now,
        end_cancelled,
        end_killed,
        end_given_up,
        end_cancelled_while_lost,
    ],
)
def test_however_a_turn_ends_nothing_stays_reserved(store, end) -> None:
    store.agent()
    turn = store.take_turn()
    start(store, turn, **DOLLAR)
    end(store, turn)
    assert held(store) == 0
    for column in ("reserved_tokens", "reserved_nano_usd", "reserved_rounds"):
        assert set(meters(store, column).values()) == {0}


# A turn waits for room.


@pytest.fixture
def parked(store: Any) -> Turn:
    """A turn that has used up its agent's rounds."""
    store.agent()
    limit(store, agent={"rounds": 1})
    turn: Turn = store.take_turn()
    start(store, turn)
    finish(store, turn)
    assert park(store, turn, refused(store, turn))
    store.hints.clear()
    return turn


def test_a_turn_without_a_budget_waits_and_says_for_what(store, parked) -> None:
    row = tasks.shape(store.task(parked.id))
    assert (row["status"], row["waiting_for"]["kind"]) == ("waiting", "budget")
    assert store.state() == "waiting"
    assert blockers.said_of(store.database, store.task(parked.id)) == (
        "room in the budget agent.rounds of agent scout: of 1 rounds, 1 are spent, and "
        "the next model call needs at least 1 (roost budget scout --set "
        "agent.rounds=…)"
    )
    assert blockers.waits_of(store.database, store.task(parked.id)) == []


@pytest.mark.parametrize("change", [{"agent": {"rounds": 2}}, {"agent": None}])
def test_a_raise_lets_the_turn_go_on(store, parked, change) -> None:
    limit(store, **change)
    assert (store.status(parked.id), store.hints) == ("queued", [parked.id])
    again = store.claim_turn(parked.id)
    assert isinstance(start(store, again), Grant)


@pytest.mark.parametrize(
    "change",
    [{"agent": {"rounds": 1}}, {"turn": {"rounds": 99}}, {"agent": {"usd": 1}}],
)
def test_what_makes_no_room_wakes_nobody(store, parked, change) -> None:
    limit(store, **change)
    assert (store.status(parked.id), store.hints) == ("waiting", [])


def test_a_raise_of_a_tree_wakes_those_below(store) -> None:
    family(store)
    limit(store, "root", tree={"rounds": 0})
    turn = store.take_turn()
    park(store, turn, refused(store, turn))
    limit(store, "root", tree={"rounds": 1})
    assert store.status(turn.id) == "queued"


def test_a_raise_that_comes_before_the_park_is_not_lost(store) -> None:
    store.agent()
    limit(store, agent={"rounds": 0})
    turn = store.take_turn()
    why = refused(store, turn)
    limit(store, agent={"rounds": 1})
    assert park(store, turn, why) is False
    assert (store.status(turn.id), store.hints[-1]) == ("queued", turn.id)


def test_a_waking_message_does_not_end_the_wait(store, parked) -> None:
    store.post("hello?")
    with store.write() as tx:
        assert recovery.wake_due(tx) == []
    assert store.status(parked.id) == "waiting"


def test_a_message_that_was_there_before_does_not_keep_it_from_waiting(store) -> None:
    store.agent()
    limit(store, agent={"rounds": 0})
    turn = store.take_turn()
    store.post("hello?")
    assert park(store, turn, refused(store, turn))


def test_an_interrupt_ends_the_wait(store, parked) -> None:
    store.post("stop", priority=Priority.INTERRUPT)
    assert store.status(parked.id) == "queued"
    again = store.claim_turn(parked.id)
    assert again.is_interrupted


def test_a_cancel_ends_the_turn(store, parked) -> None:
    with store.write() as tx:
        tasks.cancel(tx, parked.id, None)
    assert store.status(parked.id) == "cancelled"
    assert store.database.read("SELECT * FROM waits") == []


def test_a_budget_of_a_day_is_waited_for_until_the_next(store) -> None:
    store.agent()
    limit(store, day={"rounds": 0})
    turn = store.take_turn()
    why = refused(store, turn)
    at = datetime.fromtimestamp(why.deadline_at / 1_000_000, UTC)
    now = datetime.now(UTC)
    assert (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
    assert 0 < (at - now).total_seconds() <= 86_400
    assert why.why["until"] == at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    park(store, turn, why)
    said = blockers.said_of(store.database, store.task(turn.id))
    assert said.endswith(f", or {why.why['until']}, when the next day begins")
    with store.write() as tx:
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        assert recovery.wake_due(tx) == [turn.id]


def test_a_turn_that_stands_behind_others_calls_goes_on_when_they_need_less(
    store,
) -> None:
    family(store)
    limit(store, "root", tree={"tokens": 1200})
    first, second = store.take_turn(), store.take_turn(to="child")
    start(store, first)
    why = refused(store, second)
    assert why.why["reserved"] == 1100
    assert told(store) == []  # nothing is used up
    park(store, second, why)
    finish(store, first, tokens=200)
    assert store.status(second.id) == "queued"
    assert isinstance(start(store, store.claim_turn(second.id)), Grant)


def test_a_turn_that_stands_behind_another_goes_on_when_that_ends(store) -> None:
    family(store)
    limit(store, "root", tree={"tokens": 1200})
    first, second = store.take_turn(), store.take_turn(to="child")
    start(store, first)
    park(store, second, refused(store, second))
    with store.write() as tx:
        tasks.kill(tx, first.id, None)
    assert store.status(second.id) == "queued"


# Many at once.


@pytest.fixture
def crowd(store: Any) -> list[Turn]:
    """A turn of each of ten children of `root`, whose tree may use 5,000 tokens."""
    with store.write() as tx:
        agents.upsert(tx, "root", AgentChange())
        for number in range(10):
            agents.upsert(tx, f"child-{number}", AgentChange(), parent_id="root")
    limit(store, "root", tree={"tokens": 5000})
    return [store.take_turn(to=f"child-{number}") for number in range(10)]


def spend(store: Any, turn: Turn) -> Iterator[int]:
    """Make calls that use all that they may, until none fits."""
    while isinstance(grant := start(store, turn), Grant):
        finish(store, turn, tokens=grant.amounts["tokens"])
        yield grant.amounts["tokens"]


def test_children_that_race_in_threads_never_pass_the_limit(store, crowd) -> None:
    with ThreadPoolExecutor(10) as pool:
        spent = list(pool.map(lambda turn: sum(spend(store, turn)), crowd))
    total = meters(store, "spent_tokens")["tree/root"]
    assert 5000 - 100 - LEAST_OUTPUT_TOKENS < total == sum(spent) <= 5000
    assert told(store).count(("budget_warning", "tree/root", "tokens")) == 1


def test_children_that_race_in_processes_never_pass_the_limit(store, crowd) -> None:
    each = [
        subprocess.Popen(
            [sys.executable, str(CHILD), json.dumps(store.environ), *ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for ids in ([turn.id for turn in crowd[:5]], [turn.id for turn in crowd[5:]])
    ]
    for child in each:
        assert child.stdout.readline() == "ready\n"
    spent = 0
    for child in each:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in each:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        spent += int(out)
    total = meters(store, "spent_tokens")["tree/root"]
    assert 5000 - 100 - LEAST_OUTPUT_TOKENS < total == spent <= 5000
    assert told(store).count(("budget_warning", "tree/root", "tokens")) == 1
    assert held(store) == 0


# What a turn has cost.


def model_step(store: Any, turn: Turn, cost: float | None) -> None:
    with store.write() as tx:
        number, _ = steps.start_model(tx, turn.id, turn.epoch, "m/1")
        usage = {"input_tokens": 3, "output_tokens": 2}
        steps.succeed_model(
            tx, turn.id, turn.epoch, number, {}, usage, [], cost_usd=cost
        )


@pytest.mark.parametrize("end", [end_well, end_badly, end_killed])
def test_a_turn_costs_what_its_steps_do_however_it_ends(store, end) -> None:
    store.agent()
    turn = store.take_turn()
    for cost in (0.25, None, 0.5):
        model_step(store, turn, cost)
    end(store, turn)
    assert tasks.shape(store.task(turn.id))["cost_usd"] == 0.75
    costs = [step["cost_usd"] for step in steps.list_of(store.database, turn.id)]
    assert costs == [0.25, None, 0.5]


def test_a_turn_that_fails_has_used_what_its_steps_have(store) -> None:
    store.agent()
    turn = store.take_turn()
    for _ in range(2):
        model_step(store, turn, 0.0)
    end_badly(store, turn)
    usage = tasks.shape(store.task(turn.id))["usage"]
    assert usage == {"input_tokens": 6, "output_tokens": 4}


def test_a_cost_that_nobody_knows_is_none(store) -> None:
    store.agent()
    turn = store.take_turn()
    model_step(store, turn, None)
    store.complete(turn)
    assert tasks.shape(store.task(turn.id))["cost_usd"] is None


def test_a_turn_that_another_has_answered_cost_nothing(store) -> None:
    store.agent()
    turn = store.take_turn()
    other = store.post("and this").turn_id
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=5)
    model_step(store, turn, 0.5)
    store.complete(turn)
    costs: list[Row] = [tasks.shape(store.task(id)) for id in (turn.id, other)]
    assert [row["cost_usd"] for row in costs] == [0.5, 0]
