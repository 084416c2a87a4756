"""What is known of a model by its name."""

from __future__ import annotations

import pytest

from agents.models import PROVIDERS
from agents.models.catalogue import UNKNOWN, known


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("anthropic/claude-sonnet-5-5", (1_000_000, 128_000)),
        ("claude-haiku-4-5-20251001", (200_000, 64_000)),
        ("openrouter/anthropic/claude-opus-4.5", (200_000, 64_000)),
        ("claude-unheard-of", (200_000, 32_000)),
        ("openai/gpt-6.1-sol", (1_050_000, 128_000)),
        ("gpt-5.4-mini", (400_000, 128_000)),
        ("google/gemini-3.8-flash", (1_048_576, 65_536)),
        ("ollama/llama4:scout", (128_000, 8_192)),
    ],
)
def test_a_name_has_the_facts_of_its_longest_known_beginning(name, tokens) -> None:
    facts = known(name)
    assert (facts.context_tokens, facts.output_tokens) == tokens


def test_of_an_unknown_model_nothing_is_expected() -> None:
    assert known("ollama/llama4:scout") is UNKNOWN
    assert not UNKNOWN.takes_images
    assert not UNKNOWN.thinks


def test_every_tier_is_of_a_known_model() -> None:
    tiers = [name for each in PROVIDERS.values() for name in each.tiers.values()]
    assert [name for name in tiers if known(name) is UNKNOWN] == []
