"""The store seam: messages, turns, waits and histories, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broker import agents, entries, events, recovery, tasks, turns, waking
from broker.entries import HISTORY_LIMIT, NewEntry
from broker.errors import Conflict, LeaseLost, NotFound, TooManyWaiting
from broker.states import Priority
from broker.times import SECOND_US, now_us
from broker.turns import BACKOFF_SECONDS, MAX_ATTEMPTS, UNREAD_LIMIT, Park, Turn

ERROR = {"type": "http_500", "message": "The provider is ill."}


def say(store: Any, turn: Turn, text: str) -> None:
    """Append an answer to the turn's block."""
    said = NewEntry(
        type="assistant_message",
        role="assistant",
        content=[{"type": "text", "text": text}],
    )
    with store.write() as tx:
        entries.append(tx, turn.agent["id"], turn.agent["generation"], turn.id, said)


def fail(store: Any, turn: Turn, *, retriable: bool = True) -> bool:
    with store.write() as tx:
        return turns.fail(tx, turn, ERROR, retriable=retriable)


def park(store: Any, turn: Turn, *targets: str, seconds: float | None = None) -> bool:
    deadline_at = None if seconds is None else now_us() + int(seconds * SECOND_US)
    wait = Park(step=1, target_ids=targets, deadline_at=deadline_at, why={"n": 1})
    with store.write() as tx:
        return turns.park(tx, turn, [wait], heeds=True)


def end_back_off(store: Any) -> None:
    """Let the time of every back-off come."""
    with store.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = ?", now_us() - 1)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [block["text"] for row in rows for block in row["content"]]


def unread(store: Any, agent_id: str = "scout") -> int:
    return events.unread_count(store.database, agent_id, up_to=100)


# A message comes in.


@pytest.mark.line("G15", "G17")
def test_a_waking_message_queues_a_turn_and_hints_it(store) -> None:
    store.agent()
    posted = store.post("hello", request_id="r-1")
    event = events.find(store.database, posted.event_id)
    assert (posted.turn_id, posted.request_id) == ("turn-1", "r-1")
    assert store.hints == ["turn-1"]
    assert (store.state(), store.status("turn-1"), unread(store)) == (
        "queued",
        "queued",
        1,
    )
    assert event is not None
    assert (event["stream"], event["scope"], event["kind"], event["body"]) == (
        "task_input",
        "agent/scout",
        "message",
        "hello",
    )


@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_a_message_without_hurry_wakes_nobody(store, priority) -> None:
    store.agent()
    assert store.post(priority=priority).turn_id is None
    assert (store.hints, store.state(), unread(store)) == ([], "idle", 1)


def test_a_message_key_posts_once(store) -> None:
    store.agent()
    first, again = store.post("hello", key="k-1"), store.post("hullo", key="k-1")
    assert first == again
    assert [event["body"] for event in store.events()] == ["hello"]


def test_a_message_to_nobody_is_refused(store) -> None:
    with pytest.raises(NotFound, match="no agent 'scout'"):
        store.post()


def test_an_inbox_that_is_full_refuses(store) -> None:
    store.agent()
    with store.write() as tx:
        for number in range(UNREAD_LIMIT):
            events.mark(tx, "scout", -number, Priority.LOW)
    with pytest.raises(TooManyWaiting, match=f"its limit of {UNREAD_LIMIT}"):
        store.post(priority=Priority.NORMAL)


def test_a_flood_of_news_does_not_keep_out_what_would_have_it_read(store) -> None:
    store.agent()
    with store.write() as tx:
        for number in range(UNREAD_LIMIT):
            events.mark(tx, "scout", -number, Priority.LOW)
    assert store.post().turn_id == "turn-1"
    with store.write() as tx:
        for number in range(UNREAD_LIMIT):
            events.mark(tx, "scout", -UNREAD_LIMIT - number, Priority.WAKE)
    with pytest.raises(TooManyWaiting, match=f"its limit of {UNREAD_LIMIT}"):
        store.post()


