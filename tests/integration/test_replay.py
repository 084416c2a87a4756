"""A turn recorded over HTTP and replayed: the same reply, the tools called again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.messages import ToolResult
from agents.models.replay import ReplayModel
from agents.tools import ToolContext, tool
from broker import entries, tasks
from webapp.app import create_app


class Look:
    """A tool that sees another thing each time."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def tool(self) -> Any:
        @tool(effect="idempotent")
        def look(_ctx: ToolContext, at: str) -> ToolResult:
            """Look."""
            self.seen.append(at)
            return ToolResult(text=f"{at}, look {len(self.seen)}")

        return look


CALL = {"id": "toolu_1", "name": "look", "arguments": {"at": "sky"}}
TWICE = [CALL, {"id": "toolu_2", "name": "look", "arguments": {"at": "sea"}}]
USAGE = {
    "input_tokens": 5,
    "output_tokens": 2,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
}
SCRIPT: tuple[dict[str, Any], ...] = (
    {"text": "I look.", "reasoning": "Hm.", "tool_calls": TWICE, "usage": USAGE},
    {"error": {"status": 503}},
    {"tool_calls": [{**CALL, "id": "toolu_3"}]},
    {"text": "All is  blue.\n"},
)


def cassette_of(house, id: str) -> Any:
    client = create_app(house.broker.settings, house.broker).test_client()
    return client.get(
        f"/api/v1/tasks/{id}/cassette", headers={"Authorization": "Bearer secret"}
    )


@pytest.fixture
def house(open_house):
    return open_house(ROOST_TOKEN="secret")


@pytest.fixture
def look() -> Look:
    return Look()


@pytest.fixture
def recorded(house, workshop, scripted, look, tmp_path: Path) -> ReplayModel:
    """The cassette of a turn with three calls and one failed attempt."""
    id = house.post("What do you see?").turn_id
    taker = workshop.taker(scripted(*SCRIPT), tools=[look.tool])
    while house.status(id) != "completed":
        with house.write() as tx:
            tx.execute("UPDATE tasks SET not_before_at = NULL WHERE id = ?", id)
        taker.take(id)
    house.hints.clear()
    file = tmp_path / "cassette.json"
    file.write_bytes(cassette_of(house, id).data)
    return ReplayModel.from_file(file)


def said(house, agent_id: str) -> list[tuple[Any, ...]]:
    """What an agent's model said, and which calls it made with which ids."""
    return [
        (each["type"], each["content"], each["tool_call_id"], each["usage"])
        for each in entries.list_after(house.database, agent_id)
        if each["role"] == "assistant"
    ]


def test_a_turn_is_replayed_with_its_tools_called_again(
    house, workshop, recorded, look
) -> None:
    assert look.seen == ["sky", "sea", "sky"]
    house.agent("ranger")
    id = house.post("And you?", to="ranger").turn_id
    workshop.work(workshop.taker(recorded, tools=[look.tool]))
    assert tasks.shape(house.task(id))["result"] == {"text": "All is  blue.\n"}
    assert look.seen == ["sky", "sea", "sky"] * 2
    assert said(house, "ranger") == said(house, "scout")


def test_a_replay_goes_on_where_its_worker_died(
    house, workshop, recorded, look, died
) -> None:
    house.agent("ranger")
    id = house.post("And you?", to="ranger").turn_id
    asked = []

    class Dying(ReplayModel):
        def stream(self, *arguments: Any) -> Any:
            asked.append(1)
            if len(asked) == 2:
                raise died
            return recorded.stream(*arguments)

    with pytest.raises(died):
        workshop.taker(Dying([]), tools=[look.tool]).take(id)
    workshop.bury()
    workshop.taker(Dying([]), "worker-2", tools=[look.tool]).take(id)
    assert tasks.shape(house.task(id))["result"] == {"text": "All is  blue.\n"}
    assert look.seen == ["sky", "sea", "sky"] * 2
    assert said(house, "ranger") == said(house, "scout")


def test_a_second_message_is_beyond_the_end(house, workshop, recorded, look) -> None:
    taker = workshop.taker(recorded, tools=[look.tool])
    id = house.post("once more").turn_id
    workshop.work(taker)
    error = tasks.shape(house.task(id))["error"]
    assert (error["type"], "unexpected call 4" in error["message"]) == ("script", True)


def test_a_cassette_has_what_was_heard_and_answered_and_nothing_else(
    house, workshop, scripted
) -> None:
    id = house.post("hello").turn_id
    workshop.work(workshop.taker(scripted({"text": "hi", "usage": USAGE})))
    found = cassette_of(house, id)
    assert (found.status_code, json.loads(found.data)) == (
        200,
        {
            "turn_id": id,
            "agent_id": "scout",
            "model": "scripted",
            "answers": [
                {
                    "inputs": ["hello"],
                    "text": "hi",
                    "reasoning": "",
                    "tool_calls": [],
                    "stop_reason": "end",
                    "usage": USAGE,
                }
            ],
        },
    )


def test_what_has_no_cassette_says_why(house, workshop, scripted) -> None:
    id = house.post("hello").turn_id
    exec_id = house.create()["id"]
    found = {each: cassette_of(house, each) for each in (id, exec_id, "ghost")}
    assert [each.status_code for each in found.values()] == [409, 409, 404]
    assert "is queued; it can be recorded when it has ended" in found[id].json["detail"]
    assert "only a turn can be recorded" in found[exec_id].json["detail"]
    workshop.work(workshop.taker(scripted({"error": {"status": 400}})))
    assert "no answer of a model" in cassette_of(house, id).json["detail"]
