"""What models are sent and say can be read in a file, and no key is anywhere."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agents.messages import Answer, ToolCall
from agents.models import ModelError, Request, open_model
from agents.models.redaction import REDACTED
from agents.models.scripted import ScriptedModel
from broker.settings import load
from tests.contract.wires.anthropic import AnthropicWire
from tests.contract.wires.server import Exchange, FakeServer
from workers.breakers import SharedBreakers
from workers.dumps import Dumps, dumps_of
from workers.variables import Variables

KEY = "sk-canary-0123456789abcdef"
NAME = "anthropic/claude-sonnet-5-5"
CALLING = Answer(
    text="Let me see.",
    tool_calls=(ToolCall(id="call_1", name="noop", arguments={}, raw_arguments="{}"),),
    stop_reason="tool_use",
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as running:
        yield running


@pytest.fixture
def dumps(tmp_path: Path) -> Dumps:
    return Dumps(directory=tmp_path / "dumps", find_secrets=lambda: [KEY])


def entries(dumps: Dumps, turn_id: str = "turn-1") -> list[dict[str, Any]]:
    path = dumps.directory / f"scout-{turn_id}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def take(workshop: Any, model: Any, dumps: Dumps, text: str = "hi") -> str:
    taker = workshop.taker(model)
    taker.dumps = dumps
    turn_id = workshop.house.post(text).turn_id
    workshop.work(taker)
    return str(turn_id)


@pytest.mark.line("G117")
def test_a_turn_s_calls_are_in_its_file_and_its_key_is_nowhere(
    workshop, server, tmp_path, monkeypatch
) -> None:
    """A server that repeats the key, in an answer and in a refusal."""
    monkeypatch.chdir(tmp_path)
    house = workshop.house
    environ = {
        **house.environ,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.url,
        "ROOST_MODEL_DEBUG_DIR": "dumps",
    }
    settings = load(environ, tmp_path)
    variables = Variables(settings, tmp_path)
    dumps = dumps_of(settings, variables)
    assert dumps is not None
    find = partial(
        open_model, find=variables.find, breakers=SharedBreakers(house.broker)
    )
    wire = AnthropicWire()
    refusal = wire.error_body(401, f"{KEY} is no key; Authorization: Bearer {KEY}")
    server.gives(
        Exchange(pieces=wire.frames(CALLING)), Exchange(status=401, body=refusal)
    )
    with capture_logs() as logs:
        turn_id = take(workshop, find, dumps, "Do something.")
    assert house.status(turn_id) == "failed"
    assert REDACTED in house.task(turn_id)["error"]

    found = entries(dumps, turn_id)
    assert [each["kind"] for each in found] == [
        "request",
        "event",
        "event",
        "answer",
        "request",
        "error",
    ]
    assert [each["index"] for each in found] == list(range(6))
    assert {(each["agent_id"], each["turn_id"]) for each in found} == {
        ("scout", turn_id)
    }
    sent = [each["payload"] for each in found if each["kind"] == "request"]
    assert sent == [asked.body for asked in server.asked]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert found[1]["payload"]["text"] == "Let me see."
    assert found[3]["payload"]["tool_calls"][0]["name"] == "noop"
    assert found[5]["payload"]["type"] == "unauthorized"

    path = dumps.directory / f"scout-{turn_id}.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(dumps.directory.stat().st_mode) == 0o700
    house.database.checkpoint()
    kept = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert b"Let me see." in kept
    assert KEY.encode() not in kept
    assert KEY not in repr(logs) + repr(house.events())


class Speaker:
    """Says pieces, and shows what it sends."""

    name, context_tokens = "acme/model", 100_000

    def __init__(self, *responses: dict[str, Any]) -> None:
        self.model = ScriptedModel(responses)

    def stream(self, request: Request, *more: Any) -> Answer:
        request.show({"said": f"https://x/?key=abc&k={KEY}", "api_key": "short"})
        return self.model.stream(request, *more)


@pytest.mark.line("G117")
def test_what_carries_a_key_is_redacted_also_when_it_is_said_in_pieces(
    workshop, dumps
) -> None:
    turn_id = take(workshop, Speaker({"text": f"It is {KEY} , really"}), dumps)
    request, event, answer = entries(dumps, turn_id)
    assert request["payload"] == {
        "said": f"https://x/?key={REDACTED}&k={REDACTED}",
        "api_key": REDACTED,
    }
    assert event["payload"]["text"] == f"It is {REDACTED} , really"
    assert answer["payload"]["text"] == f"It is {REDACTED} , really"


@pytest.mark.line("G117")
def test_who_takes_a_turn_over_appends_to_its_file(workshop, dumps) -> None:
    path = dumps.directory / "scout-turn-1.jsonl"
    dumps.directory.mkdir()
    path.write_text('{"index": 0}\n{"index": 1, "half')
    take(workshop, Speaker({"text": "on we go"}), dumps)
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"index": 0}', '{"index": 1, "half']
    assert [json.loads(line)["index"] for line in lines[2:]] == [2, 3, 4]


def test_a_call_that_fails_is_in_the_file_with_its_error(workshop, dumps) -> None:
    refusal = {"error": {"status": 400, "message": "no"}}
    turn_id = take(workshop, Speaker(refusal), dumps)
    assert workshop.house.status(turn_id) == "failed"
    assert [each["kind"] for each in entries(dumps, turn_id)] == ["request", "error"]


def test_a_directory_that_cannot_be_written_costs_the_turn_nothing(
    workshop, tmp_path
) -> None:
    (tmp_path / "file").write_text("in the way")
    dumps = Dumps(directory=tmp_path / "file" / "dumps", find_secrets=list)
    with capture_logs() as logs:
        turn_id = take(workshop, Speaker({"text": "fine"}), dumps)
    assert workshop.house.status(turn_id) == "completed"
    assert any("could not be dumped" in each["event"] for each in logs)


def test_nothing_is_dumped_where_nobody_asked_for_it(tmp_path) -> None:
    settings = load({"ROOST_HOME": str(tmp_path)}, tmp_path)
    assert dumps_of(settings, Variables(settings, tmp_path)) is None


def test_a_hook_s_failure_leaves_the_payload_in_the_file(dumps) -> None:
    """So that what the hook has refused can be read."""

    def refuse(payload: dict[str, Any]) -> None:
        raise ModelError("refused", kind="hook_failed", is_retriable=False)

    find = dumps.recording("scout", "turn-9", lambda _: Speaker({"text": "no"}))
    request = Request(system="", messages=(), tools=(), on_payload=refuse)
    with pytest.raises(ModelError, match="refused"):
        find(None).stream(request, lambda _: None, None)
    assert [e["kind"] for e in entries(dumps, "turn-9")] == ["request", "error"]
