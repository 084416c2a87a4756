"""The store seam: agents, tasks, leases and steps, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from broker import agents, leases, recovery, steps, tasks, turns, updates, waking
from broker.agents import AgentChange
from broker.database import Row, Transaction
from broker.errors import (
    BadId,
    BrokerError,
    Conflict,
    LeaseLost,
    NotFound,
    TooManyWaiting,
    WrongTransition,
)
from broker.leases import Standing, Worker
from broker.recovery import MAX_CRASHES
from broker.states import (
    STEP_TRANSITIONS,
    TASK_TRANSITIONS,
    TERMINAL,
    Priority,
    StepStatus,
    TaskStatus,
)
from broker.steps import PlannedCall
from broker.tasks import QUEUED_LIMIT, NewTask
from broker.times import SECOND_US, now_us
from broker.turns import Park, Turn

CLAIM_ALL: Final = Path(__file__).parent / "children" / "claim_all.py"
RACERS: Final = 8


def race(act: Callable[[int], Any], racers: int = RACERS) -> list[Any]:
    """Run it in so many threads that set off together; return what each returned."""
    ready = threading.Barrier(racers)

    def run(number: int) -> Any:
        ready.wait()
        return act(number)

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(run, range(racers)))


# Agents.


def test_an_agent_is_made_once_and_then_changed(store) -> None:
    with store.write() as tx:
        made = agents.upsert(tx, "scout", AgentChange(system="Be brief.", model="demo"))
        changed = agents.upsert(tx, "scout", AgentChange(model="other"))
    agent = agents.get(store.database, "scout")
    assert (made, changed) == (("scout", True), ("scout", False))
    assert (agent["system"], agent["model"], agent["state"], agent["generation"]) == (
        "Be brief.",
        "other",
        "idle",
        1,
    )


def test_an_agent_without_an_id_gets_the_next_free_one(store) -> None:
    store.agent("agent-2")
    with store.write() as tx:
        made = [agents.upsert(tx, None, AgentChange())[0] for _ in range(2)]
    assert made == ["agent-1", "agent-3"]


@pytest.mark.parametrize("id", ["a", "a1", "a-b", "a--b", "x" * 64])
def test_an_id_that_follows_the_rule_is_taken(store, id: str) -> None:
    assert store.agent(id) == id
    other = f"b{id[1:]}"
    assert store.create(id=other)["id"] == other


def test_one_id_names_one_thing(store) -> None:
    """Tools, `show` and `why` take the id of an agent or of a task."""
    store.agent("scout")
    with pytest.raises(Conflict, match="There is an agent scout"):
        store.create(id="scout")
    store.create(id="probe")
    for id in ("probe", "exec-1", "turn-99", "prompt-3"):
        with pytest.raises(Conflict, match="is the id of a task"):
            store.agent(id)
    store.agent("report-1")
    assert store.create("report")["id"] == "report-2"


@pytest.mark.parametrize(
    "id", ["Scout", "9x", "a-", "-a", "x" * 65, "a_b", "é", "a b", "a\n"]
)
def test_an_id_that_breaks_the_rule_is_refused_with_the_rule(store, id: str) -> None:
    with pytest.raises(BadId, match="it must match"):
        store.agent(id)
    with pytest.raises(BadId, match="it must match"):
        store.create(id=id)


def test_an_update_changes_only_what_was_named(store) -> None:
    store.agent(name="Scout", system="Be brief.", tools=["exec"], metadata={"a": 1})
    with store.write() as tx:
        agents.update(tx, "scout", AgentChange(name="Ranger"))
    agent = agents.get(store.database, "scout")
    assert (agent["name"], agent["system"], agent["tools"], agent["metadata"]) == (
        "Ranger",
        "Be brief.",
        ["exec"],
        {"a": 1},
    )


def test_an_agent_that_is_not_there_is_not_found_and_the_nearest_is_named(
    store,
) -> None:
    store.agent("scout")
    with pytest.raises(NotFound, match="Did you mean 'scout'"):
        agents.get(store.database, "scuot")
    for verb in (
        lambda tx: agents.update(tx, "ghost", AgentChange()),
        lambda tx: agents.archive(tx, "ghost"),
        lambda tx: agents.require_active(tx, "ghost"),
    ):
        with pytest.raises(NotFound), store.write() as tx:
            verb(tx)


def test_an_archived_agent_takes_nothing_and_comes_back_when_made_again(store) -> None:
    store.agent()
    waiting = store.post()
    with store.write() as tx:
        agents.archive(tx, "scout")
    assert store.state() == "stopped"
    assert store.claim_turn(waiting.turn_id) is None
    with pytest.raises(Conflict, match="stopped"):
        store.post()
    store.agent()
    assert store.state() == "queued"
    assert store.claim_turn(waiting.turn_id) is not None


def test_agents_are_listed_by_id(store) -> None:
    for id in ("c", "a", "b"):
        store.agent(id)
    found = agents.list_page(store.database, after="a", limit=1)
    assert [agent["id"] for agent in found] == ["b"]


def test_many_who_make_the_same_agent_at_once_make_one(store) -> None:
    def make(number: int) -> tuple[str, bool]:
        with store.write() as tx:
            return agents.upsert(tx, "scout", AgentChange(name=f"n{number}"))

    made = race(make)
    assert sorted(created for _, created in made) == [False] * (RACERS - 1) + [True]


# Tasks: made once.


def test_task_ids_count_per_type(store) -> None:
    made = [store.create(type)["id"] for type in ("exec", "exec", "node", "exec")]
    assert made == ["exec-1", "exec-2", "node-1", "exec-3"]


def test_a_number_that_somebody_chose_is_passed_over(store) -> None:
    store.create(id="exec-1")
    assert store.create()["id"] == "exec-2"


def test_a_task_begins_queued_hinted_and_logged(store) -> None:
    row = store.create(metadata={"a": 1}, priority=Priority.WAKE)
    log = updates.list_after(store.database, row["id"])
    shown = tasks.shape(row)
    assert (shown["status"], shown["attempts"], shown["epoch"]) == ("queued", 0, 0)
    assert shown["metadata"] == {"a": 1}
    assert store.hints == ["exec-1"]
    assert [(each["kind"], each["payload"]) for each in log] == [
        ("spawn", {"type": "exec"})
    ]


def test_a_task_id_that_exists_gives_that_task_back(store) -> None:
    with store.write() as tx:
        first = tasks.create(tx, NewTask(type="exec", id="mine", payload={"n": 1}))
        again = tasks.create(tx, NewTask(type="exec", id="mine", payload={"n": 2}))
    assert (first[1], again[1]) == (True, False)
    assert tasks.shape(again[0])["payload"] == {"n": 1}
    assert store.hints == ["mine"]


def test_a_task_id_that_exists_with_another_type_is_refused(store) -> None:
    store.create("exec", id="mine")
    with pytest.raises(Conflict, match="of type 'exec', not 'node'"):
        store.create("node", id="mine")


def test_a_creators_key_makes_one_task(store) -> None:
    first, again = store.create(key="turn-1/2"), store.create(key="turn-1/2")
    assert first["id"] == again["id"] == "exec-1"


def test_many_who_create_the_same_task_at_once_create_one(store) -> None:
    def create(number: int) -> tuple[str, bool]:
        with store.write() as tx:
            new = NewTask(type="exec", id="mine", payload={"n": number})
            row, created = tasks.create(tx, new)
            return row["id"], created

    made = race(create)
    assert {id for id, _ in made} == {"mine"}
    assert sum(created for _, created in made) == 1


def test_a_flood_of_queued_tasks_is_refused(store) -> None:
    row = store.create()
    copied = [name for name in row if name not in ("seq", "id", "key")]
    columns = ", ".join(copied)
    with store.write() as tx:
        tx.execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < ?) INSERT INTO tasks (id, {columns})"
            f" SELECT 'flood-' || i, {columns} FROM tasks, n WHERE id = ?",
            QUEUED_LIMIT,
            row["id"],
        )
    with pytest.raises(TooManyWaiting, match=f"its limit of {QUEUED_LIMIT}"):
        store.create()
    store.claim(row["id"])
    assert store.create()["status"] == "queued"


# Tasks: the transitions.


def in_status(store: Any, status: str) -> Row:
    """A turn of the agent `scout`, brought into a status by the verbs."""
    store.agent()
    if status in ("queued", "cancelled"):
        id = store.post().turn_id
    else:
        id = store.take_turn().id
    bring: dict[str, Callable[[Transaction, Row], object]] = {
        "waiting": VERBS["park"][0],
        "completed": VERBS["complete"][0],
        "failed": VERBS["fail"][0],
        "cancelled": VERBS["kill"][0],
    }
    if status in bring:
        with store.write() as tx:
            bring[status](tx, tasks.get(tx, id))
    row = store.task(id)
    assert row["status"] == status
    return row


def as_turn(row: Row) -> Turn:
    return Turn(
        id=row["id"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        agent={"id": row["agent_id"], "generation": 1},
        inputs=[],
        history=[],
        cause_id=None,
        is_resumed=False,
    )


def park(tx: Transaction, row: Row) -> object:
    later = now_us() + 3600 * SECOND_US
    wait = Park(step=1, target_ids=(), deadline_at=later, why={"kind": "time"})
    return turns.park(tx, as_turn(row), [wait], heeds=True)


ERROR: Final = {"type": "broken", "message": "It broke."}
WORKER: Final = Worker(owner="worker-1")

# Each verb: what it is called like, and where it leads from where it may be used.
VERBS: Final[dict[str, tuple[Callable[[Transaction, Row], object], dict[str, str]]]] = {
    "claim": (
        lambda tx, row: tasks.claim(tx, row["id"], WORKER),
        {"queued": "running"},
    ),
    "complete": (
        lambda tx, row: tasks.complete(tx, row["id"], row["epoch"], {"text": ""}),
        {"running": "completed"},
    ),
    "fail": (
        lambda tx, row: tasks.fail(tx, row["id"], row["epoch"], ERROR),
        {"running": "failed"},
    ),
    "cancel": (
        # What runs is asked to stop: it ends by itself.
        lambda tx, row: tasks.cancel(tx, row["id"], None),
        {"queued": "cancelled", "waiting": "cancelled"},
    ),
    "kill": (
        lambda tx, row: tasks.kill(tx, row["id"], None),
        {"queued": "cancelled", "running": "cancelled", "waiting": "cancelled"},
    ),
    "retry": (lambda tx, row: tasks.retry(tx, row["id"]), {"failed": "queued"}),
    "wake": (lambda tx, row: waking.queue_again(tx, row["id"]), {"waiting": "queued"}),
    "hand over": (
        lambda tx, row: tasks.hand_over(tx, row["id"], row["epoch"]),
        {"running": "queued"},
    ),
    "lose the worker": (
        lambda tx, row: recovery.expire(tx, owner=WORKER.owner),
        {"running": "queued"},
    ),
    "park": (park, {"running": "waiting"}),
    "back off": (
        lambda tx, row: turns.fail(tx, as_turn(row), ERROR, retriable=True),
        {"running": "queued"},
    ),
    "make a dead letter": (
        lambda tx, row: turns.fail(tx, as_turn(row), ERROR, retriable=False),
        {"running": "failed"},
    ),
    "answer it in another turn": (
        lambda tx, row: tasks.end(tx, row["id"], "completed", result={"text": ""}),
        {"queued": "completed", "running": "completed"},
    ),
    "give up": (
        lambda tx, row: tasks.end(tx, row["id"], "failed", error=ERROR),
        {"queued": "failed", "running": "failed", "waiting": "failed"},
    ),
    "heartbeat": (lambda tx, row: tasks.heartbeat(tx, row["id"], row["epoch"], 30), {}),
}


@pytest.mark.line("P26")
@pytest.mark.parametrize("status", [each.value for each in TaskStatus])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_leads_where_the_table_says_and_nowhere_else(
    store, status: str, verb: str
) -> None:
    row = in_status(store, status)
    act, leads = VERBS[verb]
    with suppress(BrokerError), store.write() as tx:
        act(tx, row)
    assert store.status(row["id"]) == leads.get(status, status)


def test_the_verbs_use_every_transition_there_is_and_no_other() -> None:
    used = {pair for _, leads in VERBS.values() for pair in leads.items()}
    allowed = {
        (source.value, target.value)
        for source, targets in TASK_TRANSITIONS.items()
        for target in targets
    }
    assert used == allowed


@pytest.mark.parametrize("status", [each.value for each in TaskStatus])
@pytest.mark.parametrize("final", sorted(TERMINAL))
def test_an_end_comes_only_from_where_the_transitions_allow_it(
    store, status: str, final: str
) -> None:
    row = in_status(store, status)
    if final in TASK_TRANSITIONS[TaskStatus(status)]:
        with store.write() as tx:
            ended = tasks.end(tx, row["id"], final, result={"text": ""})
        assert ended["status"] == final
        return
    with pytest.raises(WrongTransition, match=f"is {status}"), store.write() as tx:
        tasks.end(tx, row["id"], final)
    assert store.status(row["id"]) == status


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("verb", ["complete", "fail", "cancel", "kill", "retry"])
def test_a_final_state_is_final_and_reaching_it_again_changes_nothing(
    store, status: str, verb: str
) -> None:
    row = in_status(store, status)
    act, leads = VERBS[verb]
    if status in leads:
        with store.write() as tx:
            act(tx, row)
        return
    again = {"complete": "completed", "fail": "failed"}.get(verb, "cancelled")
    if status == again and verb != "retry":
        with store.write() as tx:
            act(tx, row)
    else:
        with pytest.raises(WrongTransition), store.write() as tx:
            act(tx, row)
    assert store.task(row["id"]) == row


def test_a_verb_on_a_task_that_is_not_there_says_so(store) -> None:
    for verb in ("complete", "fail", "cancel", "kill", "retry", "give up", "heartbeat"):
        with pytest.raises(NotFound, match="no task 'ghost'"), store.write() as tx:
            VERBS[verb][0](tx, {"id": "ghost", "epoch": 1})
    assert store.claim("ghost") is None


# Tasks: claimed by one.


def test_tasks_are_claimed_in_the_order_of_rank_and_age(store) -> None:
    for priority in ("normal", "low", "normal", "wake"):
        store.create(priority=Priority(priority))
    store.create("node")
    with store.write() as tx:
        claimed = [tasks.claim_next(tx, "exec", WORKER) for _ in range(5)]
    assert [row and row["id"] for row in claimed] == [
        "exec-4",
        "exec-1",
        "exec-3",
        "exec-2",
        None,
    ]


def test_many_are_claimed_at_once_oldest_first(store) -> None:
    made = [store.create()["id"] for _ in range(5)]
    with store.write() as tx:
        first = tasks.claim_many(tx, "exec", WORKER, 3)
        rest = tasks.claim_many(tx, "exec", WORKER, 10)
    assert [row["id"] for row in [*first, *rest]] == made
    assert len(first) == 3


def test_a_claim_gives_a_lease_and_a_new_epoch(store) -> None:
    store.create()
    before = now_us()
    row = store.claim("exec-1", lease_seconds=5)
    assert row is not None
    assert (row["lease_owner"], row["epoch"], row["attempts"]) == ("worker-1", 1, 1)
    assert 5 * SECOND_US <= row["lease_expires_at"] - before < 6 * SECOND_US
    assert store.claim("exec-1", by="worker-2") is None


def test_a_task_that_must_wait_is_not_claimed_before_its_time(store) -> None:
    store.create()
    with store.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = ?", now_us() + 60 * SECOND_US)
        assert tasks.claim_next(tx, "exec", WORKER) is None
        assert tasks.claim(tx, "exec-1", WORKER) is None
        tx.execute("UPDATE tasks SET not_before_at = ?", now_us() - 1)
        assert tasks.claim_next(tx, "exec", WORKER) is not None


def test_threads_that_race_for_tasks_each_get_different_ones(store) -> None:
    made = [store.create()["id"] for _ in range(50)]

    def claim_all(number: int) -> list[str]:
        mine = []
        while True:
            with store.write() as tx:
                row = tasks.claim_next(tx, "exec", Worker(owner=f"worker-{number}"))
            if row is None:
                return mine
            mine.append(row["id"])

    claimed = race(claim_all)
    assert sorted(id for mine in claimed for id in mine) == sorted(made)


def test_processes_that_race_for_tasks_each_get_different_ones(store) -> None:
    made = [store.create()["id"] for _ in range(50)]
    racers = [
        subprocess.Popen(
            [sys.executable, str(CLAIM_ALL), json.dumps(store.environ)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    claimed = [racer.communicate(timeout=30)[0].split() for racer in racers]
    assert sorted(id for mine in claimed for id in mine) == sorted(made)


# Tasks: stopped.


def test_a_running_task_is_asked_to_stop_and_its_worker_is_rung(store) -> None:
    bell = store.broker.bells.listen(tasks.STOP_CHANNEL)
    store.create()
    row = store.claim("exec-1")
    seen = bell.generation
    with store.write() as tx:
        tasks.cancel(tx, "exec-1", "enough")
    assert bell.wait(seen, 5)
    assert leases.standing(store.database, {"exec-1": row["epoch"]}) == {
        "exec-1": Standing(held=True, stop_verb="cancel", stop_reason="enough")
    }


def test_a_killed_task_refuses_its_worker(store) -> None:
    store.create()
    row = store.claim("exec-1")
    with store.write() as tx:
        tasks.kill(tx, "exec-1", "enough")
    shown = tasks.shape(store.task("exec-1"))
    assert shown["error"] == {
        "type": "killed",
        "message": "enough",
        "reason": "enough",
        "killed": True,
    }
    assert leases.standing(store.database, {"exec-1": row["epoch"]}) == {
        "exec-1": leases.LOST
    }
    with pytest.raises(WrongTransition), store.write() as tx:
        tasks.complete(tx, "exec-1", row["epoch"], 1)


@pytest.mark.parametrize("verb", [tasks.cancel, tasks.kill])
def test_a_stop_reaches_the_children_first(store, verb) -> None:
    store.create(id="parent")
    store.create(id="child", parent_id="parent")
    store.create(id="grandchild", parent_id="child")
    store.create(id="other")
    with store.write() as tx:
        verb(tx, "parent", "enough")
    ids = ("grandchild", "child", "parent", "other")
    statuses = [store.status(id) for id in ids]
    ended = [store.task(id)["finished_at"] for id in ids[:3]]
    assert statuses == ["cancelled", "cancelled", "cancelled", "queued"]
    assert ended == sorted(ended)


def test_a_task_that_was_asked_to_stop_and_lost_its_worker_is_over(store) -> None:
    store.create()
    store.claim("exec-1")
    with store.write() as tx:
        tasks.cancel(tx, "exec-1", "enough")
        recovery.expire(tx, owner="worker-1")
    shown = tasks.shape(store.task("exec-1"))
    assert (shown["status"], shown["error"]["message"]) == ("cancelled", "enough")


def test_a_retried_task_counts_its_attempts_from_the_start(store) -> None:
    store.create()
    row = store.claim("exec-1")
    with store.write() as tx:
        tasks.fail(tx, "exec-1", row["epoch"], ERROR)
        tasks.retry(tx, "exec-1", {"n": 2})
    shown = tasks.shape(store.task("exec-1"))
    assert (shown["status"], shown["attempts"], shown["error"], shown["payload"]) == (
        "queued",
        0,
        None,
        {"n": 2},
    )
    assert store.hints == ["exec-1", "exec-1"]


# Leases.


def test_a_write_with_an_old_epoch_is_refused(store) -> None:
    store.create()
    old = store.claim("exec-1")["epoch"]
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
    new = store.claim("exec-1", by="worker-2")["epoch"]
    assert new == old + 1
    for verb in (
        lambda tx: leases.guard(tx, "exec-1", old),
        lambda tx: tasks.complete(tx, "exec-1", old, None),
        lambda tx: tasks.fail(tx, "exec-1", old, ERROR),
        lambda tx: tasks.heartbeat(tx, "exec-1", old, 30),
        lambda tx: tasks.hand_over(tx, "exec-1", old),
        lambda tx: tasks.record_process(tx, "exec-1", old, {"pid": 1}),
    ):
        over = pytest.raises(LeaseLost, match=f"Epoch {old} of task exec-1 is over")
        with over, store.write() as tx:
            verb(tx)
    with store.write() as tx:
        leases.guard(tx, "exec-1", new)
        tasks.complete(tx, "exec-1", new, {"n": 1})


def test_a_renewed_lease_lasts_and_a_lost_one_is_told(store) -> None:
    store.create()
    store.create()
    held = {id: store.claim(id, lease_seconds=-1)["epoch"] for id in ("exec-1",)}
    standing = leases.renew(store.database, WORKER, {**held, "exec-2": 1})
    assert standing == {"exec-1": Standing(held=True), "exec-2": leases.LOST}
    with store.write() as tx:
        assert recovery.expire(tx) == []


def test_a_heartbeat_renews_the_lease_of_an_outside_worker(store) -> None:
    store.create()
    epoch = store.claim("exec-1", lease_seconds=-1)["epoch"]
    with store.write() as tx:
        row = tasks.heartbeat(tx, "exec-1", epoch, 30)
        assert row["lease_expires_at"] > now_us() + 29 * SECOND_US
        assert recovery.expire(tx) == []


def test_what_lost_its_worker_is_given_back_and_hinted(store) -> None:
    for _ in range(2):
        store.create()
    store.claim("exec-1", lease_seconds=-1)
    store.claim("exec-2")
    store.hints.clear()
    with store.write() as tx:
        lost = recovery.expire(tx)
    log = [each["kind"] for each in updates.list_after(store.database, "exec-1")]
    assert [(each["id"], each["lease_owner"]) for each in lost] == [
        ("exec-1", "worker-1")
    ]
    assert (store.status("exec-1"), store.status("exec-2")) == ("queued", "running")
    assert store.hints == ["exec-1"]
    assert log == ["spawn", "started", "worker_lost"]


def test_a_task_whose_workers_keep_dying_fails_in_the_end(store) -> None:
    store.create()
    for _ in range(MAX_CRASHES):
        store.claim("exec-1", lease_seconds=-1)
        with store.write() as tx:
            recovery.expire(tx)
        assert store.status("exec-1") == "queued"
    store.claim("exec-1", lease_seconds=-1)
    with store.write() as tx:
        recovery.expire(tx)
    shown = tasks.shape(store.task("exec-1"))
    assert (shown["status"], shown["error"]["type"]) == ("failed", "worker_lost")


def test_one_leads_until_its_lease_ends_or_it_resigns(store) -> None:
    def lead(owner: str, seconds: float = 5) -> bool:
        with store.write() as tx:
            return leases.lead(tx, "scheduler", owner, seconds)

    assert [lead("a"), lead("b"), lead("a", -1), lead("b")] == [True, False, True, True]
    with store.write() as tx:
        leases.resign(tx, "b")
    assert lead("a")


def test_of_many_that_want_to_lead_at_once_one_does(store) -> None:
    def lead(number: int) -> bool:
        with store.write() as tx:
            return leases.lead(tx, "scheduler", f"owner-{number}", 5)

    assert sum(race(lead)) == 1


# Hints.


@pytest.mark.line("G21")
def test_a_task_without_a_hint_is_offered_once(store) -> None:
    with store.write() as tx:
        tasks.create(tx, NewTask(type="exec", payload={}), hint=False)
        assert recovery.offer_again(tx, "exec", queue_is_empty=True) == ["exec-1"]
        assert recovery.offer_again(tx, "exec", queue_is_empty=True) == []
    assert store.hints == ["exec-1"]


@pytest.mark.parametrize(
    ("age_seconds", "queue_is_empty", "is_offered"),
    [(2, True, True), (2, False, False), (61, False, True)],
)
def test_an_old_hint_is_taken_for_lost(
    store, age_seconds: int, queue_is_empty: bool, is_offered: bool
) -> None:
    store.create()
    with store.write() as tx:
        tx.execute("UPDATE tasks SET hinted_at = ?", now_us() - age_seconds * SECOND_US)
        offered = recovery.offer_again(tx, "exec", queue_is_empty=queue_is_empty)
    assert offered == (["exec-1"] if is_offered else [])


def test_a_turn_behind_another_of_its_agent_is_not_offered(store) -> None:
    store.agent()
    store.take_turn("one")
    behind = store.post("two").turn_id
    with store.write() as tx:
        tx.execute("UPDATE tasks SET hinted_at = NULL")
        assert recovery.offer_again(tx, "turn", queue_is_empty=True) == []
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
        tx.execute("UPDATE tasks SET hinted_at = NULL")
        offered = recovery.offer_again(tx, "turn", queue_is_empty=True)
    assert behind not in offered
    assert len(offered) == 1


# Steps.


def a_call(id: str = "call-1", effect: str = "idempotent") -> PlannedCall:
    return PlannedCall(tool_call_id=id, name="exec", arguments={"n": 1}, effect=effect)


def test_the_journal_of_a_turn_tells_every_step(store) -> None:
    store.agent()
    turn = store.take_turn()
    at = (turn.id, turn.epoch)
    with store.write() as tx:
        assert steps.start_model(tx, *at, "demo") == (1, 1)
        steps.succeed_model(tx, *at, 1, {"text": ""}, {"input_tokens": 3}, [a_call()])
        assert steps.start_tool(tx, *at, "call-1") == (2, False)
        steps.finish_tool(tx, *at, 2, "succeeded", {"text": "4"})
        assert steps.start_model(tx, *at, "demo") == (3, 1)
        steps.fail_model(tx, *at, 3, ERROR)
    told = [
        {
            name: step[name]
            for name in ("key", "kind", "name", "status", "result", "request", "usage")
        }
        for step in steps.list_of(store.database, turn.id)
    ]
    assert told == [
        {
            "key": f"{turn.id}/1",
            "kind": "model",
            "name": "demo",
            "status": "succeeded",
            "result": {"text": ""},
            "request": None,
            "usage": {"input_tokens": 3},
        },
        {
            "key": f"{turn.id}/2",
            "kind": "tool",
            "name": "exec",
            "status": "succeeded",
            "result": {"text": "4"},
            "request": {"n": 1},
            "usage": None,
        },
        {
            "key": f"{turn.id}/3",
            "kind": "model",
            "name": "demo",
            "status": "failed",
            "result": ERROR,
            "request": None,
            "usage": None,
        },
    ]


def test_a_step_that_is_resumed_keeps_its_number_and_counts_its_attempts(store) -> None:
    store.agent()
    turn = store.take_turn()
    at = (turn.id, turn.epoch)
    with store.write() as tx:
        assert steps.start_model(tx, *at, "demo") == (1, 1)
        assert steps.start_model(tx, *at, "demo") == (1, 2)
        steps.fail_model(tx, *at, 1, ERROR)
        assert steps.start_model(tx, *at, "demo") == (1, 3)
        steps.succeed_model(tx, *at, 1, {}, {}, [a_call()])
        assert steps.start_tool(tx, *at, "call-1") == (2, False)
        assert steps.start_tool(tx, *at, "call-1") == (2, True)


def test_a_steps_key_gives_its_number_back() -> None:
    assert steps.number_of(steps.key("turn-1", 17)) == 17


def test_a_worker_without_the_lease_cannot_write_to_the_journal(store) -> None:
    store.agent()
    turn = store.take_turn()
    old = (turn.id, turn.epoch - 1)
    for verb in (
        lambda tx: steps.start_model(tx, *old, "demo"),
        lambda tx: steps.succeed_model(tx, *old, 1, {}, {}, []),
        lambda tx: steps.fail_model(tx, *old, 1, ERROR),
        lambda tx: steps.start_tool(tx, *old, "call-1"),
        lambda tx: steps.finish_tool(tx, *old, 1, "succeeded", {}),
    ):
        with pytest.raises(LeaseLost), store.write() as tx:
            verb(tx)
    assert steps.list_of(store.database, turn.id) == []


@pytest.mark.parametrize("status", [each.value for each in StepStatus])
@pytest.mark.parametrize("final", ["succeeded", "failed", "uncertain"])
def test_a_call_ends_only_where_the_transitions_allow_it(
    store, status: str, final: str
) -> None:
    store.agent()
    turn = store.take_turn()
    at = (turn.id, turn.epoch)
    with store.write() as tx:
        steps.start_model(tx, *at, "demo")
        steps.succeed_model(tx, *at, 1, {}, {}, [a_call()])
        if status != "planned":
            steps.start_tool(tx, *at, "call-1")
        if status not in ("planned", "started"):
            steps.finish_tool(tx, *at, 2, status, {})
    with store.write() as tx:
        steps.finish_tool(tx, *at, 2, final, {})
    found = steps.list_of(store.database, turn.id)[1]["status"]
    is_allowed = final in STEP_TRANSITIONS[StepStatus(status)]
    assert found == (final if is_allowed else status)


# The schema itself.


@pytest.mark.parametrize(
    ("table", "column", "enum"),
    [("tasks", "status", TaskStatus), ("steps", "status", StepStatus)],
)
def test_the_schema_refuses_a_status_that_no_enum_has(
    store, table: str, column: str, enum: Any
) -> None:
    in_status(store, "running")
    with store.write() as tx:
        turn = tx.one("SELECT id, epoch FROM tasks")
        steps.start_model(tx, turn["id"], turn["epoch"], "demo")
    with pytest.raises(Exception, match=r"(?i)check constraint"), store.write() as tx:
        tx.execute(f"UPDATE {table} SET {column} = 'nonsense'")


def test_the_schema_refuses_a_running_task_without_a_lease(store) -> None:
    in_status(store, "running")
    with pytest.raises(Exception, match=r"(?i)check constraint"), store.write() as tx:
        tx.execute("UPDATE tasks SET lease_owner = NULL")
