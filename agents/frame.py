"""The input frame: what a model reads of a message, with all that came around it.

XML, because models tell its parts apart reliably; every text is escaped. The same frame
gives the same bytes, so a rebuilt conversation still fits a provider's cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

Frame = Mapping[str, Any]

_EVENT_NAMES: Final = (
    "stream",
    "priority",
    "kind",
    "task_id",
    "task_kind",
    "source",
    "created_at",
    "count",
)


def render(frame: Frame, text: str) -> str:
    """Return the frame as text, around the message `text` ('' for news alone)."""
    parts = []
    if text:
        parts.append(f"<message>{escape(text)}</message>")
    if frame.get("context"):
        shown = json.dumps(frame["context"], ensure_ascii=False, sort_keys=True)
        parts.append(f"<context>{escape(shown)}</context>")
    if updates := _updates(frame):
        parts.append(updates)
    attributes = _attributes(
        {"source": frame.get("source") or None, "priority": frame.get("priority")}
    )
    body = "\n".join(parts)
    return f"<system_updates{attributes}>\n{body}\n</system_updates>"


def _updates(frame: Frame) -> str:
    lines = []
    if seconds := frame.get("time_passed_seconds"):
        lines.append(f'<system_update kind="time_passed">{seconds} s</system_update>')
    if date := frame.get("date"):
        lines.append(f'<system_update kind="date_changed">{date}</system_update>')
    lines += [_event(each) for each in frame.get("events", ())]
    superseded = frame.get("superseded", 0)
    if not lines and not superseded:
        return ""
    attributes = _attributes({"superseded": superseded or None})
    return "\n".join([f"<context_updates{attributes}>", *lines, "</context_updates>"])


def _event(event: Frame) -> str:
    attributes = _attributes({name: event.get(name) for name in _EVENT_NAMES})
    data = f"<data>{escape(event['data'])}</data>" if event.get("data") else ""
    return f"<event{attributes}>{escape(event.get('body', ''))}{data}</event>"


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(
        f" {name}={quoteattr(str(value))}"
        for name, value in values.items()
        if value is not None
    )
