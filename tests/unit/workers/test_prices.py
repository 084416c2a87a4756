"""What a model call costs: prices of one's own, what is free, the vendors' lists."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agents.messages import Usage
from workers.prices import Prices, Rate

MILLION = 1_000_000
USAGE = Usage(
    input_tokens=MILLION,
    output_tokens=2 * MILLION,
    cache_read_tokens=3 * MILLION,
    cache_write_tokens=4 * MILLION,
)
LISTED = Prices({})


def test_a_price_of_ones_own_counts_each_token_once() -> None:
    price = {"input": 1, "output": 10, "cache_read": 100, "cache_write": 1000}
    assert Prices({"a/b": price}).cost("a/b", USAGE) == 1 + 20 + 300 + 4000


def test_tokens_of_a_cache_cost_as_much_as_others_where_nothing_is_said() -> None:
    assert Prices({"a/b": {"input": 1, "output": 10}}).cost("a/b", USAGE) == 28


def test_a_models_own_price_goes_before_its_providers() -> None:
    prices = Prices(
        {"a/*": {"input": 1, "output": 0}, "a/b": {"input": 2, "output": 0}}
    )
    usage = Usage(input_tokens=MILLION)
    assert [prices.cost(each, usage) for each in ("a/b", "a/c", "a/d/e")] == [2, 1, 1]


def test_a_price_of_ones_own_goes_before_every_list() -> None:
    own = {"input": 7, "output": 0}
    usage = Usage(input_tokens=MILLION)
    for model in ("anthropic/claude-sonnet-4-5", "ollama/llama3", "demo"):
        provider = model.partition("/")[0]
        assert Prices({f"{provider}/*": own}).cost(model, usage) == 7


@pytest.mark.parametrize("model", ["demo", "scripted/x.json", "ollama/llama3"])
def test_what_runs_here_is_free(model: str) -> None:
    assert LISTED.cost(model, USAGE) == 0
    assert LISTED.rate(model, 1000) == Rate(input_usd=0, output_token_usd=0)


# The prices of 2025, which no update of the list will change.
@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("anthropic/claude-3-opus-20240229", 15 + 150 + 4.5 + 75),
        ("openrouter/anthropic/claude-3-opus-20240229", 15 + 150 + 4.5 + 75),
        ("openai/gpt-4o-mini", 0.15 + 1.2 + 0.225 + 0.6),
        ("openai-chat/gpt-4o-mini", 0.15 + 1.2 + 0.225 + 0.6),
    ],
)
def test_a_vendors_model_costs_what_the_list_says(model: str, usd: float) -> None:
    assert LISTED.cost(model, USAGE) == pytest.approx(usd)


@pytest.mark.parametrize(
    "model", ["anthropic/nothing", "openrouter/nobody/nothing", "nobody/nothing", "x"]
)
def test_nobody_knows_every_price(model: str) -> None:
    assert LISTED.cost(model, USAGE) is None
    assert LISTED.rate(model, 1000) is None


def test_a_call_costs_at_the_most_what_its_input_does_when_it_is_cached() -> None:
    price = {"input": 1, "output": 10, "cache_write": 2}
    rate = Prices({"a/b": price}).rate("a/b", MILLION)
    assert rate == Rate(input_usd=2, output_token_usd=10 / MILLION)


def test_of_several_models_the_dearest_counts_and_all_must_be_known() -> None:
    prices = Prices(
        {"a/b": {"input": 1, "output": 10}, "c/d": {"input": 2, "output": 5}}
    )
    rate = prices.rate("a/b,c/d", MILLION)
    assert rate == Rate(input_usd=2, output_token_usd=10 / MILLION)
    assert prices.rate("a/b,nobody/nothing", MILLION) is None


def test_the_list_is_not_loaded_for_a_model_that_needs_none() -> None:
    code = (
        "import sys; from agents.messages import Usage\n"
        "from workers.prices import Prices\n"
        "Prices({'a/*': {'input': 1, 'output': 1}}).rate('a/b', 5)\n"
        "Prices({}).cost('demo', Usage())\n"
        "assert 'genai_prices' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
