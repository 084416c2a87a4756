"""The reference says a word about all that the code has, and nothing is stale."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from agents.models import PROVIDERS
from agents.tools import builtin_tools
from broker.errors import BrokerError
from broker.states import AgentState, Priority, StepStatus, Stream, TaskStatus

ROOT: Final = Path(__file__).resolve().parents[3]
PAGES: Final = ROOT / "docs" / "reference"


def _load() -> ModuleType:
    path = ROOT / "scripts" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    importlib.sys.modules["reference"] = module  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
    return module


reference: Final = _load()


def _page(name: str) -> str:
    return (PAGES / name).read_text()


def test_no_generated_page_is_stale() -> None:
    for name, text in reference.build().items():
        assert _page(name) == text, f"docs/reference/{name} is stale: make docs"


def test_a_stale_page_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "TARGET", tmp_path)
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "tools.md").write_text("Something else.\n")
    assert reference.main(["--check"]) == 1
    assert "tools.md is stale" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["settings", "events", "updates", "tasks"])
def test_a_name_without_a_word_fails_the_check(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {**reference.words()}
    removed = next(iter(words[what]))
    words[what] = {name: it for name, it in words[what].items() if name != removed}
    monkeypatch.setattr(reference, "words", lambda: words)
    assert reference.main(["--check"]) == 1
    assert removed in capsys.readouterr().err


@pytest.mark.parametrize("what", ["settings", "events", "updates", "tasks"])
def test_a_word_about_nothing_fails_the_check(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {**reference.words()}
    words[what] = {**words[what], "NO_SUCH_THING": {"text": ""}}
    monkeypatch.setattr(reference, "words", lambda: words)
    assert reference.main(["--check"]) == 1
    assert "NO_SUCH_THING" in capsys.readouterr().err


def test_every_variable_that_the_code_names_is_on_the_settings_page() -> None:
    """A second way to find them: every string that looks like one of ours."""
    page = _page("settings.md")
    providers = {p.url_name for p in PROVIDERS.values()} | {
        p.key_name for p in PROVIDERS.values() if p.key_name
    }
    for name in {*_strings_like(r"ROOST_[A-Z_]+"), *providers}:
        assert f"`{name}`" in page


def test_env_example_has_every_setting() -> None:
    example = (ROOT / ".env.example").read_text()
    there = set(re.findall(r"^#([A-Z_]+)=", example, re.M))
    settings = set(reference.words()["settings"]) - {"NO_COLOR"}
    assert there == settings


def test_every_route_of_the_application_is_on_the_http_page() -> None:
    page = _page("http.md")
    spec = reference.openapi()
    for path, operations in spec["paths"].items():
        for method in operations:
            assert f"| `{method.upper()} {path}` |" in page


def test_every_error_is_on_the_errors_page() -> None:
    page = _page("errors.md")
    slugs = {kind.slug for kind in _subclasses(BrokerError)}
    for _, tree in reference.sources("webapp"):
        for call in reference.calls(tree):
            if ast.unparse(call.func) == "ProblemError":
                slugs |= reference.constants(call.args[:1])
    assert len(slugs) > 8
    for slug in slugs:
        assert f"| `{slug}` |" in page


def test_every_tool_and_argument_is_on_the_tools_page() -> None:
    page = _page("tools.md")
    for tool in builtin_tools():
        section = page.partition(f"## {tool.name}\n")[2].partition("\n## ")[0]
        assert tool.description in section
        assert f"Effect: `{tool.effect}`" in section
        for argument in tool.parameters["properties"]:
            assert f"| `{argument}` |" in section


@pytest.mark.parametrize(
    ("page", "states"),
    [
        ("tasks.md", TaskStatus),
        ("tasks.md", AgentState),
        ("tasks.md", StepStatus),
        ("events.md", Priority),
        ("events.md", Stream),
    ],
)
def test_every_state_priority_and_stream_has_a_line(page: str, states: type) -> None:
    for state in states:  # type: ignore[attr-defined]
        assert f"| `{state}` |" in _page(page)


def _strings_like(pattern: str) -> set[str]:
    return {
        node.value
        for _, tree in reference.sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(pattern, node.value)
    }


def _subclasses(kind: type[BrokerError]) -> Iterator[type[BrokerError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)
