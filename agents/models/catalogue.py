"""What is known of models by their names: sizes, and what they can do.

Names are matched by their longest known beginning, so that a dated name has the facts
of its family. A size that is too small costs an early compaction, one that is too large
an overflow that the loop recovers from: guesses are on the small side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model's window, its output limit (thinking included), and its abilities."""

    context_tokens: int
    output_tokens: int
    takes_images: bool = True
    thinks: bool = True


# Of a model that nobody here has heard of, nothing is expected.
UNKNOWN: Final = ModelFacts(
    context_tokens=128_000, output_tokens=8_192, takes_images=False, thinks=False
)


def _facts(context: int, output: int, *, thinks: bool = True) -> ModelFacts:
    return ModelFacts(context_tokens=context, output_tokens=output, thinks=thinks)


# Read in 2026-11 where a source is named; `assumed` is what its neighbours have.
_FACTS: Final[Mapping[str, ModelFacts]] = {
    # platform.claude.com/docs/en/models: 1M and 128K for Fable, Opus and Sonnet 5.x.
    "claude-fable": _facts(1_000_000, 128_000),
    "claude-mythos": _facts(1_000_000, 128_000),  # assumed
    "claude-opus-5": _facts(1_000_000, 128_000),
    "claude-sonnet-5": _facts(1_000_000, 128_000),
    "claude-haiku-5": _facts(200_000, 64_000),  # assumed: as Haiku 4.5
    "claude-opus-4-8": _facts(1_000_000, 128_000),  # assumed: as Opus 4.7
    "claude-opus-4-7": _facts(1_000_000, 128_000),
    "claude-opus-4-6": _facts(1_000_000, 128_000),
    "claude-sonnet-4-6": _facts(1_000_000, 64_000),
    "claude-haiku-4-5": _facts(200_000, 64_000),
    "claude-opus-4-5": _facts(200_000, 64_000),
    "claude-sonnet-4-5": _facts(200_000, 64_000),
    "claude-": _facts(
        200_000, 32_000
    ),  # assumed: the smallest of the fourth generation
    # developers.openai.com/api/docs/models: 1.05M and 128K since GPT-5.4.
    "gpt-6": _facts(1_050_000, 128_000),
    "gpt-5.6": _facts(1_050_000, 128_000),
    "gpt-5.5": _facts(1_050_000, 128_000),  # assumed
    "gpt-5.4": _facts(1_050_000, 128_000),
    "gpt-5.4-mini": _facts(400_000, 128_000),
    "gpt-5.4-nano": _facts(400_000, 128_000),
    "gpt-5": _facts(400_000, 128_000),
    "gpt-4.1": _facts(1_047_576, 32_768, thinks=False),
    "gpt-4o": _facts(128_000, 16_384, thinks=False),
    "gpt-": _facts(128_000, 16_384),  # assumed
    "o3": _facts(200_000, 100_000),
    "o4": _facts(200_000, 100_000),
    # ai.google.dev/gemini-api/docs/models: the same for 2.5, 3.x and 4 Argon.
    "gemini-": _facts(1_048_576, 65_536),
}


def known(name: str) -> ModelFacts:
    """Return what is known of a model, with or without its providers before it."""
    model = _plain(name.rpartition("/")[2])
    found = [prefix for prefix in _FACTS if model.startswith(_plain(prefix))]
    return _FACTS[max(found, key=len)] if found else UNKNOWN


def _plain(name: str) -> str:
    """OpenRouter writes `claude-sonnet-4.5` for what Anthropic calls `-4-5`."""
    return name.lower().replace(".", "-")
