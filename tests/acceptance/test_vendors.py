"""Vendors' models in real turns: the server is ours, everything else is Roost's own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from agents.messages import Answer, ToolCall, Usage
from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import System
from tests.acceptance.waiting import wait_until
from tests.contract.wires.base import Wire
from tests.contract.wires.server import Exchange, FakeServer

KEY = "sk-canary-e5a1f0"
# The provider, its wire, and the variables of its key and its address.
VENDORS = {
    "anthropic": ("anthropic", "AnthropicWire", "ANTHROPIC_API_KEY"),
    "openai": ("openai_responses", "ResponsesWire", "OPENAI_API_KEY"),
    "openai-chat": ("openai_chat", "ChatWire", "OPENAI_API_KEY"),
    "google": ("google", "GoogleWire", "GEMINI_API_KEY"),
    "openrouter": ("openai_chat", "OpenRouterWire", "OPENROUTER_API_KEY"),
    "ollama": ("openai_chat", "OllamaWire", None),
}
PLACES = {
    "ANTHROPIC_BASE_URL": "",
    "OPENAI_BASE_URL": "/v1",
    "GOOGLE_GEMINI_BASE_URL": "",
    "OPENROUTER_BASE_URL": "/api/v1",
    "OLLAMA_HOST": "",
}
USAGE = Usage(input_tokens=40, output_tokens=12)
ARGUMENTS = {"code": "globalThis.result = 6 * 7;", "wait_seconds": 30}
CALLING = Answer(
    text="Let me run it.",
    tool_calls=(
        ToolCall(
            id="call_1",
            name="exec",
            arguments=ARGUMENTS,
            raw_arguments=json.dumps(ARGUMENTS),
        ),
    ),
    stop_reason="tool_use",
    usage=USAGE,
)
PLAIN = Answer(text="It is 42, as you knew.", usage=USAGE)


def wire_of(provider: str) -> Wire:
    module, name, _ = VENDORS[provider]
    wire: Wire = getattr(import_module(f"tests.contract.wires.{module}"), name)()
    return wire


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer(knows_only="POST /(v1|api/v1)/(?!show)").running() as running:
        yield running


@pytest.fixture(scope="module")
def system(
    server: FakeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A Roost whose `.env` names our server and, but for Google's, a key."""
    found = System(tmp_path_factory.mktemp("vendors") / "home")
    found.home.mkdir()
    keys = {key for _, _, key in VENDORS.values() if key}
    variables = {name: server.url + path for name, path in PLACES.items()}
    variables |= dict.fromkeys(keys, KEY)
    write_env(found.home, variables)
    try:
        found.start()
        yield found
    finally:
        found.clean_up()


def write_env(home: Path, variables: dict[str, str]) -> None:
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    (home / ".env").write_text("".join(lines))


@pytest.mark.parametrize("provider", VENDORS)
def test_an_agent_of_any_provider_runs_code_and_tells_what_came_of_it(
    system: System, server: FakeServer, new_agent: NewAgent, provider: str
) -> None:
    wire = wire_of(provider)
    server.asked.clear()
    server.gives(
        Exchange(pieces=wire.frames(CALLING)), Exchange(pieces=wire.frames(PLAIN))
    )
    name = wire.model(server.url, lambda: KEY).name
    agent = new_agent(system.api, model=name)

    assert agent.ask("What is six times seven?") == PLAIN.text

    asked = list(server.asked)
    for each in asked:
        wire.check(each.path, each.headers, each.body)
        assert wire.key_of(each.headers) in (KEY, "none")
    assert len(asked) == 2
    assert "What is six times seven?" in str(asked[0].body)
    assert "42" in str(asked[1].body)
    kinds = [event["kind"] for event in agent.events()]
    assert kinds.count("message_update") >= 2


def test_a_worker_that_is_killed_in_mid_stream_leaves_the_question_to_the_next(
    system: System, server: FakeServer, new_agent: NewAgent
) -> None:
    wire = wire_of("anthropic")
    stalled = Exchange(pieces=wire.unfinished(PLAIN), then="stall")
    server.gives(stalled, Exchange(pieces=wire.frames(PLAIN)))
    agent = new_agent(system.api, model="anthropic/some-model")
    turn_id = agent.send("Hello?")["turn_id"]
    agent.wait_for_text(turn_id)

    system.workers("agents")[0].send(signal.SIGKILL)
    system.wait()
    stalled.release.set()
    system.start()

    turn = system.api.finished(turn_id)
    assert turn["result"] == {"text": PLAIN.text}
    started = [e for e in agent.events() if e["kind"] == "message_start"]
    assert [event["payload"]["attempt"] for event in started] == [1, 2]


def test_an_interrupt_ends_a_stream_that_says_nothing(
    system: System, server: FakeServer, new_agent: NewAgent
) -> None:
    wire = wire_of("openai")
    stalled = Exchange(pieces=wire.unfinished(PLAIN), then="stall")
    server.gives(stalled)
    agent = new_agent(system.api, model="openai/some-model")
    turn_id = agent.send("Hello?")["turn_id"]
    agent.wait_for_text(turn_id)

    system.api.post(f"/agents/{agent.id}/interrupt")
    turn = system.api.finished(turn_id)

    stalled.release.set()
    assert turn["result"]["interrupted"] is True
    assert PLAIN.text.startswith(turn["result"]["text"])


def test_a_key_that_is_missing_fails_the_turn_and_a_new_one_needs_no_restart(
    system: System, server: FakeServer, new_agent: NewAgent
) -> None:
    wire = wire_of("openrouter")
    server.gives(Exchange(pieces=wire.frames(PLAIN)))
    before = (system.home / ".env").read_text()
    agent = new_agent(system.api, model="openrouter/some/model")
    without = before.replace(f"OPENROUTER_API_KEY={KEY}\n", "")
    (system.home / ".env").write_text(without)

    turn = system.api.finished(agent.send("Hello?")["turn_id"])

    assert turn["status"] == "failed"
    assert "OPENROUTER_API_KEY" in turn["error"]["message"]
    (system.home / ".env").write_text(before)
    system.api.post(f"/tasks/{turn['id']}/retry", {})
    wait_until(
        lambda: system.api.task(turn["id"])["status"] == "completed", 20, "it is done"
    )


def test_a_key_is_nowhere_but_on_the_wire(system: System) -> None:
    for table in ("events", "entries", "steps", "tasks", "updates", "agents"):
        shown = system.roost("sql", f"SELECT * FROM {table}", "--json").stdout
        assert shown
        assert KEY not in shown
    assert KEY not in system.log.read_text()
