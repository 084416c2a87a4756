"""The store seam: what agents may do to one another, on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from broker import (
    agents,
    events,
    forks,
    recovery,
    routing,
    steering,
    tasks,
    together,
    turns,
    why,
)
from broker.agents import AgentChange
from broker.database import Row
from broker.errors import AgentLimit, ChainStopped, TooManyWaiting
from broker.events import NewEvent
from broker.forks import NewFork
from broker.leases import Worker
from broker.states import Priority, Stream
from broker.times import SECOND_US
from broker.together import (
    CHILDREN_LIMIT,
    DEPTH_LIMIT,
    FAN_OUT_LIMIT,
    HOPS_LIMIT,
    PAIR_LIMIT,
    PING_PONG_HOPS,
    STORM_LIMIT,
    WINDOW_SECONDS,
)
from broker.turns import Turn

ERROR = {"type": "http_500", "message": "The provider is ill."}


def wire(store: Any, *hops: tuple[str, str], cause_id: int | None = None) -> int:
    """Write a chain of messages between agents, each caused by the one before, and
    return the last."""
    for hop, (sender, target) in enumerate(hops, start=1):
        message = NewEvent(
            stream=Stream.TASK_INPUT,
            scope=f"agent/{target}",
            kind="message",
            source=f"agent/{sender}",
            cause_id=cause_id,
            hop=hop,
        )
        with store.write() as tx:
            cause_id = events.append(tx, message)[0]
    assert cause_id is not None
    return cause_id


def in_turn(count: int, one: str = "a", other: str = "b") -> list[tuple[str, str]]:
    return [(one, other) if n % 2 == 0 else (other, one) for n in range(count)]


def around(count: int, names: str = "abc") -> list[tuple[str, str]]:
    each = [names[n % len(names)] for n in range(count + 1)]
    return list(itertools.pairwise(each))


def crew(store: Any, *names: str) -> None:
    for name in names:
        store.agent(name)


def errors(store: Any) -> list[Row]:
    wanted = ("loop_stopped", "wake_storm")
    found = store.events(stream="errors")
    return [event for event in found if event["kind"] in wanted]


def inbox(store: Any, agent_id: str, kind: str = "reply") -> list[Row]:
    found = store.events(scope=f"agent/{agent_id}")
    return [event for event in found if event["kind"] == kind]


def asked(store: Any, sender: str, target: str, **more: Any) -> Turn:
    """Claim the turn of a message from one agent to another."""
    return store.take_turn("do it", to=target, source=f"agent/{sender}", **more)


def fail(store: Any, turn: Turn) -> None:
    with store.write() as tx:
        turns.fail(tx, turn, ERROR, retriable=False)


# Hops.


@pytest.mark.line("P20")
def test_what_an_agent_writes_is_one_hop_further_than_its_cause(store) -> None:
    crew(store, "a", "b")
    root = store.post("go", to="a").event_id
    told = [
        store.post("x", to="b", source="agent/a", cause_id=root),
        store.post("x", to="b", source="web", cause_id=root),
        store.post("x", to="b", source="agent/a"),
    ]
    hops = [events.find(store.database, each.event_id)["hop"] for each in told]
    assert hops == [1, 0, 0]


def test_what_a_task_tells_has_the_hop_of_what_it_was_started_for(store) -> None:
    crew(store, "a", "b")
    far = wire(store, *in_turn(3))
    store.create(agent_id="b", cause_id=far)
    (told,) = inbox(store, "b", "task_update")
    assert (told["hop"], told["cause_id"]) == (3, far)


def test_a_turn_comes_from_the_longest_chain_that_woke_it(store) -> None:
    crew(store, "a", "b")
    near, far = wire(store, *in_turn(1)), wire(store, *in_turn(5))
    quiet = wire(store, *in_turn(9))
    found = {id: events.find(store.database, id) for id in (near, far, quiet)}
    woken = [{**found[id], "priority": "wake"} for id in (near, far)]
    origin = together.origin([*woken, found[quiet]], near)
    assert (origin.cause_id, origin.hop) == (far, 5)


def test_a_persons_message_begins_a_new_chain(store) -> None:
    crew(store, "a", "b")
    far = {**events.find(store.database, wire(store, *in_turn(9))), "priority": "wake"}
    said = events.find(store.database, store.post("stop it", to="b").event_id)
    origin = together.origin([far, said], far["id"])
    assert (origin.cause_id, origin.hop) == (said["id"], 0)


def test_a_service_that_passes_on_what_an_agent_said_hides_no_hop(store) -> None:
    crew(store, "a", "b")
    far = wire(store, *in_turn(5))
    on = store.post("x", to="b", source="service/relay", cause_id=far).event_id
    told = store.post("y", to="a", source="agent/b", cause_id=on).event_id
    hops = [events.find(store.database, id)["hop"] for id in (on, told)]
    assert hops == [5, 6]


def test_no_hop_is_less_than_that_of_its_cause(store) -> None:
    crew(store, "a", "b")
    far = wire(store, *in_turn(5))
    told = store.post("x", to="b", source="agent/a", cause_id=far, hop=1)
    assert events.find(store.database, told.event_id)["hop"] == 6


def test_what_comes_after_a_person_has_spoken_goes_on_with_its_own_chain(
    store,
) -> None:
    """In the same turn, too: a circle may come back to the turn that began it."""
    crew(store, "a", "b")
    said = events.find(store.database, store.post("go", to="b").event_id)
    back = {**events.find(store.database, wire(store, *in_turn(4))), "priority": "wake"}
    origin = together.origin([said, back], said["id"])
    assert (origin.cause_id, origin.hop) == (back["id"], 4)


# Loops.


@pytest.mark.line("P19")
def test_a_chain_that_is_too_long_is_refused_with_its_events(store) -> None:
    crew(store, "a", "b", "c")
    root = store.post("go", to="a").event_id
    last = wire(store, *around(HOPS_LIMIT), cause_id=root)
    with pytest.raises(ChainStopped, match=r"A chain of messages among .* is 17 long"):
        store.post("on", to="c", source="agent/b", cause_id=last)
    with store.write() as tx:
        loop = together.find_loop(tx, "b", "c", last, HOPS_LIMIT + 1)
    assert loop is not None
    assert loop.chain == (root, *range(last - HOPS_LIMIT + 1, last + 1))
    assert (loop.agents, loop.hops) == (("a", "c", "b"), HOPS_LIMIT + 1)


def test_a_chain_up_to_its_limit_goes_on(store) -> None:
    crew(store, "a", "b", "c")
    last = wire(store, *around(HOPS_LIMIT - 1))
    assert store.post("on", to="b", source="agent/a", cause_id=last).turn_id


@pytest.mark.line("P19")
def test_two_agents_who_only_write_to_each_other_are_stopped_sooner(store) -> None:
    crew(store, "a", "b")
    last = wire(store, *in_turn(PING_PONG_HOPS - 1))
    on = store.post("on", to="a", source="agent/b", cause_id=last).event_id
    with pytest.raises(ChainStopped, match="have written to each other 11 times"):
        store.post("on", to="b", source="agent/a", cause_id=on)


def test_other_news_in_between_makes_it_no_ping_pong(store) -> None:
    crew(store, "a", "b")
    half = wire(store, *in_turn(PING_PONG_HOPS // 2))
    news = NewEvent(
        stream=Stream.TASK_OUTPUT, scope="agent/a", kind="task_update", cause_id=half
    )
    with store.write() as tx:
        told = events.append(tx, news)[0]
    last = told
    for sender, target in in_turn(PING_PONG_HOPS):
        last = store.post(
            "on", to=target, source=f"agent/{sender}", cause_id=last
        ).event_id
    assert events.find(store.database, last)["hop"] == PING_PONG_HOPS // 2 + 10


def test_a_reply_in_a_loop_is_written_and_wakes_nobody_and_is_reported(store) -> None:
    crew(store, "a", "b")
    last = wire(store, *in_turn(PING_PONG_HOPS - 1))
    turn = asked(store, "b", "a", cause_id=last)
    hints = len(store.hints)
    store.complete(turn, "pong")
    (reply,) = inbox(store, "b")
    assert (reply["body"], reply["priority"], reply["hop"]) == ("pong", "normal", 11)
    assert (len(store.hints), store.state("b")) == (hints, "idle")
    (report,) = errors(store)
    assert (report["kind"], report["scope"], report["subject"]) == (
        "loop_stopped",
        "agent/b",
        turn.id,
    )
    assert report["payload"] == {
        "chain": [*range(last - 8, last + 1), turn.cause_id, reply["id"]],
        "agents": ["b", "a"],
        "hops": 11,
        "turn_id": turn.id,
    }
    assert report["body"].startswith(
        "b and a have written to each other 11 times in a row"
    )


def test_what_was_made_quiet_is_read_with_the_next_turn(store) -> None:
    crew(store, "a", "b")
    last = wire(store, *in_turn(PING_PONG_HOPS - 1))
    store.complete(asked(store, "b", "a", cause_id=last), "pong")
    turn = store.take_turn("what is new?", to="b")
    assert [event["body"] for event in turn.inputs] == ["what is new?", "pong"]
    frame = turn.history[-1]["data"]["frame"]
    assert [event["body"] for event in frame["events"]] == ["pong"]


def test_why_shows_a_stopped_loop_below_the_turn_that_was_stopped(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "b", "a", hop=HOPS_LIMIT)
    store.complete(turn, "pong")
    (report,) = errors(store)
    chain = why.explain(store.database, str(report["id"]))["chain"]
    assert [link["id"] for link in chain] == [turn.cause_id, turn.id, report["id"]]
    (below,) = why.explain(store.database, turn.id)["tree"]["led_to"]
    assert [node["id"] for node in below["led_to"]] == [
        inbox(store, "b")[0]["id"],
        report["id"],
    ]


# How often one writes to one other.


@pytest.mark.line("P19")
def test_a_flood_from_one_agent_to_another_is_refused(store) -> None:
    crew(store, "a", "b", "c")
    for number in range(PAIR_LIMIT):
        store.post(str(number), to="b", source="agent/a", priority=Priority.NORMAL)
    with pytest.raises(TooManyWaiting, match="What a may write to b within 60 sec"):
        store.post("more", to="b", source="agent/a")
    assert store.post("more", to="c", source="agent/a").turn_id
    assert store.post("more", to="b", source="agent/c").turn_id
    assert store.post("more", to="b", source="web").turn_id


def test_the_flood_is_over_when_the_minute_is(store) -> None:
    crew(store, "a", "b")
    for number in range(PAIR_LIMIT):
        store.post(str(number), to="b", source="agent/a")
    with store.write() as tx:
        tx.execute(
            "UPDATE events SET created_at = created_at - ?", WINDOW_SECONDS * SECOND_US
        )
    assert store.post("more", to="b", source="agent/a").turn_id


def test_a_message_that_was_sent_already_is_no_flood(store) -> None:
    crew(store, "a", "b")
    sent = [
        store.post("x", to="b", source="agent/a", key=f"k{n}")
        for n in range(PAIR_LIMIT)
    ]
    assert store.post("x", to="b", source="agent/a", key="k0") == sent[0]


# Storms.


def blow(store: Any, count: int, agent_id: str = "scout") -> Turn:
    """Let so many execs of one of the agent's turns end in the background."""
    turn = store.take_turn("start them", to=agent_id)
    for number in range(count):
        id = store.create(id=f"e{number}", agent_id=agent_id, parent_id=turn.id)["id"]
        end(store, id)
    return turn


