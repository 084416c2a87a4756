"""The event bus, line by line (G7 to G22), on SQLite and on PostgreSQL.

The marks in the names are those of the list of behaviours that we keep.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker import agents, entries, events, inbox, readers, recovery, tasks, turns
from broker.database import Row
from broker.errors import Conflict, NotFound
from broker.events import EventFilter, NewEvent, Window
from broker.states import Priority, Stream
from broker.times import SECOND_US, now_us
from broker.turns import Park
from webapp.app import create_app

ERROR = {"type": "http_500", "message": "The provider is ill."}


def push(store: Any, body: str, scope: str = "global", **more: Any) -> int:
    new = {"stream": Stream.EXTERNAL, "kind": "note", **more}
    with store.write() as tx:
        return events.append(tx, NewEvent(scope=scope, body=body, **new))[0]


def read(
    store: Any, name: str, *, unread: bool | None = None, **more: Any
) -> list[Row]:
    reader = readers.get(store.database, name)
    wanted = EventFilter(**{k: more.pop(k) for k in ("stream", "scope") if k in more})
    return readers.list_page(
        store.database, reader, wanted, Window(**more), unread=unread
    )


def ack(store: Any, name: str, event_id: int) -> Row:
    with store.write() as tx:
        return readers.ack(tx, readers.get(tx, name), event_id)


def bodies(found: list[Row]) -> list[str]:
    return [event["body"] for event in found]


def unread(store: Any, agent_id: str = "scout") -> int:
    return int(agents.get(store.database, agent_id)["unread"])


def in_line(store: Any) -> list[str]:
    """Take every turn in the order of the line; return what each was about."""
    taken: list[str] = []
    while waiting := tasks.list_page(store.database, type="turn", status="queued"):
        turn = store.claim_turn(waiting[0]["id"])
        taken.append(turn.inputs[0]["body"])
        store.complete(turn)
    return taken


class Http:
    """The API on the store."""

    def __init__(self, store: Any) -> None:
        app = create_app(store.broker.settings, store.broker)
        self.live = app.extensions["roost"].live
        self._client = app.test_client()
        token = app.config["ROOST_TOKEN"]
        self._headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self._client.open(
            f"/api/v1{path}", method=method, json=body, headers=self._headers
        )
        return answer.status_code, answer.get_json()


@pytest.fixture
def http(store: Any) -> Any:
    """The API on each store."""
    http = Http(store)
    yield http
    http.live.stop()


@pytest.mark.line("G7")
def test_G7_an_agent_is_told_what_comes_on_any_stream_but_history(store, http) -> None:
    store.agent()
    pushed = {"scope": "agent/scout", "priority": "normal"}
    for stream in Stream:
        status, _ = http("POST", "/events", {**pushed, "stream": stream, "body": "x"})
        assert status == 201
    told = {event["stream"] for event in read(store, "scout", unread=True)}
    assert told == {*Stream} - {Stream.HISTORY}


@pytest.mark.line("G8")
def test_G8_task_input_is_listed_oldest_first_and_all_else_newest_first(
    store, http
) -> None:
    store.agent()
    for stream in Stream:
        for body in ("a", "b"):
            push(store, body, stream=stream)
    for stream in Stream:
        _, default = http("GET", f"/events?stream={stream}")
        _, turned = http("GET", f"/events?stream={stream}&order=desc&reader=me")
        expected = ["a", "b"] if stream == Stream.TASK_INPUT else ["b", "a"]
        assert bodies(default["items"]) == expected
        assert bodies(turned["items"]) == ["b", "a"]


@pytest.mark.line("G9")
@pytest.mark.parametrize("missing", ["stream", "body"])
def test_G9_a_push_without_stream_or_body_names_the_field(http, missing) -> None:
    body = {"stream": "external", "body": "x"}
    del body[missing]
    status, problem = http("POST", "/events", body)
    assert (status, [each["field"] for each in problem["errors"]]) == (400, [missing])


@pytest.mark.line("G10")
def test_G10_a_reader_sees_what_is_global_and_its_own(store) -> None:
    store.agent()
    store.agent("owl")
    store.create(id="job")
    for scope in ("global", "agent/scout", "agent/owl", "task/job"):
        push(store, scope, scope)
    seen = {
        name: bodies([e for e in read(store, name) if e["kind"] == "note"])
        for name in ("scout", "agent/owl", "job", "task/job", "person")
    }
    assert seen == {
        "scout": ["global", "agent/scout"],
        "agent/owl": ["global", "agent/owl"],
        "job": ["global", "task/job"],
        "task/job": ["global", "task/job"],
        "person": ["global"],
    }
    assert read(store, "scout", scope="agent/owl") == []
    with pytest.raises(NotFound):
        readers.get(store.database, "agent/ghost")


@pytest.mark.line("G11")
def test_G11_an_event_in_a_readers_list_is_whole_and_says_whether_it_was_read(
    store,
) -> None:
    id = push(store, "x", source="person", priority=Priority.LOW)
    (event,) = read(store, "me")
    assert event == {**events.find(store.database, id), "read": False}


@pytest.mark.line("G12")
def test_G12_read_state_is_per_reader(store) -> None:
    first, second = push(store, "a"), push(store, "b")
    for _ in range(2):
        assert ack(store, "me", first)["read"] is True
    assert [event["read"] for event in read(store, "me")] == [True, False]
    assert [event["read"] for event in read(store, "you")] == [False, False]
    assert [event["id"] for event in read(store, "me", unread=True)] == [second]
    assert [event["id"] for event in read(store, "me", unread=False)] == [first]
    with pytest.raises(NotFound):
        ack(store, "me", second + 1)


@pytest.mark.line("G12", "G10")
def test_G12_what_a_reader_does_not_see_it_cannot_ack(store) -> None:
    store.agent()
    id = store.post("for scout").event_id
    with pytest.raises(NotFound):
        ack(store, "me", id)
    assert ack(store, "scout", id)["read"] is True
    assert unread(store) == 0


def test_G12_the_pages_of_a_reader_lose_and_repeat_nothing(store) -> None:
    store.agent()
    for number in range(9):
        push(store, str(number), "global" if number % 2 else "agent/scout")
    seen: list[Row] = []
    while page := read(store, "scout", after=seen[-1]["id"] if seen else 0, limit=2):
        seen += page
    assert bodies(seen) == list("012345678")
    newest = read(store, "scout", newest_first=True, before=seen[-1]["id"], limit=3)
    assert bodies(newest) == ["7", "6", "5"]


@pytest.mark.line("G12", "G63")
def test_G12_what_an_agent_puts_out_itself_is_not_unread(store) -> None:
    store.agent()
    store.complete(store.take_turn("hello"))
    store.post("by the way", priority=Priority.NORMAL)
    push(store, "to all")
    assert bodies(read(store, "scout", unread=True)) == ["by the way", "to all"]
    assert unread(store) == 1


@pytest.mark.line("G13")
def test_G13_an_event_is_born_read_by_its_source(store, http) -> None:
    store.agent()
    pushed = {"stream": "external", "body": "x", "priority": "wake"}
    for source in ("agent/scout", "person"):
        http("POST", "/events", {**pushed, "source": source})
    own = {**pushed, "source": "agent/scout", "scope": "agent/scout"}
    http("POST", "/events", own)
    sources = [event["source"] for event in read(store, "scout", unread=True)]
    assert sources == ["person"]
    assert [e["source"] for e in read(store, "person", unread=True)] == ["agent/scout"]
    assert (store.state(), store.hints) == ("idle", [])


@pytest.mark.line("G14")
def test_G14_a_reader_by_cursor_gets_whatever_was_pushed(store) -> None:
    after = events.newest_id(store.database)
    for number in range(events.PAGE + 64):  # more than any buffer of the seeds held
        push(store, str(number))
    assert len(store.events(after=after)) == events.PAGE + 64


@pytest.mark.line("G15")
def test_G15_priorities_have_an_order_and_no_case(store, http) -> None:
    assert [p.rank for p in Priority] == [0, 1, 2, 3]
    pushed = {"stream": "external", "body": "x"}
    for given in ("interrupt", "Wake", "NORMAL", "lOw"):
        _, event = http("POST", "/events", {**pushed, "priority": given})
        assert event["priority"] == given.lower()
    assert http("POST", "/events", pushed)[1]["priority"] == "normal"
    status, problem = http("POST", "/events", {**pushed, "priority": "soon"})
    assert status == 400
    assert all(repr(str(each)) in problem["detail"] for each in Priority)


@pytest.mark.line("G16")
def test_G16_an_interrupt_stops_the_turn_that_runs_and_has_the_next(store) -> None:
    store.agent()
    turn = store.take_turn("long")
    store.post("later")
    urgent = store.post("now", priority=Priority.INTERRUPT)
    assert store.task(turn.id)["stop_verb"] == "interrupt"
    store.complete(turn)
    following = store.claim_turn(turn.id) or store.claim_turn(urgent.turn_id)
    assert (following.id, following.inputs[0]["body"]) == (urgent.turn_id, "now")


@pytest.mark.line("G17")
@pytest.mark.parametrize("priority", [Priority.INTERRUPT, Priority.WAKE])
def test_G17_what_wakes_ends_a_wait_and_starts_a_turn(store, priority) -> None:
    store.agent()
    assert store.post("one", priority=priority).turn_id == "turn-1"
    turn = store.claim_turn("turn-1")
    store.create(id="job")
    far = now_us() + 600 * SECOND_US
    wait = Park(step=1, target_ids=("job",), deadline_at=far, why={})
    with store.write() as tx:
        assert turns.park(tx, turn, [wait], heeds=True)
    store.post("two", priority=priority)
    if priority is Priority.INTERRUPT:
        assert store.status("turn-1") == "queued"
    else:  # after its grace
        assert recovery.next_due_at(store.database) <= now_us() + SECOND_US


@pytest.mark.line("G18")
@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_G18_what_does_not_hurry_is_shown_in_the_next_turn(store, priority) -> None:
    store.agent()
    assert store.post("by the way", priority=priority).turn_id is None
    assert (store.state(), store.hints) == ("idle", [])
    turn = store.take_turn("hello")
    assert bodies(turn.inputs) == ["hello", "by the way"]


@pytest.mark.line("G19")
def test_G19_low_news_is_only_counted(store) -> None:
    store.agent()
    for text in ("a", "b"):
        store.post(text, priority=Priority.LOW, kind="note")
    store.post("c", priority=Priority.LOW)
    store.post("d", priority=Priority.NORMAL, kind="note")
    turn = store.take_turn("hello")
    (entry,) = entries.list_after(store.database, "scout")
    frame = entry["data"]["frame"]
    assert (frame["superseded"], bodies(frame["events"])) == (2, ["d", "c"])
    store.complete(turn)
    assert unread(store) == 0


@pytest.mark.line("G20", "G15")
def test_G20_a_message_goes_before_news_of_the_same_priority(store) -> None:
    store.agent()
    for text, priority, kind in [
        ("news", Priority.WAKE, "task_update"),
        ("message", Priority.WAKE, "message"),
        ("urgent news", Priority.INTERRUPT, "task_update"),
        ("urgent", Priority.INTERRUPT, "message"),
    ]:
        store.post(text, priority=priority, kind=kind)
    assert in_line(store) == ["urgent", "urgent news", "message", "news"]


@pytest.mark.line("G21")
def test_G21_unread_wakes_are_replayed_by_rank_and_age_one_for_each_turn(store) -> None:
    store.agent()
    turn = store.take_turn("long")
    store.post("one")
    store.post("two")
    store.post("now", priority=Priority.INTERRUPT)
    store.hints.clear()
    with store.write() as tx:
        # Every hint was lost, and the worker with them.
        tx.execute("UPDATE tasks SET hinted_at = NULL")
        recovery.expire(tx, owner="worker-1")
        recovery.offer_again(tx, "turn", queue_is_empty=True)
    assert turn.id in store.hints
    assert in_line(store) == ["long", "now", "one", "two"]
    assert (unread(store), store.state()) == (0, "idle")


@pytest.mark.line("G22")
def test_G22_a_message_whose_turn_failed_stays_unread(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    with store.write() as tx:
        assert not turns.fail(tx, turn, ERROR, retriable=False)
    assert bodies(read(store, "scout", unread=True)) == ["hello"]
    with store.write() as tx:
        tasks.retry(tx, turn.id)
    store.complete(store.claim_turn(turn.id))
    assert read(store, "scout", unread=True) == []


# The inbox.


def edit(store: Any, event_id: int, text: str) -> Row:
    with store.write() as tx:
        return inbox.edit(tx, "scout", event_id, text)


def withdraw(store: Any, event_id: int) -> Row:
    with store.write() as tx:
        return inbox.withdraw(tx, "scout", event_id)


def waiting(store: Any, **more: Any) -> list[Row]:
    return inbox.list_page(store.database, "scout", **more)


def test_an_inbox_has_what_is_unread_most_urgent_first(store) -> None:
    store.agent()
    turn = store.take_turn("being read")
    for text, priority, kind in [
        ("low", Priority.LOW, "message"),
        ("news", Priority.WAKE, "task_update"),
        ("normal", Priority.NORMAL, "message"),
        ("wake", Priority.WAKE, "message"),
        ("now", Priority.INTERRUPT, "message"),
    ]:
        store.post(text, priority=priority, kind=kind)
    found = waiting(store)
    expected = ["now", "being read", "wake", "news", "normal", "low"]
    assert [each["text"] for each in found] == expected
    assert (found[1]["turn_id"], found[1]["turn_status"]) == (turn.id, "running")
    assert (found[-1]["turn_id"], found[-1]["turn_status"]) == (None, None)
    pages: list[Row] = []
    after = None
    while page := waiting(store, after=after, limit=2):
        pages += page
        after = page[-1]["id"]
    assert pages == found
    store.complete(turn)
    assert [e["text"] for e in waiting(store, after=turn.cause_id)] == expected[2:]


@pytest.mark.parametrize("priority", [Priority.WAKE, Priority.NORMAL])
def test_an_edited_message_is_read_as_edited_and_stays_as_it_was_sent(
    store, priority
) -> None:
    store.agent()
    id = store.post("tpyo", priority=priority).event_id
    changed = edit(store, id, "typo")
    assert (changed["text"], changed["body"]) == ("typo", "tpyo")
    assert [each["text"] for each in waiting(store)] == ["typo"]
    if priority is Priority.NORMAL:
        store.post("hello")
    turn = store.claim_turn("turn-1")
    assert "typo" in bodies(turn.inputs)
    assert events.find(store.database, id)["body"] == "tpyo"
    with pytest.raises(Conflict, match=r"is being read by turn-1, which is running\."):
        edit(store, id, "again")
    store.complete(turn)
    with pytest.raises(Conflict, match="has been read"):
        edit(store, id, "again")


def test_a_withdrawn_message_is_never_read_and_its_turn_cancelled(store) -> None:
    store.agent()
    waking = store.post("hello")
    quiet = store.post("by the way", priority=Priority.NORMAL)
    assert withdraw(store, waking.event_id)["turn_status"] == "cancelled"
    assert withdraw(store, quiet.event_id)["read"] is True
    assert json.loads(store.task(waking.turn_id)["error"])["message"] == (
        "The message was withdrawn."
    )
    assert (waiting(store), unread(store), store.state()) == ([], 0, "idle")
    assert bodies(store.take_turn("anew").inputs) == ["anew"]
    with pytest.raises(Conflict, match="or was withdrawn"):
        withdraw(store, waking.event_id)


def test_what_is_or_was_being_read_cannot_be_withdrawn(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    with pytest.raises(Conflict, match="is being read"):
        withdraw(store, turn.cause_id)
    with store.write() as tx:
        turns.fail(tx, turn, ERROR, retriable=False)
    with pytest.raises(Conflict, match="Retry or drop"):
        withdraw(store, turn.cause_id)
    for agent_id, event_id in (("scout", 99), ("ghost", turn.cause_id)):
        with pytest.raises(NotFound), store.write() as tx:
            inbox.withdraw(tx, agent_id, event_id)


# Where things come from (N13, N14).


def test_an_event_is_as_far_from_its_root_as_its_cause(store) -> None:
    root = push(store, "root")
    far = push(store, "far", cause_id=root, hop=3)
    for hop, cause_id in [(3, far), (0, root), (0, None), (0, far + 99)]:
        id = push(store, "x", cause_id=cause_id)
        assert events.find(store.database, id)["hop"] == hop


def test_everything_that_a_turn_does_names_its_message(store) -> None:
    store.agent()
    turn = store.take_turn("hello")
    root = turn.cause_id
    store.create(id="job", agent_id="scout", parent_id=turn.id)
    later = store.post("more").event_id
    with store.write() as tx:
        turns.emit_fenced(tx, turn, [("message_update", {})])
        tasks.kill(tx, "job", None)
    store.complete(turn)
    store.complete(store.claim_turn("turn-2"))
    for event in store.events():
        if event["id"] not in (root, later):
            cause = later if "turn-2" in str(event["payload"]) else root
            assert event["cause_id"] == cause, event
