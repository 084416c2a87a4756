"""A vendor's model is asked what it can do once, and its key is told to nobody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import UserMessage
from agents.models import ModelError, Request, ToolSpec, open_model
from agents.models.failover import Failover
from agents.models.guarded import Guarded, Probes
from agents.models.probe import Probe
from agents.models.provider import Access
from agents.models.redaction import REDACTED, redact
from agents.models.scripted import ScriptedModel
from tests.contract.wires.server import Exchange, FakeServer

KEY = "sk-canary-0123456789"
TOOL = ToolSpec(name="look", description="Look.", parameters={"type": "object"})
REQUEST = Request(
    system="",
    messages=(UserMessage(content=[{"type": "text", "text": "hi"}]),),
    tools=(TOOL,),
)
SAYS = {"text": "hello"}


class Prober:
    """Says what it is told to say, and counts how often it was asked."""

    def __init__(self, *found: bool | None) -> None:
        self.found, self.asked = list(found), 0

    def __call__(self, name: str, access: Access) -> Probe:
        self.asked += 1
        ok = self.found[min(self.asked, len(self.found)) - 1]
        return Probe(ok=ok, detail=f"So says {name}.")


def guarded(prober: Prober, *responses: dict[str, Any], name: str = "acme") -> Guarded:
    access = Access(
        provider=name, key_name="ACME_KEY", find_key=lambda: KEY, base_url=None
    )
    return Guarded(ScriptedModel(responses, f"{name}/m"), access, Probes(prober))


def ask(model: Any, request: Request = REQUEST) -> str:
    return str(model.stream(request, lambda _: None, Interrupt()).text)


@pytest.mark.parametrize("found", [True, None])
def test_a_model_is_asked_about_once_in_a_process(found: bool | None) -> None:
    prober = Prober(found)
    model = guarded(prober, SAYS, SAYS)
    assert [ask(model), ask(model), prober.asked] == ["hello", "hello", 1]


def test_a_model_that_cannot_call_tools_fails_the_turn_with_the_reason() -> None:
    model = guarded(Prober(False), SAYS)
    with pytest.raises(ModelError, match=r"So says acme/m\.") as raised:
        ask(model)
    assert (raised.value.kind, raised.value.is_retriable) == ("unable", False)


def test_a_model_that_could_not_is_asked_about_again() -> None:
    prober = Prober(False, True)
    model = guarded(prober, SAYS)
    with pytest.raises(ModelError):
        ask(model)
    assert (ask(model), prober.asked) == ("hello", 2)


def test_a_model_that_needs_no_tools_is_not_asked_about() -> None:
    prober = Prober(False)
    assert ask(guarded(prober, SAYS), replace(REQUEST, tools=())) == "hello"
    assert prober.asked == 0


def test_turns_that_begin_together_ask_once() -> None:
    release = threading.Event()

    class Slow(Prober):
        def __call__(self, name: str, access: Access) -> Probe:
            release.wait(10)
            return super().__call__(name, access)

    prober = Slow(True)
    model = guarded(prober, *[SAYS] * 4)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, model) for _ in range(4)]
        release.set()
    assert [each.result() for each in asked] == ["hello"] * 4
    assert prober.asked == 1


def test_the_next_model_of_a_list_is_asked_when_one_cannot_call_tools() -> None:
    class NoBreakers:
        def may_try(self, provider: str) -> float:
            return 0.0

        def went_well(self, provider: str) -> None: ...

        def failed(self, provider: str, error: ModelError) -> None: ...

    able = guarded(Prober(True), {"text": "I can"}, name="better")
    assert ask(Failover([guarded(Prober(False)), able], NoBreakers())) == "I can"


def test_a_key_that_a_server_repeats_is_in_no_error() -> None:
    refusal = {"error": {"status": 401, "message": f"Incorrect API key {KEY}."}}
    with pytest.raises(ModelError) as raised:
        ask(guarded(Prober(True), refusal))
    assert KEY not in str(raised.value) + repr(raised.value.as_json())
    assert REDACTED in str(raised.value)


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        (f"it was {KEY}!", f"it was {REDACTED}!"),
        ({"a": [KEY, 1, None]}, {"a": [REDACTED, 1, None]}),
        ({KEY: True}, {REDACTED: True}),
        ({"Authorization": "Basic abc"}, {"Authorization": REDACTED}),
        ("GET /v1?key=abc&alt=sse", f"GET /v1?key={REDACTED}&alt=sse"),
        ("/v1?a=b&API_KEY=abc", f"/v1?a=b&API_KEY={REDACTED}"),
        ("Authorization: Bearer abc", f"Authorization: Bearer {REDACTED}"),
        ("sent Bearer eyJ0eXAi.abc", f"sent Bearer {REDACTED}"),
        ("a%2Fkey%2Bof%2Fmine", REDACTED),
        ("the bearer of news, a monkey=banana", "the bearer of news, a monkey=banana"),
    ],
)
def test_secrets_and_what_carries_keys_are_redacted(value: Any, redacted: Any) -> None:
    assert redact(value, [KEY, "a/key+of/mine", None, ""]) == redacted


def test_a_key_too_short_to_be_one_is_let_be() -> None:
    assert redact("an x is an x", ["x"]) == "an x is an x"


def test_a_model_of_a_vendor_is_opened_with_its_guard() -> None:
    unable = Exchange(body={"capabilities": ["completion"]})
    with FakeServer().running() as server:
        server.gives(unable)
        variables = {"OLLAMA_HOST": server.url}
        with pytest.raises(ModelError, match=r"cannot call tools, says Ollama.*retry"):
            ask(open_model("ollama/poet", variables.get))
        assert [asked.path for asked in server.asked] == ["/api/show"]