def end(store: Any, id: str) -> None:
    claimed = store.claim(id)
    with store.write() as tx:
        tasks.complete(tx, id, claimed["epoch"], None)


def unread_ranks(store: Any, agent_id: str = "scout") -> list[int]:
    rows = store.database.read(
        "SELECT marks.rank FROM marks JOIN events ON events.id = marks.event_id"
        " WHERE reader = ? AND read_at IS NULL AND events.kind = 'task_update'"
        " ORDER BY event_id",
        agent_id,
    )
    return [row["rank"] for row in rows]


@pytest.mark.line("P19")
def test_a_storm_of_news_wakes_no_more_and_is_told_once(store) -> None:
    store.agent()
    blow(store, STORM_LIMIT + 5)
    assert unread_ranks(store) == [1] * STORM_LIMIT + [2] * 5
    (report, *more) = errors(store)
    assert len(more) <= 1, "a minute may have ended meanwhile"
    told = [e for e in inbox(store, "scout", "task_update") if e["subject"] == "e100"]
    assert (report["kind"], report["payload"]) == (
        "wake_storm",
        {
            "event_id": told[-1]["id"],
            "limit": STORM_LIMIT,
            "window_seconds": WINDOW_SECONDS,
        },
    )
    assert told[-1]["priority"] == "normal"


