"""What the doctor is told about models, with and without a network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.settings import load
from tests.contract.wires.server import Exchange, FakeServer
from workers import checkup


@pytest.fixture(autouse=True)
def no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have one."""
    monkeypatch.setattr(checkup, "OLLAMA_PORT", 9)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def checks(*, online: bool = False, **environ: str) -> dict[str, tuple[str, ...]]:
        settings = load({"ROOST_HOME": str(tmp_path), **environ}, tmp_path)
        found = checkup.checks(settings, online=online)
        return {each.name: (each.status, each.detail, each.fix or "") for each in found}

    return checks


def test_without_a_key_the_demo_serves_and_the_doctor_says_so(look) -> None:
    told = look()
    assert set(told) == {"model", "sdks"}
    status, detail, fix = told["model"]
    assert (status, detail.startswith("demo: no provider has a key")) == ("ok", True)
    assert "ANTHROPIC_API_KEY" in fix
    assert told["sdks"] == ("ok", "none is needed", "")


def test_the_default_model_and_who_serves_it_are_named(look) -> None:
    assert look(GEMINI_API_KEY="k")["model"] == (
        "ok",
        "google/gemini-3.8-flash, served by google",
        "",
    )
    two = look(ROOST_MODEL="openai/gpt-6-sol, ollama/qwen3", OPENAI_API_KEY="k")
    assert two["model"][1].endswith("served by openai then ollama")


@pytest.mark.parametrize(
    ("model", "status", "said", "fix"),
    [
        (
            "anthropic/claude-opus-5-5",
            "fail",
            "ANTHROPIC_API_KEY, which is not set",
            "Put it into .env: ANTHROPIC_API_KEY=…",
        ),
        (
            "anthropic/claude-opus-5-5,ollama/qwen3",
            "warn",
            "ANTHROPIC_API_KEY, which is not set",
            "Put it into .env: ANTHROPIC_API_KEY=…",
        ),
        ("acme/best", "fail", "no model 'acme/best'", "Change ROOST_MODEL."),
        ("scripted/none.json", "fail", "none.json", "Change ROOST_MODEL."),
    ],
)
def test_a_default_that_cannot_serve_fails_with_what_to_do(
    look, model, status, said, fix
) -> None:
    found = look(ROOST_MODEL=model)["model"]
    assert (found[0], said in found[1], found[2]) == (status, True, fix)


def test_a_missing_sdk_is_named_with_the_command_that_brings_it(
    look, monkeypatch
) -> None:
    monkeypatch.delitem(sys.modules, "agents.models.anthropic", raising=False)
    monkeypatch.setitem(sys.modules, "anthropic", None)
    told = look(ANTHROPIC_API_KEY="k")
    assert told["sdks"] == ("fail", "not installed: anthropic", "make install")
    assert (told["model"][0], told["model"][2]) == ("fail", "make install")


def test_online_every_provider_with_a_key_is_asked_once(look, server) -> None:
    server.gives(Exchange(body={"id": "there"}))
    told = look(
        online=True,
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=server.url,
        GEMINI_API_KEY="k",
        GOOGLE_GEMINI_BASE_URL=server.url,
    )
    assert set(told) == {"model", "sdks", "openai", "google"}
    assert told["openai"][0] == told["google"][0] == "ok"
    assert [asked.path for asked in server.asked] == [
        "/models/gpt-6-sol",
        "/v1/models/gemini-3.8-flash",
    ]


def test_online_it_is_the_models_that_are_named_that_are_asked_for(
    look, server
) -> None:
    server.gives(Exchange(body={"capabilities": ["tools"]}))
    told = look(online=True, ROOST_MODEL="ollama/qwen3", OLLAMA_HOST=server.url)
    assert told["ollama"][0] == "ok"
    assert [(a.path, a.body) for a in server.asked] == [
        ("/api/show", {"model": "qwen3"})
    ]


def test_online_an_ollama_of_this_machine_is_found_by_itself(
    look, server, monkeypatch
) -> None:
    server.gives(Exchange(body={"models": [{"name": "qwen3:8b"}]}))
    port = int(server.url.rpartition(":")[2])
    monkeypatch.setattr(checkup, "OLLAMA_PORT", port)
    monkeypatch.setattr("agents.models.ollama.PORT", port)
    assert "has qwen3:8b" in look(online=True)["ollama"][1]


def test_online_without_anything_to_ask_says_so(look) -> None:
    assert look(online=True)["providers"] == ("ok", "none has a key", "")