def test_a_flood_of_messages_does_not_keep_out_an_interrupt(store) -> None:
    store.agent()
    with store.write() as tx:
        for number in range(UNREAD_LIMIT):
            events.mark(tx, "scout", -number, Priority.WAKE)
    assert store.post(priority=Priority.INTERRUPT).turn_id == "turn-1"
    with store.write() as tx:
        for number in range(UNREAD_LIMIT):
            events.mark(tx, "scout", -UNREAD_LIMIT - number, Priority.INTERRUPT)
    with pytest.raises(TooManyWaiting, match=f"its limit of {UNREAD_LIMIT}"):
        store.post(priority=Priority.INTERRUPT)


# A turn is taken.


def test_a_claimed_turn_holds_its_agent_and_has_its_inputs(store) -> None:
    store.agent(system="Be brief.")
    store.post("by the way", priority=Priority.LOW)
    turn = store.take_turn("hello", source="person", context={"a": 1})
    assert [(each["body"], each["payload"]["context"]) for each in turn.inputs] == [
        ("hello", {"a": 1}),
        ("by the way", {}),
    ]
    assert texts(turn.history) == [
        "hello",
        "Since your last turn, without hurry:\n- by the way",
    ]
    assert (turn.is_resumed, turn.attempts, turn.agent["system"]) == (
        False,
        1,
        "Be brief.",
    )
    assert store.state() == "running"
    assert agents.get(store.database, "scout")["turn_id"] == turn.id