@pytest.mark.line("P19")
def test_a_person_who_speaks_ends_the_storm(store) -> None:
    store.agent()
    turn = blow(store, STORM_LIMIT)
    store.post("I see")
    id = store.create(id="last", agent_id="scout", parent_id=turn.id)["id"]
    end(store, id)
    assert unread_ranks(store)[-1] == Priority.WAKE.rank
    assert errors(store) == []


def test_the_messages_of_agents_are_no_storm_of_news(store) -> None:
    crew(store, "scout", *(f"a{n}" for n in range(STORM_LIMIT)))
    for number in range(STORM_LIMIT):
        store.post("x", source=f"agent/a{number}")
    reply = asked(store, "scout", "a0")
    store.complete(reply, "here")
    assert [event["priority"] for event in inbox(store, "scout")] == ["wake"]


# Who asked is answered.


@pytest.mark.line("G65")
def test_every_question_that_was_taken_in_has_its_reply(store) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "a", "b", request_id="r-a")
    store.post("me, too", to="b", source="agent/c", request_id="r-c")
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
    store.complete(turn, "both")
    assert [
        (reply["scope"], reply["payload"]["request_id"], reply["body"])
        for reply in (*inbox(store, "a"), *inbox(store, "c"))
    ] == [("agent/a", "r-a", "both"), ("agent/c", "r-c", "both")]


