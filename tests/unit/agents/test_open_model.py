"""Which model a name, a tier or nothing at all names, and what a bad one is told."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from agents.control import Interrupt
from agents.messages import UserMessage
from agents.models import (
    PROVIDERS,
    ModelError,
    Request,
    extras_wanted,
    open_model,
)
from agents.models import resolve as resolve_name

ALL_KEYS = {p.key_name: "key" for p in PROVIDERS.values() if p.key_name}


class AllWell:
    """Breakers that are never open."""

    def may_try(self, provider: str) -> float:
        return 0.0

    def went_well(self, provider: str) -> None: ...

    def failed(self, provider: str, error: ModelError) -> None: ...


def found(**variables: str) -> Callable[[str], str | None]:
    return variables.get


@pytest.mark.line("P11")
@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (ALL_KEYS, "anthropic/claude-sonnet-5-5"),
        ({"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"}, "openai/gpt-6-sol"),
        ({"GEMINI_API_KEY": "k"}, "google/gemini-3.8-flash"),
        ({"OPENROUTER_API_KEY": "k"}, "openrouter/anthropic/claude-sonnet-5-5"),
        ({"ANTHROPIC_API_KEY": ""}, "demo"),
        ({}, "demo"),
        ({**ALL_KEYS, "ROOST_MODEL": "ollama/qwen"}, "ollama/qwen"),
    ],
)
def test_the_default_is_the_first_provider_with_a_key(keys, name) -> None:
    assert resolve_name(None, found(**keys)) == name


@pytest.mark.parametrize("tier", ["fast", "balanced", "smart"])
@pytest.mark.parametrize("provider", ["anthropic", "openai", "google", "openrouter"])
def test_a_tier_is_a_model_of_the_default_provider(provider, tier) -> None:
    key = PROVIDERS[provider].key_name
    wanted = f"{provider}/{PROVIDERS[provider].tiers[tier]}"
    assert resolve_name(tier, found(**{key: "k"})) == wanted
    named = found(**ALL_KEYS, ROOST_MODEL=f"{provider}/some-model")
    assert resolve_name(tier, named) == wanted


@pytest.mark.parametrize("default", ["demo", "ollama/qwen3"])
def test_a_tier_is_the_default_where_the_provider_has_none(default) -> None:
    assert resolve_name("smart", found(ROOST_MODEL=default)) == default


@pytest.mark.parametrize(
    ("wanted", "variables", "name"),
    [
        (None, {"ROOST_MODEL": "fast", "OPENAI_API_KEY": "k"}, "openai/gpt-6-luna"),
        ("smart", {"ROOST_MODEL": "fast", "OPENAI_API_KEY": "k"}, "openai/gpt-6-astra"),
        ("fast", {"ROOST_MODEL": "fast"}, "demo"),
        ("fast, ollama/qwen", {"OPENAI_API_KEY": "k"}, "openai/gpt-6-luna,ollama/qwen"),
        (
            "smart",
            {"ROOST_MODEL": "openai/x,google/y", "ANTHROPIC_API_KEY": "k"},
            "openai/gpt-6-astra",
        ),
    ],
)
def test_a_tier_may_stand_wherever_a_name_does(wanted, variables, name) -> None:
    assert resolve_name(wanted, found(**variables)) == name


def test_a_list_serves_without_those_whose_sdk_is_not_there(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "agents.models.anthropic", raising=False)
    monkeypatch.setitem(sys.modules, "anthropic", None)
    both = open_model("anthropic/claude-sonnet-5-5,demo", breakers=AllWell())
    request = Request(
        system="",
        messages=(UserMessage(content=[{"type": "text", "text": "1 + 1"}]),),
        tools=(),
    )
    answer = both.stream(request, lambda _: None, Interrupt())
    assert (answer.model, both.name) == ("demo", "anthropic/claude-sonnet-5-5,demo")
    with pytest.raises(ModelError, match="make install") as raised:
        open_model("anthropic/x,anthropic/y", breakers=AllWell()).stream(
            request, lambda _: None, Interrupt()
        )
    assert raised.value.kind == "missing_sdk"


def test_a_model_without_its_sdk_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "agents.models.anthropic", raising=False)
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(ModelError, match=r"pip install 'roost\[anthropic\]'") as raised:
        open_model("anthropic/claude-sonnet-5-5")
    assert (raised.value.kind, raised.value.is_retriable) == ("missing_sdk", False)


@pytest.mark.parametrize(
    ("variables", "extras"),
    [
        ({}, set()),
        ({"ANTHROPIC_API_KEY": ""}, set()),
        ({"OPENAI_BASE_URL": "http://here"}, set()),
        ({"ANTHROPIC_API_KEY": "k"}, {"anthropic"}),
        ({"GEMINI_API_KEY": "k", "OPENROUTER_API_KEY": "k"}, {"google", "openai"}),
        ({"OLLAMA_HOST": "localhost"}, {"openai"}),
        ({"ROOST_MODEL": "demo"}, set()),
        ({"ROOST_MODEL": "scripted/openai/script.json"}, set()),
        ({"ROOST_MODEL": "ollama/qwen3, anthropic/x"}, {"openai", "anthropic"}),
        ({"ROOST_FAST_MODEL": "google/gemini-3.6-flash"}, {"google"}),
    ],
)
def test_what_is_set_says_which_sdks_are_wanted(variables, extras) -> None:
    assert extras_wanted(found(**variables)) == extras


def test_no_sdk_is_imported_by_the_models_themselves() -> None:
    import subprocess

    script = (
        "import sys, agents.models;"
        "sys.exit(bool({'anthropic', 'openai', 'google.genai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