@pytest.mark.line("P37", "G65")
def test_a_completed_turn_leaves_everything_told_and_its_agent_free(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    store.complete(turn, "hi")
    assert tasks.shape(store.task(turn.id))["result"] == {"text": "hi"}
    assert (store.status(turn.id), store.state(), unread(store)) == (
        "completed",
        "idle",
        0,
    )
    assert store.kinds() == [
        "message",
        "agent_run_start",
        "turn_start",
        "agent_run_complete",
        "turn_end",
        "agent_end",
    ]


def test_a_turn_is_completed_once(store) -> None:
    store.agent()
    turn = store.take_turn()
    store.complete(turn)
    with pytest.raises(LeaseLost):
        store.complete(turn)
    assert store.kinds().count("agent_end") == 1


def test_a_turn_that_is_claimed_again_goes_on_from_what_was_written(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    say(store, turn, "let me see")
    with store.write() as tx:
        recovery.expire(tx, owner="worker-1")
    again = store.claim_turn(turn.id, by="worker-2")
    assert again is not None
    assert (again.is_resumed, again.epoch, again.attempts) == (True, 2, 1)
    assert texts(again.history) == ["hello", "let me see"]
    assert again.inputs == turn.inputs
    with pytest.raises(LeaseLost):
        store.complete(turn)
    assert store.kinds().count("turn_start") == 1


def test_a_hint_for_what_is_gone_or_taken_is_dropped(store) -> None:
    store.agent()
    turn = store.take_turn()
    assert store.claim_turn("turn-99") is None
    assert store.claim_turn(turn.id) is None
    store.complete(turn)
    assert store.claim_turn(turn.id) is None


# One turn at a time, in the order of the line.


@pytest.mark.line("G53")
def test_an_agent_takes_one_turn_at_a_time(store) -> None:
    store.agent()
    first = store.take_turn("one")
    second = store.post("two").turn_id
    assert store.claim_turn(second) is None
    assert store.hints == [first.id]
    store.complete(first)
    assert store.hints == [first.id, second]
    assert store.claim_turn(second) is not None


@pytest.mark.line("G53")
def test_agents_take_turns_at_the_same_time(store) -> None:
    store.agent("a")
    store.agent("b")
    assert store.take_turn(to="a").id != store.take_turn(to="b").id


def test_hints_handled_in_the_wrong_order_keep_the_line_in_order(store) -> None:
    store.agent()
    line = [store.post(text).turn_id for text in ("one", "two", "three")]
    taken = []
    for hinted in reversed(line):
        turn = store.claim_turn(hinted)
        taken.append([each["body"] for each in turn.inputs])
        store.complete(turn)
    assert taken == [["one"], ["two"], ["three"]]


def test_an_interrupting_message_goes_to_the_head_of_the_line(store) -> None:
    store.agent()
    store.post("later")
    urgent = store.post("now", priority=Priority.INTERRUPT).turn_id
    turn = store.claim_turn("turn-1")
    assert (turn.id, texts(turn.history)) == (urgent, ["now"])


@pytest.mark.line("G53", "G21")
def test_many_workers_with_one_hint_take_one_turn(store) -> None:
    store.agent()
    id = store.post().turn_id
    ready = threading.Barrier(8)

    def claim(number: int) -> Turn | None:
        ready.wait()
        return store.claim_turn(id, by=f"worker-{number}")

    with ThreadPoolExecutor(8) as pool:
        claimed = [turn for turn in pool.map(claim, range(8)) if turn]
    assert [turn.id for turn in claimed] == [id]


def test_posts_and_turns_of_one_agent_at_once_all_come_through(store) -> None:
    store.agent("a")
    store.agent("b")
    ready, given_up = threading.Barrier(4), threading.Event()

    def post(number: int) -> None:
        ready.wait()
        for count in range(25):
            store.post(f"{number}-{count}", to="ab"[number], source="agent/a")

    def take(name: str) -> int:
        ready.wait()
        taken = 0
        while taken < 25 and not given_up.is_set():
            heads = store.database.read(
                "SELECT id FROM tasks WHERE agent_id = ? AND status = 'queued' LIMIT 1",
                name,
            )
            if heads and (turn := store.claim_turn(heads[0]["id"], by=name)):
                with store.write() as tx:  # as a journal does: tell, then write
                    turns.emit_fenced(tx, turn, [("message_update", {})])
                    entries.append(tx, name, 1, turn.id)
                store.complete(turn)
                taken += 1
        return taken

    with ThreadPoolExecutor(4) as pool:
        acts = [pool.submit(post, 0), pool.submit(post, 1)]
        acts += [pool.submit(take, "a"), pool.submit(take, "b")]
        try:
            assert [act.result(30) for act in acts] == [None, None, 25, 25]
        finally:
            given_up.set()


# A turn fails.


def test_a_failed_turn_is_tried_again_after_a_while(store) -> None:
    store.agent()
    turn = store.take_turn()
    store.hints.clear()
    before = now_us()
    assert fail(store, turn)
    row = store.task(turn.id)
    delay = (row["not_before_at"] - before) / SECOND_US
    assert BACKOFF_SECONDS / 2 <= delay <= BACKOFF_SECONDS + 1
    assert (row["status"], row["attempts"], unread(store)) == ("queued", 2, 1)
    assert store.claim_turn(turn.id) is None
    assert store.hints == []


@pytest.mark.line("G22", "P39")
def test_a_turn_that_keeps_failing_is_a_dead_letter(store) -> None:
    store.agent()
    turn = store.take_turn()
    for _ in range(MAX_ATTEMPTS - 1):
        assert fail(store, turn)
        end_back_off(store)
        turn = store.claim_turn(turn.id)
    assert not fail(store, turn)
    shown = tasks.shape(store.task(turn.id))
    assert (shown["status"], shown["error"], shown["attempts"]) == (
        "failed",
        ERROR,
        MAX_ATTEMPTS,
    )
    assert (store.state(), unread(store)) == ("idle", 1)
    types = [each["type"] for each in entries.list_after(store.database, "scout")]
    assert types == ["user_message", "error"]


def test_what_no_retry_can_mend_fails_at_once(store) -> None:
    store.agent()
    turn = store.take_turn()
    assert not fail(store, turn, retriable=False)
    assert store.status(turn.id) == "failed"
    assert store.kinds()[-2:] == ["turn_end", "agent_end"]


def test_a_turn_that_waits_to_be_tried_again_does_not_block_its_agent(store) -> None:
    store.agent()
    failing = store.take_turn("one")
    say(store, failing, "half an answer")
    behind = store.post("two").turn_id
    fail(store, failing)
    assert store.hints[-1] == behind
    turn = store.claim_turn(behind)
    assert texts(turn.history) == ["two"]
    say(store, turn, "two is done")
    store.complete(turn)
    end_back_off(store)
    again = store.claim_turn(failing.id)
    assert texts(again.history) == ["two", "two is done", "one", "half an answer"]


@pytest.mark.line("G22")
def test_a_dead_letter_that_is_retried_keeps_its_inputs(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    fail(store, turn, retriable=False)
    with store.write() as tx:
        tasks.retry(tx, turn.id)
    again = store.claim_turn(turn.id)
    assert ([each["body"] for each in again.inputs], again.attempts) == (["hello"], 1)
    store.complete(again)
    assert (store.status(turn.id), unread(store)) == ("completed", 0)


def test_a_dead_letter_that_is_edited_begins_with_its_new_text(store) -> None:
    store.agent()
    turn = store.take_turn("helo")
    say(store, turn, "half an answer")
    fail(store, turn, retriable=False)
    with store.write() as tx:
        turns.edit_and_retry(tx, turn.id, "hello")
    again = store.claim_turn(turn.id)
    own = [row for row in again.history if row["turn_id"] == turn.id]
    assert texts(own) == ["hello"]


def test_a_dead_letter_that_is_dropped_is_read_and_off_the_list(store) -> None:
    def dead_letters() -> list[str]:
        found = tasks.list_page(store.database, is_dead_letter=True)
        return [row["id"] for row in found]

    store.agent()
    turn = store.take_turn()
    fail(store, turn, retriable=False)
    assert dead_letters() == [turn.id]
    with store.write() as tx:
        tasks.drop(tx, turn.id, "not worth it")
    assert (dead_letters(), unread(store), store.status(turn.id)) == ([], 0, "failed")
    with pytest.raises(Conflict, match="no dead letter"), store.write() as tx:
        tasks.drop(tx, turn.id, None)


# A turn is stopped.


def test_a_turn_that_was_asked_to_stop_ends_cancelled_and_read(store) -> None:
    store.agent()
    turn = store.take_turn()
    with store.write() as tx:
        tasks.cancel(tx, turn.id, "enough")
        turns.cancel(tx, turn, "enough")
    assert (store.status(turn.id), store.state(), unread(store)) == (
        "cancelled",
        "idle",
        0,
    )


def test_a_turn_that_fails_after_it_was_asked_to_stop_is_cancelled(store) -> None:
    store.agent()
    turn = store.take_turn()
    with store.write() as tx:
        tasks.cancel(tx, turn.id, "enough")
    assert not fail(store, turn)
    assert store.status(turn.id) == "cancelled"


def test_a_turn_that_parks_after_it_was_asked_to_stop_is_cancelled(store) -> None:
    store.agent()
    turn = store.take_turn()
    with store.write() as tx:
        tasks.cancel(tx, turn.id, "enough")
    park(store, turn, seconds=60)
    assert store.status(turn.id) == "cancelled"


def test_an_interrupt_is_for_a_turn_that_runs(store) -> None:
    store.agent()
    with pytest.raises(Conflict, match="nothing to interrupt"), store.write() as tx:
        turns.interrupt(tx, "scout")
    turn = store.take_turn()
    with store.write() as tx:
        turns.interrupt(tx, "scout")
    assert store.task(turn.id)["stop_verb"] == "interrupt"


# A turn waits.


def test_a_parked_turn_wakes_when_its_target_ends(store) -> None:
    store.agent()
    target = store.create()
    turn = store.take_turn()
    assert park(store, turn, target["id"], seconds=60)
    assert (store.status(turn.id), store.state()) == ("waiting", "waiting")
    assert tasks.shape(store.task(turn.id))["waiting_for"] == {"n": 1}
    store.hints.clear()
    row = store.claim(target["id"])
    with store.write() as tx:
        tasks.complete(tx, target["id"], row["epoch"], {"n": 4})
    assert (store.status(turn.id), store.hints) == ("queued", [turn.id])
    again = store.claim_turn(turn.id)
    assert (again.is_resumed, again.attempts) == (True, 1)


def test_the_first_of_several_targets_wakes(store) -> None:
    store.agent()
    targets = [store.create()["id"] for _ in range(2)]
    turn = store.take_turn()
    park(store, turn, *targets)
    with store.write() as tx:
        tasks.kill(tx, targets[1], None)
    assert store.status(turn.id) == "queued"


@pytest.mark.parametrize("reason", ["target is over", "time is over", "target is gone"])
def test_a_turn_whose_condition_holds_already_is_queued_at_once(store, reason) -> None:
    store.agent()
    target = store.create()["id"]
    turn = store.take_turn()
    if reason == "target is over":
        with store.write() as tx:
            tasks.kill(tx, target, None)
    seconds = -1 if reason == "time is over" else 60
    wanted = "exec-99" if reason == "target is gone" else target
    store.hints.clear()
    assert not park(store, turn, wanted, seconds=seconds)
    assert (store.status(turn.id), store.hints) == ("queued", [turn.id])


def test_a_deadline_that_comes_wakes_the_turn_once(store) -> None:
    store.agent()
    turn = store.take_turn()
    park(store, turn, seconds=60)
    assert recovery.next_due_at(store.database) > now_us()
    with store.write() as tx:
        assert recovery.wake_due(tx) == []
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        assert recovery.wake_due(tx) == [turn.id]
        assert recovery.wake_due(tx) == []
    assert store.status(turn.id) == "queued"


def test_a_back_off_is_due_when_it_ends(store) -> None:
    store.agent()
    assert recovery.next_due_at(store.database) is None
    turn = store.take_turn()
    fail(store, turn)
    due_at = store.task(turn.id)["not_before_at"]
    assert recovery.next_due_at(store.database) == due_at


def test_a_lease_is_due_when_it_ends(store) -> None:
    store.agent()
    turn = store.take_turn()
    expires_at = store.task(turn.id)["lease_expires_at"]
    assert recovery.next_due_at(store.database) == expires_at


def test_a_parked_turn_still_holds_its_agent(store) -> None:
    store.agent()
    turn = store.take_turn()
    behind = store.post("two", priority=Priority.NORMAL)
    park(store, turn, seconds=60)
    assert behind.turn_id is None
    assert store.claim_turn(turn.id) is None
    assert agents.get(store.database, "scout")["turn_id"] == turn.id


def test_a_task_that_ends_forgets_its_own_waits(store) -> None:
    store.agent()
    turn = store.take_turn()
    park(store, turn, seconds=60)
    with store.write() as tx:
        tasks.kill(tx, turn.id, None)
        assert tx.execute("SELECT * FROM waits") == []
    assert store.state() == "idle"


# Replies between agents.


def ask(store: Any, **context: str) -> Turn:
    store.agent("asker")
    store.agent("scout")
    return store.take_turn(
        "what is up?", source="agent/asker", request_id="r-1", context=context
    )


@pytest.mark.line("G65", "G70")
def test_the_reply_goes_to_the_agent_that_asked(store) -> None:
    store.complete(ask(store), "not much")
    turn = store.claim_turn(store.hints[-1])
    assert turn.agent["id"] == "asker"
    reply = turn.inputs[0]
    assert (reply["kind"], reply["body"], reply["source"], reply["hop"]) == (
        "reply",
        "not much",
        "agent/scout",
        1,
    )
    assert reply["payload"]["request_id"] == "r-1"


def test_nobody_answers_an_answer(store) -> None:
    store.complete(ask(store), "not much")
    answered = store.claim_turn(store.hints[-1])
    before = len(store.hints)
    store.complete(answered, "thank you")
    assert len(store.hints) == before


@pytest.mark.line("G65", "G70")
def test_a_reply_that_the_asker_awaits_is_not_posted_too(store) -> None:
    asked = ask(store)
    waiting = store.take_turn("ask it", to="asker")
    with store.write() as tx:
        tasks.expect(tx, [asked.id], waiting.id)
    store.complete(asked, "not much")
    assert unread(store, "asker") == 1, "only what its own turn has yet to end with"


def test_a_reply_that_nobody_waits_for_any_longer_is_posted(store) -> None:
    asked = ask(store)
    waiting = store.take_turn("ask it", to="asker")
    with store.write() as tx:
        tasks.expect(tx, [asked.id], waiting.id)
        tasks.expect_no_more(tx, [asked.id], waiting.id)
    store.complete(asked, "not much")
    assert unread(store, "asker") == 2


def test_a_reply_to_a_stopped_agent_goes_nowhere(store) -> None:
    turn = ask(store)
    with store.write() as tx:
        agents.archive(tx, "asker")
    store.complete(turn, "not much")
    assert store.status(turn.id) == "completed"


# The history.


@pytest.mark.line("P21")
def test_entries_are_a_chain_of_parents(store) -> None:
    store.agent()
    turn = store.take_turn()
    say(store, turn, "one")
    say(store, turn, "two")
    found = entries.list_after(store.database, "scout")
    parents = [each["parent_id"] for each in found]
    assert parents == [None, *(each["id"] for each in found[:-1])]


@pytest.mark.line("G71")
def test_a_long_history_is_rebuilt_from_its_newest_part_from_a_message_on(
    store,
) -> None:
    store.agent()
    line = [
        NewEntry(
            type="user_message" if number % 2 == 0 else "assistant_message",
            role=None,
            content=[{"type": "text", "text": str(number)}],
        )
        for number in range(HISTORY_LIMIT + 101)
    ]
    with store.write() as tx:
        entries.append(tx, "scout", 1, None, *line)
    turn = store.take_turn("now")
    assert texts(turn.history)[0] == "102"
    assert texts(turn.history)[-2:] == ["500", "now"]


def test_another_generation_is_not_remembered(store) -> None:
    store.agent()
    store.complete(store.take_turn("old"))
    with store.write() as tx:
        tx.execute("UPDATE agents SET generation = 2 WHERE id = 'scout'")
    assert texts(store.take_turn("new").history) == ["new"]
    old = entries.list_after(store.database, "scout", generation=1)
    assert texts(old) == ["old"]


def test_text_that_a_database_cannot_hold_is_cleaned(store) -> None:
    store.agent()
    turn = store.take_turn("a\0b \ud800 c")
    assert turn.inputs[0]["body"] == "a\N{REPLACEMENT CHARACTER}b ? c"
    store.complete(turn, "x\0y \udfff")
    assert tasks.shape(store.task(turn.id))["result"] == {"text": "x\0y \udfff"}


@pytest.mark.line("P38")
def test_an_agents_state_follows_its_turns_through_a_whole_life(store) -> None:
    store.agent()
    seen = [store.state()]
    id = store.post().turn_id
    seen.append(store.state())
    turn = store.claim_turn(id)
    seen.append(store.state())
    park(store, turn, seconds=60)
    seen.append(store.state())
    with store.write() as tx:
        waking.queue_again(tx, id)
    seen.append(store.state())
    turn = store.claim_turn(id)
    store.complete(turn)
    seen.append(store.state())
    with store.write() as tx:
        agents.archive(tx, "scout")
    seen.append(store.state())
    assert seen == [
        "idle",
        "queued",
        "running",
        "waiting",
        "queued",
        "idle",
        "stopped",
    ]


# What is too much, or cannot be read.


def test_a_pile_of_what_does_not_hurry_is_read_in_parts(store) -> None:
    store.agent("scout")
    body = "x" * (turns.QUIET_CHARACTERS // 4)
    quiet = [store.post(body, priority=Priority.NORMAL).event_id for _ in range(10)]
    taken = []
    while len(taken) < len(quiet):
        turn = store.take_turn("go")
        news = [each["id"] for each in turn.inputs if each["body"] == body]
        assert 0 < len(news) <= 4
        taken += news
        store.complete(turn)
    assert taken == quiet


def test_many_small_things_that_do_not_hurry_are_read_at_once(store) -> None:
    store.agent("scout")
    for number in range(120):
        store.post(f"note {number}", priority=Priority.LOW)
    assert len(store.take_turn("go").inputs) == 121


def test_a_turn_that_cannot_be_claimed_becomes_a_dead_letter_and_no_other_waits(
    store,
) -> None:
    store.agent("scout")
    broken, next_one = (store.post(text).turn_id for text in ("bad", "good"))
    error = {"type": "turn_failed", "message": "MemoryError: "}
    for attempt in range(turns.CLAIMS_LIMIT):
        with store.write() as tx:
            turns.claim_failed(tx, broken, error)
        assert store.task(broken)["crashes"] == attempt + 1
        if attempt == 0:
            turn = store.claim_turn(broken)
            assert turn.id == next_one
            store.complete(turn)
        with store.write() as tx:
            tx.execute("UPDATE tasks SET not_before_at = NULL WHERE id = ?", broken)
    with store.write() as tx:
        turns.claim_failed(tx, broken, error)
    assert store.status(broken) == "failed"
    assert tasks.shape(store.task(broken))["error"]["message"] == "MemoryError: "
    assert store.state() == "idle"
