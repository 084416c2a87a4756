"""What model calls cost, in US dollars.

A price of our own (`ROOST_PRICES`) comes first. The demo, scripts, replays and Ollama
are free.
Everything else is priced by `genai-prices`, which carries its data with it and asks no
network. It takes a second to import, so it is imported with the first vendor's model.
Nobody knows every price: None is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agents.messages import Usage

MILLION: Final = 1_000_000
FREE: Final = frozenset({"demo", "scripted", "replay", "ollama"})
# Our names of providers, where those of genai-prices differ.
_SELLERS: Final = {"openai-chat": "openai"}

Price = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a call costs at the most: its input, and each token of its output."""

    input_usd: float
    output_token_usd: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Knows prices; `own` are those of ROOST_PRICES, by model or `provider/*`."""

    own: Mapping[str, Price]

    def cost(self, model: str, usage: Usage) -> float | None:
        """Return what a call has cost; None when nobody knows."""
        if (price := self._own(model)) is not None:
            return _by_price(price, usage)
        provider, _, name = model.partition("/")
        return 0.0 if provider in FREE else _by_vendor(provider, name, usage)

    def rate(self, model: str, input_tokens: int) -> Rate | None:
        """Return what a call with so long an input costs at the most.

        Of several models (with a comma between) any may answer, and of input nobody
        knows before which of it is written to a cache.
        """
        rates = [self._rate(name, input_tokens) for name in model.split(",")]
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates):
            return None
        return Rate(
            input_usd=max(rate.input_usd for rate in known),
            output_token_usd=max(rate.output_token_usd for rate in known),
        )

    def _rate(self, model: str, tokens: int) -> Rate | None:
        plain = self.cost(model, Usage(input_tokens=tokens))
        cached = self.cost(model, Usage(cache_write_tokens=tokens))
        said = self.cost(model, Usage(input_tokens=tokens, output_tokens=MILLION))
        if plain is None or cached is None or said is None:
            return None
        return Rate(
            input_usd=max(plain, cached), output_token_usd=(said - plain) / MILLION
        )

    def _own(self, model: str) -> Price | None:
        provider = model.partition("/")[0]
        return self.own.get(model) or self.own.get(f"{provider}/*")


def _by_price(price: Price, usage: Usage) -> float:
    """Without a price of their own, tokens of a cache cost as much as others."""
    read, written = (
        price.get(f"cache_{each}", price["input"]) for each in ("read", "write")
    )
    return (
        usage.input_tokens * price["input"]
        + usage.output_tokens * price["output"]
        + usage.cache_read_tokens * read
        + usage.cache_write_tokens * written
    ) / MILLION


def _by_vendor(provider: str, model: str, usage: Usage) -> float | None:
    if provider != "openrouter":
        return _listed(_SELLERS.get(provider, provider), model, usage)
    vendor, _, name = model.partition("/")
    cost = _listed(vendor, name, usage)
    return _listed(provider, model, usage) if cost is None else cost


def _listed(provider: str, model: str, usage: Usage) -> float | None:
    try:
        import genai_prices
    except ImportError:  # an installation without any vendor
        return None
    used = genai_prices.Usage(
        # Its count of input has all that was read, from a cache or not.
        input_tokens=usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        found = genai_prices.calc_price(used, model, provider_id=provider)
    except LookupError:
        return None
    return float(found.total_price)
