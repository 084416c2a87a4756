"""The input frame: what a model reads around a message (G59-G61)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.frame import render


@pytest.mark.line("G59")
def test_a_message_stands_in_its_frame_with_its_source_and_context() -> None:
    frame = {"source": "web", "priority": "wake", "context": {"chat": 7}}
    assert render(frame, "hello") == (
        '<system_updates source="web" priority="wake">\n'
        "<message>hello</message>\n"
        '<context>{"chat": 7}</context>\n'
        "</system_updates>"
    )


@pytest.mark.line("G60")
def test_time_that_passed_and_a_new_day_are_told() -> None:
    frame = {"priority": "wake", "time_passed_seconds": 61, "date": "2026-11-21"}
    root = ElementTree.fromstring(render(frame, "hello"))
    told = {each.get("kind"): each.text for each in root.iter("system_update")}
    assert told == {"time_passed": "61 s", "date_changed": "2026-11-21"}


@pytest.mark.line("G60", "G19")
def test_events_are_told_with_where_they_come_from() -> None:
    event = {
        "stream": "task_output",
        "priority": "normal",
        "kind": "task_update",
        "task_id": "exec-1",
        "task_kind": "stdout",
        "created_at": "2026-11-21T00:00:00Z",
        "body": "a < b",
        "data": '{"n": 1}',
    }
    root = ElementTree.fromstring(
        render({"priority": "wake", "events": [event], "superseded": 3}, "hello")
    )
    (shown,) = root.iter("event")
    assert shown.get("task_id") == "exec-1"
    assert (shown.text, shown.findtext("data")) == ("a < b", '{"n": 1}')
    (updates,) = root.iter("context_updates")
    assert updates.get("superseded") == "3"


def test_a_message_with_no_news_has_no_updates() -> None:
    assert "context_updates" not in render({"priority": "wake"}, "hello")


@pytest.mark.line("G59")
@given(
    st.text(alphabet=st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]))
)
def test_no_text_breaks_out_of_its_frame(text: str) -> None:
    frame = {"source": text, "priority": "wake", "context": {"x": text}}
    root = ElementTree.fromstring(render(frame, text or "-"))
    assert root.findtext("message") == (text or "-")
    assert root.get("source") == text or not text
