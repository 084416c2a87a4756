"""What stands around a turn's message: what else happened, and how much time went by.

A frame is plain data, kept in `data.frame` of the entry that it belongs to; `agents`
turns it into the text that a model reads. So a rebuilt conversation has the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from broker import json
from broker.database import Row
from broker.states import Priority
from broker.times import SECOND_US

# G60, G61: how many events a frame shows, and how much of each, in characters.
EVENTS: Final = 24
WAKING_CHARACTERS: Final = 500
QUIET_CHARACTERS: Final = 200
DATA_CHARACTERS: Final = 900
# What somebody says is no news: as much of it as of a tool's result.
MESSAGE_CHARACTERS: Final = 16_000
# Less time than this between two turns is not worth a word.
NOTICED_SECONDS: Final = 60

Frame = dict[str, Any]


def build(
    waking: Row | None, quiet: Sequence[Row], *, last_at: int | None, now: int
) -> Frame:
    """Frame one message (or none: only news) with the news that came with it.

    `last_at` is when the agent last did anything, in microseconds.
    """
    shown, superseded = _chosen(quiet)
    frame: Frame = {
        "source": (waking or {}).get("source") or "",
        "priority": (waking or {}).get("priority") or "normal",
        "events": [_shown(event, times) for event, times in shown],
        "superseded": superseded,
    }
    if waking is not None:
        frame["event_id"] = waking["id"]
        frame["context"] = waking["payload"].get("context") or {}
    if last_at is not None:
        frame |= _time(last_at, now)
    return frame


def _time(last_at: int, now: int) -> Frame:
    passed = (now - last_at) // SECOND_US
    noticed: Frame = {}
    if passed >= NOTICED_SECONDS:
        noticed["time_passed_seconds"] = passed
    if _date(last_at) != _date(now):
        noticed["date"] = _date(now)
    return noticed


def _date(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND_US, UTC).date().isoformat()


def _chosen(quiet: Sequence[Row]) -> tuple[list[tuple[Row, int]], int]:
    """Leave out what asks for nothing (G19); of what a task says over and over, show
    the newest, and how often (G61)."""
    newest: dict[object, tuple[Row, int]] = {}
    superseded = 0
    for event in quiet:
        is_low = event["priority"] == Priority.LOW and event["kind"] != "message"
        if is_low:
            superseded += 1
            continue
        name = _sort_of(event)
        _, times = newest.pop(name, (event, 0))
        newest[name] = (event, times + 1)
    kept = list(newest.values())
    left_out = sum(times for _, times in kept[:-EVENTS])
    return kept[-EVENTS:], superseded + left_out


def _sort_of(event: Row) -> object:
    """News of which only the last counts: what one task put out, over and over."""
    payload = event["payload"]
    if event["kind"] == "task_update" and payload.get("task_id"):
        return (payload["task_id"], payload.get("task_kind"))
    return event["id"]


def _shown(event: Row, times: int) -> Frame:
    limit = WAKING_CHARACTERS if _wakes(event) else QUIET_CHARACTERS
    if event["kind"] == "message":
        limit = MESSAGE_CHARACTERS
    payload = event["payload"]
    data = {
        name: value
        for name, value in payload.items()
        if name not in ("task_id", "task_kind", "request_id", "update_id", "model")
        and value not in ({}, None)
    }
    shown = {
        "stream": event["stream"],
        "priority": event["priority"],
        "kind": event["kind"],
        "task_id": payload.get("task_id"),
        "task_kind": payload.get("task_kind"),
        "source": event["source"],
        "created_at": event["created_at"],
        "count": times if times > 1 else None,
        "body": _cut(event["body"], limit),
        "data": _cut(json.dump(data), DATA_CHARACTERS) if data else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _wakes(event: Row) -> bool:
    return Priority(event["priority"]).wakes


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
