"""Whether a model can call tools, asked before its first turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from agents.models import probe as probing
from agents.models.probe import Probe, probe
from agents.models.provider import Access
from tests.contract.wires.server import Exchange, FakeServer

JSON = dict[str, Any]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


def access(provider: str, url: str | None) -> Access:
    return Access(provider=provider, key_name=None, find_key=lambda: None, base_url=url)


def ask_openrouter(server: FakeServer, model: str) -> Probe:
    able = {"id": "qwen/qwen3", "supported_parameters": ["max_tokens", "tools"]}
    unable = {"id": "old/poet", "supported_parameters": ["max_tokens"]}
    server.gives(Exchange(body={"data": [able, unable, {"id": "odd/one"}]}))
    return probe(f"openrouter/{model}", access("openrouter", f"{server.url}/api/v1"))


def ask_ollama(server: FakeServer, **shown: Any) -> Probe:
    server.gives(Exchange(body=shown))
    return probe("ollama/qwen3:8b", access("ollama", server.url))


@pytest.mark.parametrize("model", ["qwen/qwen3", "qwen/qwen3:nitro"])
def test_openrouter_says_that_a_model_can_call_tools(
    server: FakeServer, model: str
) -> None:
    assert ask_openrouter(server, model).ok is True
    assert server.asked[0].path == "/api/v1/models"


@pytest.mark.parametrize("model", ["old/poet", "odd/one"])
def test_openrouter_says_that_a_model_cannot(server: FakeServer, model: str) -> None:
    found = ask_openrouter(server, model)
    assert found.ok is False
    assert f"{model} cannot call tools" in found.detail


def test_openrouter_does_not_know_a_model(server: FakeServer) -> None:
    found = ask_openrouter(server, "qwen/qwen99")
    assert (found.ok, "'qwen/qwen99'" in found.detail) == (False, True)


def test_ollama_says_that_a_model_can_call_tools(server: FakeServer) -> None:
    found = ask_ollama(
        server, capabilities=["completion", "tools"], parameters="num_ctx    32768"
    )
    assert found == Probe(ok=True, detail="qwen3:8b can call tools, says Ollama.")
    (asked,) = server.asked
    assert (asked.path, asked.body) == ("/api/show", {"model": "qwen3:8b"})


def test_ollama_says_that_a_model_cannot(server: FakeServer) -> None:
    found = ask_ollama(server, capabilities=["completion"])
    assert (found.ok, "cannot call tools" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ('stop    "<|im_end|>"\nnum_ctx    8192', "Its num_ctx is 8192 tokens"),
        ("", "by default 4096 tokens"),
        (None, "by default 4096 tokens"),
    ],
)
def test_a_window_that_cuts_conversations_off_is_warned_of(
    server: FakeServer, parameters: str | None, said: str
) -> None:
    sizes = {"qwen3.context_length": 40960, "qwen3.block_count": 36}
    found = ask_ollama(
        server, capabilities=["tools"], parameters=parameters, model_info=sizes
    )
    assert found.ok is True
    assert said in found.detail
    assert "40960" in found.detail
    assert "num_ctx 16384" in found.detail


def test_ollama_does_not_have_a_model(server: FakeServer) -> None:
    server.gives(Exchange(status=404, body={"error": "model not found"}))
    found = probe("ollama/qwen99", access("ollama", server.url))
    assert (found.ok, "ollama pull qwen99" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (Exchange(status=500, body={"error": "no"}), "answered 500"),
        (Exchange(pieces=[b"<html>"]), "no JSON"),
        (Exchange(pieces=[b'{"data'], then="cut"), "not reachable"),
    ],
)
@pytest.mark.parametrize("name", ["ollama/qwen3", "openrouter/qwen/qwen3"])
def test_what_nobody_says_is_not_known(
    server: FakeServer, exchange: Exchange, said: str, name: str
) -> None:
    server.gives(exchange)
    found = probe(name, access(name.partition("/")[0], server.url))
    assert (found.ok, said in found.detail) == (None, True), found


@pytest.mark.parametrize("body", [[], 7, {"data": 7}, {"data": [7]}])
def test_an_answer_of_another_shape_is_no_crash(server: FakeServer, body: Any) -> None:
    server.gives(Exchange(body=body))
    for name in ("ollama/qwen3", "openrouter/qwen/qwen3"):
        assert probe(name, access(name.partition("/")[0], server.url)).ok is False


def test_nobody_at_the_other_end_is_told() -> None:
    found = probe("ollama/qwen3", access("ollama", "127.0.0.1:9"))
    assert (found.ok, "not reachable" in found.detail) == (None, True)


def test_an_address_that_is_none_is_told() -> None:
    found = probe("ollama/qwen3", access("ollama", "ftp://here"))
    assert (found.ok, "OLLAMA_HOST" in found.detail) == (False, True)
    found = probe("openrouter/qwen/qwen3", access("openrouter", "file:///etc"))
    assert (found.ok, "could not be checked" in found.detail) == (None, True)


def test_a_server_that_says_nothing_is_not_waited_for(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PATIENCE_SECONDS", 0.2)
    server.gives(Exchange(stalls_first=True))
    began = time.monotonic()
    found = probe("ollama/qwen3", access("ollama", server.url))
    assert (found.ok, "did not answer" in found.detail) == (None, True)
    assert time.monotonic() - began < 5


def test_of_the_others_what_is_known_by_name_is_said() -> None:
    assert probe("openai/gpt-6-sol", access("openai", None)).ok is True
    unknown = probe("openai-chat/my-own", access("openai-chat", None))
    assert (unknown.ok, "not known here" in unknown.detail) == (None, True)