def test_a_question_that_was_taken_in_before_a_crash_has_its_reply(store) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "a", "b")
    store.post("me, too", to="b", source="agent/c", request_id="r-c")
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
        recovery.expire(tx, owner="worker-1")
    again = store.claim_turn(turn.id, by="worker-2")
    assert [event["source"] for event in again.inputs] == ["agent/a", "agent/c"]
    store.complete(again, "both")
    assert [reply["payload"]["request_id"] for reply in inbox(store, "c")] == ["r-c"]
    assert len(inbox(store, "a")) == 1


@pytest.mark.line("G65")
def test_a_turn_takes_in_no_more_questions_than_it_can_answer(store) -> None:
    askers = [f"a{n}" for n in range(40)]
    crew(store, "b", *askers)
    turn = asked(store, askers[0], "b")
    for asker in askers[1:]:
        store.post("me, too", to="b", source=f"agent/{asker}")
    with store.write() as tx:
        for _ in range(3):
            steering.absorb(tx, turn, news_only=False, limit=32)
        assert len(turn.inputs) == 32
        assert steering.pending_wake(tx, turn) is None
    person = store.post("and me", to="b")
    with store.write() as tx:
        found = steering.pending_wake(tx, turn)
        assert found is not None
        assert found["id"] == person.event_id
    store.complete(turn, "all of you")
    assert sum(len(inbox(store, asker)) for asker in askers) == 32
    while following := store.claim_turn(turn.id):  # whatever is hinted: the next
        store.complete(following, "and you")
    assert [len(inbox(store, asker)) for asker in askers] == [1] * 40


