"""Hooks that a distribution brings: docs/how-to/hooks.md as it stands, and what is
wrong with others."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agents.hooks import Hooks
from agents.messages import UserMessage
from agents.models.base import Request
from agents.models.scripted import ScriptedModel
from broker import entries
from workers.hooks import GROUP, installed_hooks

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "hooks.md"


def block(mark: str, language: str) -> str:
    pattern = rf"<!-- {mark} -->\n```{language}\n(.*?)^```$"
    found = re.search(pattern, PAGE.read_text(), re.S | re.M)
    assert found
    return found[1]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a module and its distribution's metadata onto the path, as pip does."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name: str, module: str, points: dict[str, str]) -> None:
        (site / f"{name}.py").write_text(module)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        lines = [f"{entry} = {value}" for entry, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))

    return put


@pytest.fixture
def documented(install: Any) -> Hooks:
    project = tomllib.loads(block("project", "toml"))["project"]
    install("house_rules", block("hooks", "python"), project["entry-points"][GROUP])
    return installed_hooks()


def results(house: Any) -> list[tuple[str, str]]:
    return [
        (entry["status"], entry["content"][0]["text"])
        for entry in entries.list_after(house.database, "scout")
        if entry["type"] == "tool_result"
    ]


@pytest.mark.line("P8", "P32", "P35")
def test_the_documented_hooks_do_what_the_page_says(
    house, workshop, documented
) -> None:
    asked: list[Request] = []

    class Asked(ScriptedModel):
        def stream(self, request: Request, *more: Any) -> Any:
            asked.append(request)
            return super().stream(request, *more)

    kill = {"name": "kill_task", "arguments": {"task_id": "exec-1"}}
    taker = workshop.taker(Asked([{"tool_calls": [kill]}, {"text": "ok"}]))
    taker.hooks = documented
    house.post("Pay with 4111 1111 1111 1111")
    workshop.work(taker)
    (shown, *_) = asked[1].messages
    assert isinstance(shown, UserMessage)
    assert shown.text == "Pay with [card]"
    assert "4111" not in json.dumps(shown.for_model)
    assert results(house) == [("failed", "Ask a person to stop it.")]
    (said, *_) = entries.list_after(house.database, "scout")
    assert said["content"][0]["text"] == "Pay with 4111 1111 1111 1111"


def test_hooks_chain_in_the_order_of_their_names(install) -> None:
    module = (
        "from agents.hooks import Hooks\n"
        "def a(messages): return messages\n"
        "def b(messages): return messages\n"
        "first = Hooks(transform_context=(a,))\n"
        "second = Hooks(transform_context=(b,))\n"
    )
    install("chained", module, {"2": "chained:second", "1": "chained:first"})
    names = [hook.__name__ for hook in installed_hooks().transform_context]
    assert names == ["a", "b"]


@pytest.mark.parametrize(
    ("module", "value"),
    [
        ("raise RuntimeError('not today')", "wrong:hooks"),
        ("", "wrong:hooks"),
        ("hooks = 4", "wrong:hooks"),
        ("", "nowhere:hooks"),
    ],
)
def test_what_cannot_be_loaded_is_reported_and_left_out(
    install, documented, capsys, monkeypatch, module: str, value: str
) -> None:
    install("wrong", module, {"wrong": value})
    monkeypatch.delitem(sys.modules, "wrong", raising=False)
    assert installed_hooks() == documented
    said = capsys.readouterr().out
    assert f"value={value}" in said


def test_a_context_hook_that_throws_fails_the_turn_at_once_and_is_named(
    house, workshop, scripted
) -> None:
    def redact(messages: Any) -> Any:
        raise KeyError("nothing there")

    model = scripted({"text": "never said"})
    taker = workshop.taker(model)
    taker.hooks = Hooks(transform_context=(redact,))
    id = house.post("hello").turn_id
    workshop.work(taker)
    error = json.loads(house.task(id)["error"])
    assert (house.status(id), error["type"], model.asked) == (
        "failed",
        "hook_failed",
        0,
    )
    assert "redact failed: KeyError" in error["message"]
    assert "message_start" not in house.kinds(), "the model was not asked"
