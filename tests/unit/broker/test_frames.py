"""What of the news goes into a frame, and how much of each (G59 to G63)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from broker.frames import build
from broker.times import SECOND_US

NOON_US = 1_795_262_400 * SECOND_US  # 2026-11-21T12:00:00Z
HALF_A_DAY_US = 12 * 3600 * SECOND_US
IDS = itertools.count(1)


def event(body: str = "x", **more: Any) -> dict[str, Any]:
    return {
        "id": next(IDS),
        "stream": "external",
        "kind": "note",
        "priority": "normal",
        "source": None,
        "payload": {},
        "created_at": "2026-11-21T12:00:00Z",
        "body": body,
        **more,
    }


def update(body: str, kind: str = "stdout", task: str = "exec-1") -> dict[str, Any]:
    payload = {"task_id": task, "task_kind": kind, "task_type": "exec", "update_id": 7}
    return event(body, kind="task_update", stream="task_output", payload=payload)


def shown(*quiet: dict[str, Any]) -> list[dict[str, Any]]:
    built: list[dict[str, Any]] = frame(*quiet)["events"]
    return built


def frame(*quiet: dict[str, Any], waking: Any = None, last_at: Any = None) -> Any:
    return build(waking, quiet, last_at=last_at, now=NOON_US)


@pytest.mark.line("G59")
def test_a_frame_has_the_source_the_priority_and_the_context_of_its_message() -> None:
    said = {
        "id": 7,
        "source": "web",
        "priority": "interrupt",
        "payload": {"context": {"chat": 7}},
    }
    assert frame(waking=said) == {
        "source": "web",
        "priority": "interrupt",
        "event_id": 7,
        "context": {"chat": 7},
        "events": [],
        "superseded": 0,
    }


@pytest.mark.line("G60")
@pytest.mark.parametrize(
    ("ago_us", "noticed"),
    [
        (59_999_999, {}),
        (60 * SECOND_US, {"time_passed_seconds": 60}),
        (HALF_A_DAY_US, {"time_passed_seconds": 43_200}),
        (
            HALF_A_DAY_US + 1,
            {"time_passed_seconds": 43_200, "date": "2026-11-21"},
        ),
    ],
)
def test_time_is_noticed_from_a_minute_on_and_a_new_day_always(ago_us, noticed) -> None:
    built = frame(last_at=NOON_US - ago_us)
    told = {k: v for k, v in built.items() if k in ("time_passed_seconds", "date")}
    assert told == noticed


@pytest.mark.line("G60")
def test_a_first_turn_has_no_time_that_passed() -> None:
    assert frame().keys() == {"source", "priority", "events", "superseded"}


@pytest.mark.line("G60")
def test_the_newest_24_events_are_shown_and_the_others_counted() -> None:
    built = frame(*(event(str(number)) for number in range(30)))
    assert [each["body"] for each in built["events"]] == [str(n) for n in range(6, 30)]
    assert built["superseded"] == 6


@pytest.mark.line("G60")
def test_an_event_is_shown_with_where_it_comes_from() -> None:
    assert shown(update("out")) == [
        {
            "stream": "task_output",
            "priority": "normal",
            "kind": "task_update",
            "task_id": "exec-1",
            "task_kind": "stdout",
            "created_at": "2026-11-21T12:00:00Z",
            "body": "out",
            "data": '{"task_type":"exec"}',
        }
    ]


@pytest.mark.line("G61")
@pytest.mark.parametrize(
    ("priority", "limit"),
    [("interrupt", 500), ("wake", 500), ("normal", 200)],
)
def test_a_body_is_cut_by_its_priority(priority: str, limit: int) -> None:
    whole, cut = shown(
        event("x" * limit, priority=priority), event("x" * 501, priority=priority)
    )
    assert whole["body"] == "x" * limit
    assert cut["body"] == "x" * limit + "…"


@pytest.mark.line("G61")
def test_data_is_cut_at_900_characters() -> None:
    whole = '{"a":"' + "x" * 892 + '"}'
    assert len(whole) == 900
    first, second = shown(
        event(payload={"a": "x" * 892}), event(payload={"a": "x" * 893})
    )
    assert first["data"] == whole
    assert second["data"] == whole[:-2] + "x" + '"…'


@pytest.mark.line("G61")
def test_what_a_task_says_over_and_over_is_one_element_with_its_count() -> None:
    found = shown(
        update("a"),
        update("b"),
        update("c", "stderr"),
        update("d"),
        update("e", task="2"),
    )
    assert [(each["body"], each.get("count")) for each in found] == [
        ("c", None),
        ("d", 3),
        ("e", None),
    ]


@pytest.mark.line("G19", "G63")
def test_low_news_is_counted_and_low_messages_are_shown() -> None:
    built = frame(
        event("a", priority="low"),
        event("b", priority="low", stream="signals", kind="debug"),
        event("c", priority="low", kind="message"),
    )
    assert [each["body"] for each in built["events"]] == ["c"]
    assert built["superseded"] == 2
