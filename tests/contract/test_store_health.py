"""What runs and for how long, told as a signal (G73, G74), on each store."""

from __future__ import annotations

from typing import Any

import pytest

from broker import agents, health, tasks, updates
from broker.database import Row
from broker.times import SECOND_US, now_us

LONG = 31


def tell(store: Any) -> list[Row]:
    with store.write() as tx:
        ids = health.tell(tx)
    return [event for event in store.events() if event["id"] in ids]


def run(store: Any, id: str, agent_id: str | None = "scout", *, ago: int = 0) -> None:
    """Let an exec have begun, and told its last, so many seconds ago."""
    store.create(id=id, agent_id=agent_id)
    store.claim(id)
    begun = now_us() - ago * SECOND_US
    with store.write() as tx:
        tx.execute("UPDATE tasks SET started_at = ? WHERE id = ?", begun, id)
        tx.execute("UPDATE updates SET created_at = ? WHERE task_id = ?", begun, id)


@pytest.mark.line("G73")
def test_what_runs_is_told_for_each_agent_with_its_age(store) -> None:
    store.agent()
    store.agent("owl")
    run(store, "old", ago=3600)
    run(store, "new")
    run(store, "other", "owl")
    run(store, "nobodys", None)
    store.create(id="queued", agent_id="scout")
    told = {event["scope"]: event for event in tell(store)}
    assert set(told) == {"agent/scout", "agent/owl", "task/nobodys"}
    event = told["agent/scout"]
    assert (event["stream"], event["kind"], event["priority"]) == (
        "signals",
        "task_health",
        "low",
    )
    assert event["payload"]["running"] == 2
    old, new = event["payload"]["tasks"]
    assert (old["task_id"], old["task_type"], new["task_id"]) == ("old", "exec", "new")
    assert old["age_seconds"] in (3600, 3601, 3602)
    assert new["age_seconds"] in (0, 1, 2)


@pytest.mark.line("G73")
def test_where_nothing_runs_nothing_is_told(store) -> None:
    store.agent()
    store.post()
    run(store, "done")
    with store.write() as tx:
        tasks.complete(tx, "done", 1, None)
    assert tell(store) == []


@pytest.mark.line("G74")
def test_an_exec_that_is_silent_for_30_seconds_is_named_and_wakes_nobody(store) -> None:
    store.agent()
    run(store, "silent", ago=LONG)
    run(store, "talking", ago=LONG)
    with store.write() as tx:
        updates.append(tx, "talking", "stdout", {"text": "on it"})
    store.hints.clear()
    (event,) = tell(store)
    assert event["payload"]["silent"] == ["silent"]
    assert event["body"] == "Running: 2. Silent for 30 seconds or more: silent."
    assert (store.hints, store.state()) == ([], "idle")
    assert agents.get(store.database, "scout")["unread"] == 0
    assert tasks.list_page(store.database, type="turn") == []


@pytest.mark.line("G74")
def test_a_turn_is_never_called_silent(store) -> None:
    store.agent()
    turn = store.take_turn()
    with store.write() as tx:
        tx.execute("UPDATE updates SET created_at = 1 WHERE task_id = ?", turn.id)
    (event,) = tell(store)
    assert [each["task_id"] for each in event["payload"]["tasks"]] == [turn.id]
    assert event["payload"]["silent"] == []


def test_of_very_many_the_oldest_are_named_and_all_are_counted(store) -> None:
    store.agent()
    for number in range(health.TASKS_SHOWN + 1):
        run(store, f"job-{number}", ago=1000 - number)
    (event,) = tell(store)
    assert event["payload"]["running"] == health.TASKS_SHOWN + 1
    named = [each["task_id"] for each in event["payload"]["tasks"]]
    assert named == [f"job-{number}" for number in range(health.TASKS_SHOWN)]
