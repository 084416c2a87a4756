"""The store seam: the event log and its cursors, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broker import events, updates
from broker.database import Transaction
from broker.events import EventFilter, NewEvent, Window
from broker.states import Priority, Stream


def an_event(body: str = "", **more: Any) -> NewEvent:
    return NewEvent(
        **{"stream": Stream.EXTERNAL, "scope": "global", "kind": "note", **more},
        body=body,
    )


def append(store: Any, *new: NewEvent) -> list[int]:
    with store.write() as tx:
        return events.append(tx, *new)


def bodies(found: list[dict[str, Any]]) -> list[str]:
    return [event["body"] for event in found]


@pytest.mark.line("G11")
def test_an_event_is_read_back_as_it_was_written(store) -> None:
    cause = append(store, an_event())[0]
    id = append(
        store,
        an_event(
            "hello",
            subject="r-1",
            payload={"a": [1]},
            priority=Priority.WAKE,
            source="person",
            cause_id=cause,
            hop=2,
        ),
    )[0]
    found = events.find(store.database, id)
    assert found is not None
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "id": id,
        "stream": "external",
        "scope": "global",
        "subject": "r-1",
        "kind": "note",
        "priority": "wake",
        "body": "hello",
        "payload": {"a": [1]},
        "source": "person",
        "cause_id": cause,
        "hop": 2,
    }
    assert events.find(store.database, id + 1) is None


def test_a_key_appends_once(store) -> None:
    first = append(store, an_event("one", key="k"), an_event("two"))
    again = append(store, an_event("three", key="k"))
    assert again == first[:1]
    assert bodies(store.events()) == ["one", "two"]


def test_events_are_listed_after_a_cursor_and_before_one(store) -> None:
    ids = append(store, *(an_event(str(n)) for n in range(5)))
    everything = EventFilter()
    after = events.list_after(store.database, everything, after=ids[1], limit=2)
    window = Window(before=ids[3], newest_first=True, limit=2)
    before = events.list_page(store.database, everything, window)
    window = Window(after=ids[3], newest_first=True)
    newest = events.list_page(store.database, everything, window)
    assert (bodies(after), bodies(before), bodies(newest)) == (
        ["2", "3"],
        ["2", "1"],
        ["4"],
    )
    assert events.newest_id(store.database) == ids[-1]


def test_an_empty_log_has_no_newest(store) -> None:
    assert events.newest_id(store.database) == 0


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"stream": "errors"}, ["b"]),
        ({"scope": "agent/x"}, ["b", "c"]),
        ({"subject": "s"}, ["a", "c"]),
        ({"scope": "agent/x", "subject": "s"}, ["c"]),
        ({"stream": "history"}, []),
    ],
)
def test_a_filter_keeps_what_it_names(store, wanted, expected) -> None:
    append(
        store,
        an_event("a", subject="s"),
        an_event("b", stream=Stream.ERRORS, scope="agent/x"),
        an_event("c", scope="agent/x", subject="s"),
    )
    assert bodies(store.events(**wanted)) == expected


def test_what_is_rolled_back_was_never_there(store) -> None:
    def append_and_break(tx: Transaction) -> None:
        events.append(tx, an_event("gone"))
        raise KeyError

    with pytest.raises(KeyError), store.write() as tx:
        append_and_break(tx)
    append(store, an_event("there"))
    assert bodies(store.events()) == ["there"]


def test_an_append_rings_the_watchers_after_the_commit(store) -> None:
    bell = store.broker.bells.listen(events.CHANNEL)
    bell.wait(0, 0.5)  # PostgreSQL rings once when it begins to listen
    seen = bell.generation
    append(store, an_event())
    assert bell.wait(seen, 5)


def test_each_reader_has_marks_of_its_own(store) -> None:
    id = append(store, an_event())[0]
    with store.write() as tx:
        for reader in ("a", "b", "a"):
            events.mark(tx, reader, id, Priority.LOW)
        tx.execute("UPDATE marks SET read_at = 1 WHERE reader = 'a'")
    counted = [
        events.unread_count(store.database, reader, up_to=10)
        for reader in ("a", "b", "c")
    ]
    assert counted == [0, 1, 0]


def test_a_count_of_unread_events_goes_no_further_than_asked(store) -> None:
    with store.write() as tx:
        for number in range(5):
            events.mark(tx, "a", number, Priority.LOW)
        assert events.unread_count(tx, "a", up_to=3) == 3


# The order of commits.


def test_a_reader_never_skips_an_event_whose_transaction_took_long(
    store, wait_until
) -> None:
    appended, may_commit = threading.Event(), threading.Event()

    def append_slowly() -> None:
        with store.write() as tx:
            events.append(tx, an_event("slow"))
            appended.set()
            assert may_commit.wait(10)

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(append_slowly)
        assert appended.wait(10)
        quick = pool.submit(append, store, an_event("quick"))
        # The second cannot overtake the first: while that is open, nothing is seen.
        with pytest.raises(TimeoutError):
            quick.result(0.2)
        assert store.events() == []
        may_commit.set()
        slow.result(10)
        quick.result(10)
    assert bodies(store.events()) == ["slow", "quick"]


def test_a_reader_that_polls_by_cursor_sees_every_event_in_order(store) -> None:
    writers, each = 4, 40
    ready, done = threading.Barrier(writers + 1), threading.Event()

    def write(number: int) -> None:
        ready.wait()
        for count in range(each):
            append(store, an_event(f"{number}-{count}"), an_event("more"))

    def read() -> list[int]:
        ready.wait()
        seen: list[int] = []
        while True:
            is_last = done.is_set()
            seen += [e["id"] for e in store.events(after=seen[-1] if seen else 0)]
            if is_last:
                return seen

    with ThreadPoolExecutor(writers + 1) as pool:
        reader = pool.submit(read)
        for writer in [pool.submit(write, number) for number in range(writers)]:
            writer.result(30)
        done.set()
        seen = reader.result(30)
    assert seen == [event["id"] for event in store.events()]
    assert len(seen) == writers * each * 2


# The update log.


def test_updates_are_listed_by_cursor_and_kind(store) -> None:
    with store.write() as tx:
        ids = [
            updates.append(tx, task, kind, {"n": number}).id
            for number, (task, kind) in enumerate(
                [("t", "stdout"), ("u", "stdout"), ("t", "stderr"), ("t", "stdout")]
            )
        ]
    everything = updates.list_after(store.database, "t")
    rest = updates.list_after(store.database, "t", after=ids[0])
    printed = updates.list_after(store.database, "t", kind="stdout", limit=5)
    assert [[u["payload"]["n"] for u in found] for found in (everything, rest)] == [
        [0, 2, 3],
        [2, 3],
    ]
    assert [u["payload"]["n"] for u in printed] == [0, 3]
