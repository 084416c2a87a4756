"""Agents side by side, and the messages of one agent in their order."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import JSON, Agent, Api, text_of

BOTH_SECONDS = 3.5  # two waits of two seconds, one after the other, would take four


def _span(turn: JSON) -> tuple[datetime, datetime]:
    began, ended = turn["started_at"], turn["finished_at"]
    return datetime.fromisoformat(began), datetime.fromisoformat(ended)


@pytest.mark.line("G53")
def test_two_agents_answer_at_the_same_time(api: Api, new_agent: NewAgent) -> None:
    agents = [new_agent(api), new_agent(api)]
    began_at = time.monotonic()

    turn_ids = [agent.send("wait 2")["turn_id"] for agent in agents]
    turns = [api.finished(id) for id in turn_ids]

    assert time.monotonic() - began_at < BOTH_SECONDS
    assert all("waited 2 s" in turn["result"]["text"] for turn in turns)


@pytest.mark.line("G53", "G21")
def test_one_agent_takes_ten_messages_one_at_a_time_in_order(
    scripted: NewAgent,
) -> None:
    rules = [
        {
            "when": {"matches": rf"\Aquestion {n}\Z"},
            "text": f"answer {n}",
            "delay_seconds": 0.02,
        }
        for n in range(10)
    ]
    agent = scripted(*rules)

    turn_ids = [agent.send(f"question {n}")["turn_id"] for n in range(10)]
    turns = [agent.api.finished(id) for id in turn_ids]

    assert len(set(turn_ids)) == 10
    spoken = [text_of(each) for each in agent.conversation()]
    assert spoken == [
        f"{word} {n}" for n in range(10) for word in ("question", "answer")
    ]
    assert [turn["result"]["text"] for turn in turns] == spoken[1::2]
    spans = [_span(turn) for turn in turns]
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


@pytest.mark.line("G18")
def test_a_message_that_wakes_nobody_is_shown_in_the_next_turn(
    scripted: NewAgent,
) -> None:
    agent = scripted({"text": "I have read it all."})

    normal = agent.send("The kettle is on.", priority="normal")
    low = agent.send("It rains.", priority="low")
    assert (normal["turn_id"], low["turn_id"]) == (None, None)
    assert agent.tasks() == []
    assert agent.read()["unread"] == 2
    reply = agent.ask("What is new?")

    (message,) = agent.entries("user_message")
    shown = "\n".join(block["text"] for block in message["content"])
    assert reply == "I have read it all."
    assert shown.startswith("What is new?")
    assert "The kettle is on." in shown
    assert "It rains." in shown
    assert agent.read()["unread"] == 0


def test_an_agent_is_queued_then_running_then_idle(demo: Agent) -> None:
    assert demo.read()["state"] == "idle"

    turn_id = demo.send("slow")["turn_id"]
    demo.wait_for_text(turn_id)
    while_it_speaks = demo.read()
    demo.api.post(f"/agents/{demo.id}/interrupt")
    demo.api.finished(turn_id)

    assert (while_it_speaks["state"], while_it_speaks["turn_id"]) == (
        "running",
        turn_id,
    )
    assert (demo.read()["state"], demo.read()["turn_id"]) == ("idle", None)


def test_the_same_request_id_comes_back_with_the_message(scripted: NewAgent) -> None:
    agent = scripted({"text": "ok"})

    said = agent.send("hello", request_id="request-7")

    assert said["request_id"] == "request-7"
    (event,) = agent.events(stream="task_input")
    assert event["id"] == said["event_id"]
    assert event["payload"]["request_id"] == "request-7"
    agent.api.finished(said["turn_id"])
