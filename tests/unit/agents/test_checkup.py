"""A provider is asked, at no cost, whether its key and its model can be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents.models import PROVIDERS, access_of, checkup
from agents.models.checkup import Found, check_up, check_up_ollama
from agents.models.provider import Access
from tests.contract.wires.server import Exchange, FakeServer

KEY = "sk-canary-0123456789"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


def access(provider: str, url: str) -> Access:
    known = PROVIDERS[provider]
    return access_of(provider, {known.key_name: KEY, known.url_name: url}.get)


@pytest.mark.parametrize(
    ("name", "path", "header", "value"),
    [
        (
            "anthropic/claude-sonnet-5-5",
            "/v1/models/claude-sonnet-5-5",
            "authorization",
            f"Bearer {KEY}",
        ),
        ("openai/gpt-6-sol", "/models/gpt-6-sol", "authorization", f"Bearer {KEY}"),
        (
            "google/gemini-3.8-flash",
            "/v1/models/gemini-3.8-flash",
            "x-goog-api-key",
            KEY,
        ),
    ],
)
def test_one_call_tells_that_key_and_model_are_good(
    server: FakeServer, name: str, path: str, header: str, value: str
) -> None:
    server.gives(Exchange(body={"id": "it is there"}))
    provider = name.partition("/")[0]
    found = check_up(name, access(provider, server.url))
    key_name = PROVIDERS[provider].key_name
    assert found == Found(
        ok=True, detail=f"{key_name} is good. {name} is known to call tools."
    )
    (asked,) = server.asked
    assert (asked.path, asked.headers[header], asked.body) == (path, value, None)


def test_openrouter_is_asked_for_the_key_and_then_for_the_model(
    server: FakeServer,
) -> None:
    entry = {"id": "qwen/qwen3", "supported_parameters": ["tools"]}
    server.gives(Exchange(body={"data": {}}), Exchange(body={"data": [entry]}))
    found = check_up("openrouter/qwen/qwen3", access("openrouter", server.url))
    assert found.ok is True
    assert [asked.path for asked in server.asked] == ["/key", "/models"]


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("anthropic", 401, {"error": {"message": f"invalid {KEY}"}}),
        ("openai", 401, {}),
        ("openai", 403, {}),
        ("google", 400, {"error": {"details": [{"reason": "API_KEY_INVALID"}]}}),
        ("openrouter", 401, {}),
    ],
)
def test_a_key_that_is_refused_is_named_and_not_shown(
    server: FakeServer, provider: str, status: int, body: Any
) -> None:
    server.gives(Exchange(status=status, body=body))
    found = check_up(f"{provider}/some-model", access(provider, server.url))
    key_name = PROVIDERS[provider].key_name
    assert (found.ok, f"refuses the key in {key_name}" in found.detail) == (False, True)
    assert found.fix == f"Put a key that is good into .env: {key_name}=…"
    assert KEY not in repr(found)


def test_a_model_that_a_provider_has_not_is_told_of(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checkup._URLS, "openai", server.url)
    server.gives(Exchange(status=404, body={"error": {"code": "model_not_found"}}))
    theirs = access_of("openai", {"OPENAI_API_KEY": KEY}.get)
    found = check_up("openai/gpt-99", theirs)
    assert (found.ok, "no model 'gpt-99'" in found.detail) == (False, True)
    # A compatible server may simply not have that page.
    found = check_up("openai/gpt-99", access("openai", server.url))
    assert (found.ok, "could not be checked" in found.detail) == (None, True)


def test_without_a_key_nobody_is_asked(server: FakeServer) -> None:
    found = check_up("openai/x", access_of("openai", {"OPENAI_BASE_URL": "x"}.get))
    assert (found.ok, found.fix) == (
        False,
        "Put a key that is good into .env: OPENAI_API_KEY=…",
    )
    assert server.asked == []


def test_an_ollama_without_the_model_is_told_to_pull_it(server: FakeServer) -> None:
    server.gives(Exchange(status=404, body={"error": "model 'qwen3' not found"}))
    found = check_up("ollama/qwen3", access("ollama", server.url))
    assert (found.ok, found.fix) == (False, "ollama pull qwen3")


def test_a_server_that_is_no_ollama_is_not_taken_for_one_without_the_model(
    server: FakeServer,
) -> None:
    server.gives(Exchange(status=404, body={"error": "no such page"}))
    assert check_up("ollama/qwen3", access("ollama", server.url)).ok is None


@pytest.mark.parametrize(
    ("exchange", "ok", "fix"),
    [
        (
            Exchange(body={"models": [{"name": "qwen3:8b"}, {"name": "glm"}]}),
            True,
            "To use it: ROOST_MODEL=ollama/qwen3:8b in .env, then make install.",
        ),
        (Exchange(body={"models": []}), None, "ollama pull qwen3"),
        (Exchange(body=[7]), None, "ollama pull qwen3"),
        (Exchange(status=500, body={}), None, "ollama serve"),
    ],
)
def test_an_ollama_of_which_no_model_is_named_says_what_it_has(
    server: FakeServer, exchange: Exchange, ok: bool | None, fix: str
) -> None:
    server.gives(exchange)
    found = check_up_ollama(access("ollama", server.url))
    assert (found.ok, found.fix) == (ok, fix)