def test_a_turn_that_failed_tells_who_asked(store) -> None:
    crew(store, "a", "b")
    fail(store, asked(store, "a", "b", request_id="r-1"))
    (reply,) = inbox(store, "a")
    assert reply["body"] == "I could not answer: The provider is ill."
    assert reply["payload"] == {"failed": True, "request_id": "r-1", "context": {}}
    assert (reply["priority"], store.state("a")) == ("wake", "queued")


def test_a_dead_letter_that_is_retried_answers_after_all(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    fail(store, turn)
    with store.write() as tx:
        tasks.retry(tx, turn.id)
    store.complete(store.claim_turn(turn.id), "here you are")
    assert [reply["payload"].get("failed") for reply in inbox(store, "a")] == [
        True,
        None,
    ]


def test_a_dead_letter_that_is_edited_answers_after_all(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b", request_id="r-1")
    fail(store, turn)
    with store.write() as tx:
        turns.edit_and_retry(tx, turn.id, "do something else")
    store.complete(store.claim_turn(turn.id), "here you are")
    assert [
        (reply["body"], reply["payload"]["request_id"]) for reply in inbox(store, "a")
    ] == [("I could not answer: The provider is ill.", "r-1"), ("here you are", "r-1")]


def test_a_dead_letter_tells_each_time_that_it_fails(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    fail(store, turn)
    with store.write() as tx:
        tasks.retry(tx, turn.id)
    fail(store, store.claim_turn(turn.id))
    assert [e["payload"]["failed"] for e in inbox(store, "a")] == [True, True]


def test_a_dead_letter_that_was_dropped_tells_nobody_again(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    fail(store, turn)
    with store.write() as tx:
        tasks.drop(tx, turn.id, None)
    assert len(inbox(store, "a")) == 1


def waiting(store: Any, turn_id: str, *, asker: str = "a") -> Turn:
    """Let a turn of the asker await the turn; nothing parks it."""
    turn = store.take_turn("go", to=asker)
    with store.write() as tx:
        tasks.expect(tx, [turn_id], turn.id)
    return turn


def test_a_dead_letter_answers_by_message_whoever_had_awaited_it(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    waiting(store, turn.id)
    fail(store, turn)
    assert inbox(store, "a") == []  # read where it was awaited, by a turn that goes on
    with store.write() as tx:
        tasks.retry(tx, turn.id)
    store.complete(store.claim_turn(turn.id), "here you are")
    assert [reply["body"] for reply in inbox(store, "a")] == ["here you are"]


def test_who_waits_after_a_turn_that_was_stopped_has_no_message_as_well(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    stopped = waiting(store, turn.id)
    with store.write() as tx:
        tasks.kill(tx, stopped.id, "Enough.")
    waiting(store, turn.id)
    store.complete(turn, "here")
    assert inbox(store, "a") == []


def test_an_asker_has_no_message_as_well_when_others_wait_for_the_same(store) -> None:
    crew(store, "a", "b", "c", "d")
    turn = asked(store, "a", "b")
    waiting(store, turn.id, asker="c")
    waiting(store, turn.id)
    waiting(store, turn.id, asker="d")
    store.complete(turn, "here")
    assert inbox(store, "a") == []


def test_an_asker_is_told_when_only_another_waits(store) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "a", "b")
    waiting(store, turn.id, asker="c")
    store.complete(turn, "here")
    assert [reply["body"] for reply in inbox(store, "a")] == ["here"]
    assert inbox(store, "c") == []


def test_who_waits_for_a_turn_that_another_absorbs_has_no_message(store) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "c", "b")
    own_id = store.post("me, too", to="b", source="agent/a").turn_id
    waiting(store, own_id)
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
    store.complete(turn, "both")
    assert (inbox(store, "a"), len(inbox(store, "c"))) == ([], 1)


def test_a_message_that_was_sent_already_has_its_own_turn_though_absorbed(
    store,
) -> None:
    """A turn that is resumed waits for what it waited for, and for nothing else."""
    crew(store, "a", "b", "c")
    turn = asked(store, "c", "b")
    sent = {"to": "b", "source": "agent/a", "key": "k"}
    posted = store.post("me, too", **sent)
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
    assert store.post("me, too", **sent) == posted
    assert posted.turn_id != turn.id


def test_a_question_to_an_agent_that_is_stopped_is_answered_when_it_is_back(
    store,
) -> None:
    crew(store, "a", "b")
    id = store.post("do it", to="b", source="agent/a").turn_id
    with store.write() as tx:
        agents.archive(tx, "b")
    assert store.claim_turn(id) is None
    crew(store, "b")
    store.complete(store.claim_turn(id), "back again")
    assert [reply["body"] for reply in inbox(store, "a")] == ["back again"]


def test_a_fork_has_no_answer_to_what_its_base_asked(store) -> None:
    crew(store, "a", "b")
    store.complete(store.take_turn("go", to="a"))
    turn = asked(store, "a", "b")
    with store.write() as tx:
        forks.fork(tx, "a", NewFork(id="a2"))
    store.complete(turn, "here")
    assert (len(inbox(store, "a")), inbox(store, "a2")) == (1, [])
    row = store.database.read_one("SELECT parent_id FROM agents WHERE id = 'a2'")
    assert row == {"parent_id": None}


@pytest.mark.line("G65")
def test_questions_beyond_the_routes_that_do_not_hurry_have_no_reply(store) -> None:
    askers = [f"a{n}" for n in range(routing.ROUTES_LIMIT + 1)]
    crew(store, "b", *askers)
    quiet = {"to": "b", "priority": Priority.NORMAL}
    for asker in askers:
        store.post("when you can", source=f"agent/{asker}", **quiet)
    turn = store.take_turn("what is new?", to="b")
    assert len(turn.inputs) == routing.ROUTES_LIMIT + 2
    store.complete(turn, "this")
    told = [len(inbox(store, asker)) for asker in askers]
    assert told == [1] * routing.ROUTES_LIMIT + [0]


def test_a_turn_whose_workers_all_died_tells_who_asked(store) -> None:
    crew(store, "a", "b")
    id = store.post("do it", to="b", source="agent/a").turn_id
    for number in range(recovery.MAX_CRASHES + 1):
        assert store.claim_turn(id, by=f"w{number}")
        with store.write() as tx:
            recovery.expire(tx, owner=f"w{number}")
    assert store.status(id) == "failed"
    assert [reply["payload"]["failed"] for reply in inbox(store, "a")] == [True]


def test_a_turn_that_was_stopped_says_so_without_waking_anybody(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    with store.write() as tx:
        tasks.kill(tx, turn.id, "Enough.")
    (reply,) = inbox(store, "a")
    assert (reply["body"], reply["priority"]) == (
        "I could not answer: Enough.",
        "normal",
    )
    assert store.state("a") == "idle"


def test_what_a_failed_turn_had_taken_in_is_answered_by_its_own_turn(store) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "a", "b")
    store.post("me, too", to="b", source="agent/c")
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
    fail(store, turn)
    assert (len(inbox(store, "a")), inbox(store, "c")) == (1, [])
    (own,) = store.database.read(
        "SELECT id FROM tasks WHERE agent_id = 'b' AND status = 'queued'"
    )
    store.complete(store.claim_turn(own["id"]), "for you")
    assert [reply["body"] for reply in inbox(store, "c")] == ["for you"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_question_whose_own_turn_was_killed_once_taken_in_has_its_reply(
    store, fails
) -> None:
    crew(store, "a", "b", "c")
    turn = asked(store, "a", "b")
    own_id = store.post("me, too", to="b", source="agent/c").turn_id
    with store.write() as tx:
        steering.absorb(tx, turn, news_only=False, limit=1)
        tasks.kill(tx, own_id, "Enough.")
    if fails:
        fail(store, turn)
    else:
        store.complete(turn, "both")
    said = "I could not answer: The provider is ill." if fails else "both"
    assert [reply["body"] for reply in inbox(store, "c")] == [said]


def test_an_answer_reaches_an_inbox_that_is_full(store) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    with store.write() as tx:
        for number in range(turns.UNREAD_LIMIT):
            events.mark(tx, "a", -number, Priority.WAKE)
    store.complete(turn, "here")
    assert len(inbox(store, "a")) == 1


def test_an_answer_wakes_however_long_the_queue_is(store, monkeypatch) -> None:
    crew(store, "a", "b")
    turn = asked(store, "a", "b")
    monkeypatch.setattr("broker.task_rows.QUEUED_LIMIT", 1)
    store.create("job", id="j")
    store.complete(turn, "here")
    assert store.state("a") == "queued"


# Agents that agents make.


def make(store: Any, parent_id: str, id: str) -> None:
    with store.write() as tx:
        together.refuse_child(tx, parent_id)
        agents.upsert(tx, id, AgentChange(), parent_id=parent_id)


def test_agents_that_make_agents_come_to_an_end(store) -> None:
    store.agent("a0")
    for depth in range(DEPTH_LIMIT):
        make(store, f"a{depth}", f"a{depth + 1}")
    with pytest.raises(AgentLimit, match=r"would be 9 agents below .* limit is 8"):
        make(store, f"a{DEPTH_LIMIT}", "more")


def test_an_agent_makes_no_more_than_so_many(store) -> None:
    store.agent("a")
    with store.write() as tx:
        for number in range(CHILDREN_LIMIT):
            agents.upsert(tx, f"c{number}", AgentChange(), parent_id="a")
    with pytest.raises(AgentLimit, match="You have made 256 agents; the limit is 256"):
        make(store, "a", "more")
    with store.write() as tx:
        agents.archive(tx, "c0")
    make(store, "a", "more")


def test_to_change_an_agent_makes_nobody_its_parent(store) -> None:
    store.agent("a")
    store.agent("b")
    with store.write() as tx:
        agents.upsert(tx, "b", AgentChange(name="B"), parent_id="a")
        row = tx.one("SELECT name, parent_id FROM agents WHERE id = 'b'")
    assert row == {"name": "B", "parent_id": None}


def test_a_turn_has_no_more_under_way_than_so_many(store) -> None:
    store.agent()
    turn = store.take_turn()
    for number in range(FAN_OUT_LIMIT):
        store.create(id=f"e{number}", agent_id="scout", parent_id=turn.id)
    with store.write() as tx, pytest.raises(AgentLimit, match="has 64 execs"):
        together.refuse_fan_out(tx, turn.id)
    with store.write() as tx:
        row = tasks.claim(tx, "e0", Worker(owner="w"))
        assert row is not None
        tasks.complete(tx, "e0", row["epoch"], None)
        together.refuse_fan_out(tx, turn.id)


def test_what_a_turn_asked_of_others_is_under_way_until_it_is_answered(store) -> None:
    crew(store, "scout", *(f"a{n}" for n in range(FAN_OUT_LIMIT)))
    turn = store.take_turn()
    with store.write() as tx:
        for number in range(FAN_OUT_LIMIT):
            tx.execute(
                "INSERT INTO steps (task_id, number, kind, name, effect, status,"
                " attempts, created_at) VALUES (?, ?, 'tool', 'delegate', 'idempotent',"
                " 'succeeded', 1, 0)",
                turn.id,
                number,
            )
    for number in range(FAN_OUT_LIMIT):
        sent = {"source": "agent/scout", "key": f"send/{turn.id}/{number}"}
        store.post("do it", to=f"a{number}", **sent)
    with store.write() as tx, pytest.raises(AgentLimit, match="limit is 64"):
        together.refuse_fan_out(tx, turn.id)
    answering = store.claim_turn(store.hints[-1])
    store.complete(answering, "done")
    with store.write() as tx:
        together.refuse_fan_out(tx, turn.id)
