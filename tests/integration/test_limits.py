"""A turn that finds no room at its provider waits for it, and holds no thread."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.models.scripted import ScriptedModel
from broker import blockers, limits, recovery, tasks
from broker.states import Priority
from broker.times import now_us


@pytest.fixture
def crowded(open_house: Any) -> Any:
    """A home in which one call may be under way, and two a minute be made."""
    known = {"scripted": {"in_flight": 1, "requests_per_minute": 2}}
    house = open_house(ROOST_LIMITS=json.dumps(known))
    for name in ("scout", "owl", "mole"):
        house.agent(name)
    return house


@pytest.fixture
def house(crowded: Any) -> Any:
    """The workshop's house is this one."""
    return crowded


def reply(house: Any, id: str) -> Any:
    return tasks.shape(house.task(id))["result"]


def test_a_call_that_has_no_place_is_made_when_another_has_ended(
    house, workshop
) -> None:
    other: list[str] = []

    class Busy(ScriptedModel):
        def stream(self, *arguments: Any) -> Any:
            """Have another agent ask while this call is under way."""
            if not other:
                other.append(house.post(to="owl").turn_id)
                taker.take(other[0])
                assert house.status(other[0]) == "waiting"
                said = blockers.said_of(house.database, house.task(other[0]))
                assert said == "a call at scripted to end (1 may be under way)"
            return super().stream(*arguments)

    taker = workshop.taker(Busy([{"text": "hello"}]))
    id = house.post().turn_id
    house.hints.clear()
    taker.take(id)
    assert reply(house, id) == {"text": "hello"}
    workshop.work(taker)
    assert reply(house, other[0]) == {"text": "hello"}
    assert limits.list_rates(house.database) == []


def test_a_call_beyond_the_rate_waits_for_its_time(house, workshop) -> None:
    taker = workshop.taker(ScriptedModel([{"text": "hello"}]))
    ids = [house.post(to=name).turn_id for name in ("scout", "owl", "mole")]
    workshop.work(taker)
    assert [house.status(id) for id in ids] == ["completed", "completed", "waiting"]
    assert house.task(ids[2])["attempts"] == 1
    with house.write() as tx:
        tx.execute("UPDATE rates SET filled_at = filled_at - 60000000")
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        recovery.wake_due(tx)
    workshop.work(taker)
    assert reply(house, ids[2]) == {"text": "hello"}


def test_a_turn_that_waits_for_a_place_can_be_interrupted(house, workshop) -> None:
    taker = workshop.taker(ScriptedModel([{"text": "hello"}]))
    for name in ("owl", "mole"):
        house.post(to=name)
    workshop.work(taker)
    id = house.post().turn_id
    workshop.work(taker)
    assert house.status(id) == "waiting"
    house.post("stop", priority=Priority.INTERRUPT)
    workshop.work(taker)
    assert reply(house, id) == {"text": "", "interrupted": True}
