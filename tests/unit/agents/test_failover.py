"""Failover: who is asked, who is passed over, and what is told when nobody answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import UserMessage
from agents.models import Delta, ModelError, Request
from agents.models.failover import Failover
from agents.models.scripted import ScriptedModel

REQUEST = Request(
    system="",
    messages=(UserMessage(content=[{"type": "text", "text": "hi"}]),),
    tools=(),
)


@dataclass
class ListedBreakers:
    """Breakers in memory."""

    resting: dict[str, float] = field(default_factory=dict)
    told: list[tuple[str, str]] = field(default_factory=list)

    def may_try(self, provider: str) -> float:
        return self.resting.get(provider, 0.0)

    def went_well(self, provider: str) -> None:
        self.told.append((provider, "well"))

    def failed(self, provider: str, error: ModelError) -> None:
        self.told.append((provider, error.kind))


def model(name: str, *responses: dict[str, Any]) -> ScriptedModel:
    return ScriptedModel(responses, f"{name}/model")


def error(status: int, **more: Any) -> dict[str, Any]:
    return {"error": {"status": status, "message": "It is ill.", **more}}


SAYS = {"text": "hello there"}


def ask(failover: Failover) -> tuple[Any, list[Delta]]:
    deltas: list[Delta] = []
    return failover.stream(REQUEST, deltas.append, Interrupt()), deltas


def test_the_first_that_does_well_answers_and_is_named() -> None:
    breakers = ListedBreakers()
    failover = Failover([model("one", SAYS), model("two", SAYS)], breakers)
    answer, _ = ask(failover)
    assert (answer.text, answer.model) == ("hello there", "one/model")
    assert breakers.told == [("one", "well")]
    assert failover.name == "one/model,two/model"


@pytest.mark.parametrize(
    "failure",
    [
        error(503),
        error(429, retry_after_seconds=9),
        error(401, kind="unauthorized"),
        error(400, kind="missing_key"),
    ],
)
def test_the_next_is_asked_when_one_fails_before_it_speaks(failure) -> None:
    failover = Failover([model("one", failure), model("two", SAYS)], ListedBreakers())
    answer, deltas = ask(failover)
    assert (answer.text, answer.model) == ("hello there", "two/model")
    assert "".join(delta.text for delta in deltas) == "hello there"


def test_one_that_has_begun_to_speak_fails_the_try() -> None:
    cut = {**SAYS, "cut_after_tokens": 1}
    breakers = ListedBreakers()
    failover = Failover([model("one", cut), model("two", SAYS)], breakers)
    with pytest.raises(ModelError) as raised:
        ask(failover)
    assert raised.value.kind == "cut"
    assert breakers.told == [("one", "cut")]


@pytest.mark.parametrize("kind", ["context_overflow", "bad_request"])
def test_what_all_would_refuse_is_asked_of_nobody_else(kind: str) -> None:
    two = model("two", SAYS)
    failover = Failover([model("one", error(400, kind=kind)), two], ListedBreakers())
    with pytest.raises(ModelError) as raised:
        ask(failover)
    assert raised.value.kind == kind


def test_one_that_rests_is_passed_over() -> None:
    breakers = ListedBreakers(resting={"one": 12.0})
    failover = Failover([model("one", error(400)), model("two", SAYS)], breakers)
    assert ask(failover)[0].model == "two/model"
    assert breakers.told == [("two", "well")]


def test_when_all_rest_the_turn_comes_back_when_the_first_has_rested() -> None:
    breakers = ListedBreakers(resting={"one": 12.0, "two": 5.0})
    failover = Failover([model("one", SAYS), model("two", SAYS)], breakers)
    with pytest.raises(ModelError, match="two has failed too often") as raised:
        ask(failover)
    assert raised.value.is_retriable
    assert raised.value.retry_after_seconds == 5.0


def test_a_failure_that_passes_is_told_before_one_that_does_not() -> None:
    missing = error(400, kind="missing_key")
    for models in ([missing, error(503)], [error(503), missing]):
        failover = Failover(
            [model(f"m{n}", each) for n, each in enumerate(models)], ListedBreakers()
        )
        with pytest.raises(ModelError) as raised:
            ask(failover)
        assert raised.value.is_retriable


def test_a_no_of_the_provider_is_no_failure_of_it() -> None:
    breakers = ListedBreakers()
    failover = Failover([model("one", error(400, kind="bad_request"))], breakers)
    with pytest.raises(ModelError):
        ask(failover)
    assert breakers.told == [("one", "well")]


def test_the_smallest_window_counts() -> None:
    small = model("small", SAYS)
    small.context_tokens = 8_000
    failover = Failover([model("large", SAYS), small], ListedBreakers())
    assert failover.context_tokens == 8_000


def test_a_conversation_with_images_goes_to_one_that_sees_them() -> None:
    image = {"type": "image", "artifact": "turn-1/2.1", "media_type": "image/png"}
    request = Request(system="", messages=(UserMessage(content=[image]),), tools=())
    blind = ScriptedModel([SAYS], "nobody/knows")
    seeing = ScriptedModel([SAYS], "anthropic/claude-sonnet-5-5")
    both = Failover([blind, seeing], ListedBreakers())
    assert both.stream(request, lambda _: None, Interrupt()).model == seeing.name
    alone = Failover([blind], ListedBreakers())
    assert alone.stream(request, lambda _: None, Interrupt()).model == blind.name


@pytest.mark.parametrize("kind", ["missing_key", "missing_sdk", "unable"])
def test_a_provider_that_nobody_asked_is_told_of_nothing(kind: str) -> None:
    breakers = ListedBreakers()
    failover = Failover([model("one", error(400, kind=kind))], breakers)
    with pytest.raises(ModelError):
        ask(failover)
    assert breakers.told == []
