"""The adapters against a server that we did not write: npm's @copilotkit/aimock.

It speaks the providers' protocols as somebody else has read them, so it finds what our
own server (test_models) has misread in the same way as the adapter. It judges no
requests: those are judged by the SDKs' types, there.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from agents.control import Interrupt
from agents.messages import Answer, AssistantMessage, Message, ToolMessage, ToolResult
from agents.models import Delta, Model, ModelError, Request, open_model
from tests.contract.test_models import WEATHER, said

AIMOCK: Final = Path(__file__).parents[1] / "aimock"
START_SECONDS: Final = 30
# How each provider's variable names the server; the paths are those of its own.
PLACES: Final = {
    "anthropic": ("ANTHROPIC_BASE_URL", ""),
    "openai": ("OPENAI_BASE_URL", "/v1"),
    "openai-chat": ("OPENAI_BASE_URL", "/v1"),
    "openrouter": ("OPENROUTER_BASE_URL", "/api/v1"),
    "ollama": ("OLLAMA_HOST", ""),
    "google": ("GOOGLE_GEMINI_BASE_URL", ""),
}


@dataclass
class Aimock:
    """The server, and one provider's model connected to it."""

    port: int
    model: Model
    deltas: list[Delta] = field(default_factory=list)

    def ask(self, *messages: Message, **more: Any) -> Answer:
        request = Request(
            system="You are brief.", messages=messages, tools=(WEATHER,), **more
        )
        return self.model.stream(request, self.deltas.append, Interrupt())

    def heard(self, kind: str) -> str:
        return "".join(d.text for d in self.deltas if d.kind == kind)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A running aimock, installed by Bun from the lock file."""
    directory = tmp_path_factory.mktemp("aimock")
    shutil.copytree(AIMOCK, directory, dirs_exist_ok=True)
    bun = Path(sys.executable).with_name("bun")
    subprocess.run(
        [bun, "install", "--frozen-lockfile", "--silent"],
        cwd=directory,
        check=True,
        timeout=120,
    )
    program = "node_modules/@copilotkit/aimock/dist/cli.js"
    with subprocess.Popen(
        [bun, "run", program, "-p", "0", "-f", "fixtures.json", "--strict"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield _port(process.stdout)
        finally:
            process.terminate()


def _port(lines: Any) -> int:
    for line in lines:
        if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("aimock has not started")


@pytest.fixture(params=PLACES)
def aimock(
    request: pytest.FixtureRequest, port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Aimock]:
    """Each provider, on aimock; no faults but those that a test asks for."""
    variable, path = PLACES[request.param]
    found = {variable: f"http://127.0.0.1:{port}{path}"}
    # aimock speaks Google's older version alone; the SDK reads which one from here.
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1beta")
    # One that is in aimock's list: OpenRouter's models are looked up before the call.
    name = f"{request.param}/openai/gpt-4o"
    model = open_model(name, lambda n: found.get(n, "a-key"))
    yield Aimock(port, model)
    _send(port, "DELETE", None)


def _send(port: int, method: str, body: dict[str, Any] | None) -> None:
    """Set or clear the faults."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json"}
    connection.request(
        method, "/__aimock/chaos", json.dumps(body) if body else None, headers
    )
    assert connection.getresponse().status < 300
    connection.close()


def test_text_and_reasoning_are_streamed(aimock: Aimock) -> None:
    answer = aimock.ask(said("hello"), thinking="low")
    assert answer.text == "Hello to you, too, from far away."
    assert aimock.heard("text") == answer.text
    assert answer.reasoning in ("They greet me.", "")
    assert aimock.heard("reasoning") == answer.reasoning
    assert answer.stop_reason == "end"


# aimock's own word for why Google stops; the real one has none of that name.
@pytest.mark.filterwarnings("ignore:FUNCTION_CALL is not a valid FinishReason")
def test_parallel_calls_and_their_results_make_a_second_round(aimock: Aimock) -> None:
    question = said("What is the weather?")
    first = aimock.ask(question)
    assert [call.arguments for call in first.tool_calls] == [
        {"town": "Ulm"},
        {"town": "Bonn"},
    ]
    assert first.stop_reason == "tool_use"
    results = [
        ToolMessage(call_id=c.id, name=c.name, result=ToolResult(text="sunny"))
        for c in first.tool_calls
    ]
    second = aimock.ask(question, AssistantMessage(answer=first), *results)
    assert second.text == "It is sunny in Ulm and it rains in Bonn."


def test_a_server_that_is_busy_is_heeded(aimock: Aimock) -> None:
    with pytest.raises(ModelError, match="slow down") as raised:
        aimock.ask(said("busy"))
    assert (raised.value.kind, raised.value.is_retriable) == ("rate_limited", True)
    assert raised.value.retry_after_seconds == 1.0


@pytest.mark.parametrize("fault", ["dropRate", "malformedRate", "disconnectRate"])
def test_a_server_that_breaks_is_tried_again(aimock: Aimock, fault: str) -> None:
    _send(aimock.port, "POST", {fault: 1})
    with pytest.raises(ModelError) as raised:
        aimock.ask(said("hello"))
    assert raised.value.is_retriable
