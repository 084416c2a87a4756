"""What is forgotten when it is old, and what stays however old."""

from __future__ import annotations

from typing import Any

import pytest

from broker import events, receipts, retention, tasks, updates
from broker.errors import SettingsError
from broker.events import NewEvent
from broker.receipts import Answer
from broker.retention import CLASSES, DAY_US
from broker.states import Priority, Stream
from broker.times import now_us


@pytest.fixture
def old(house: Any) -> Any:
    """A home in which everything happened a hundred days ago."""
    house.agent()
    turn = house.take_turn("read long ago")
    house.complete(turn)
    house.post("unread however old", priority=Priority.NORMAL)
    for id, verb in (("good", "completed"), ("bad", "failed"), ("open", None)):
        house.create("job", id=id)
        row = house.claim(id)
        with house.write() as tx:
            updates.append(tx, id, "stdout", {"text": "x" * 5000})
            if verb:
                tasks.end(tx, row["id"], verb, error={} if verb == "failed" else None)
    with house.write() as tx:
        for kind in ("message_update", "note"):
            events.append(
                tx, NewEvent(stream=Stream.SIGNALS, scope="global", kind=kind)
            )
        for key in ("a", "b"):
            receipts.begin(tx, key, "hash")
            receipts.finish(tx, key, Answer(status=200, body="", location=None))
        _age(tx, now_us() - 100 * DAY_US)
    return house


def _age(tx: Any, at: int) -> None:
    for table in ("events", "receipts", "updates"):
        tx.execute(f"UPDATE {table} SET created_at = ?", at)
    tx.execute("UPDATE marks SET read_at = ? WHERE read_at IS NOT NULL", at)
    tx.execute("UPDATE tasks SET finished_at = ? WHERE finished_at IS NOT NULL", at)


def counts(found: Any) -> dict[str, int]:
    return {each.name: each.rows for each in found}


def test_the_plan_is_what_is_then_forgotten(old) -> None:
    planned = counts(retention.plan(old.database, {}))
    assert planned == counts(retention.forget(old.database, {}))
    assert planned["deltas"] == 1
    assert planned["output"] >= 2
    assert set(counts(retention.forget(old.database, {})).values()) == {0}


def test_what_is_young_stays(old) -> None:
    with old.write() as tx:
        _age(tx, now_us())
    assert set(counts(retention.forget(old.database, {})).values()) == {0}


def test_every_class_keeps_as_long_as_it_is_told(old) -> None:
    forever = {each.name: 1000.0 for each in CLASSES}
    assert set(counts(retention.forget(old.database, forever)).values()) == {0}


def test_unread_events_open_tasks_and_dead_letters_stay(old) -> None:
    newest = events.newest_id(old.database)
    list(retention.forget(old.database, {}))
    assert [e["body"] for e in old.events() if e["body"]] == ["unread however old"]
    assert events.newest_id(old.database) == newest
    found = old.database.read("SELECT id FROM tasks WHERE type = 'job' ORDER BY id")
    assert found == [{"id": "bad"}, {"id": "open"}]
    entries = old.database.read("SELECT type FROM entries")
    assert entries == [{"type": "user_message"}]


def test_the_file_shrinks(house) -> None:
    house.create("job", id="loud")
    with house.write() as tx:
        for _ in range(2000):
            updates.append(tx, "loud", "stdout", {"text": "x" * 4000})
        for table in ("updates", "events"):
            tx.execute(f"UPDATE {table} SET created_at = 0")
    house.database.truncate_log()
    before = house.database.sizes()["database"]
    list(retention.forget(house.database, {}))
    assert house.database.sizes()["database"] < before / 10


@pytest.mark.parametrize("do", [retention.plan, retention.forget])
def test_an_unknown_class_is_refused_by_name(house, do) -> None:
    with pytest.raises(SettingsError, match="No class 'deltaz'; there are: deltas"):
        list(do(house.database, {"deltaz": 1.0}))
