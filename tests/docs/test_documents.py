"""The README and the tutorial, run as they are written, on real processes."""

from __future__ import annotations

import json
import tomllib
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs import blocks
from tests.docs.conftest import ROOT, Running

DOCUMENTS: Final = ("README.md", "docs/tutorial/first-agent.md")
Start = Callable[[str], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a document's commands printed, and what was in the log afterwards."""

    document: str
    printed: list[tuple[blocks.Command, str, int]]
    events: list[dict[str, Any]]
    updates: list[dict[str, Any]]


@pytest.fixture(scope="module", params=DOCUMENTS)
def session(request: pytest.FixtureRequest, start_roost: Start) -> Session:
    """A document, run in a Roost of its own."""
    written = blocks.commands(ROOT / request.param)
    with start_roost(Path(request.param).stem.lower()) as roost:
        return Session(
            document=request.param,
            printed=list(blocks.run(written, roost.environ, roost.directory)),
            events=_items(roost, "events?limit=1000"),
            updates=[
                update
                for task in _items(roost, "tasks?limit=1000")
                for update in _items(roost, f"tasks/{task['id']}/updates?limit=1000")
            ],
        )


def test_every_command_does_what_its_document_shows(session: Session) -> None:
    assert len(session.printed) == len(blocks.commands(ROOT / session.document)) > 5
    for command, output, status in session.printed:
        assert (output, status) == (command.expected, 0), command.text


def test_every_event_carries_the_fields_that_the_reference_promises(
    session: Session,
) -> None:
    said = _words()["events"]
    for event in session.events:
        assert event["stream"] == said[event["kind"]]["stream"]
        _assert_fields(event, said[event["kind"]]["payload"])


def test_every_update_carries_the_fields_that_the_reference_promises(
    session: Session,
) -> None:
    said = _words()["updates"]
    for update in session.updates:
        _assert_fields(update, said[update["kind"]]["payload"])


def _assert_fields(record: dict[str, Any], promised: list[str]) -> None:
    there = set(record["payload"])
    always = {name for name in promised if not name.endswith("?")}
    assert always <= there <= {name.removesuffix("?") for name in promised}, record


def _items(roost: Running, path: str) -> list[dict[str, Any]]:
    token = (roost.home / "token").read_text().strip()
    request = urllib.request.Request(
        f"{roost.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
    return items


def _words() -> dict[str, Any]:
    return tomllib.loads((ROOT / "scripts" / "reference.toml").read_text())
