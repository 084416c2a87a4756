"""Agents that ask, await and answer one another, through the tools of real turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agents.models.base import Request
from agents.models.scripted import ScriptedModel
from broker import entries, recovery, tasks, together, why
from broker.agents import AgentChange, upsert
from broker.database import Row
from broker.times import now_us
from sandbox.outcome import Outcome


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def when(contains: str, response: dict[str, Any]) -> dict[str, Any]:
    return {"when": {"contains": contains}, **response}


def say(text: str) -> dict[str, Any]:
    return {"text": text}


@pytest.fixture
def cast(house, workshop) -> Callable[..., Any]:
    """A taker for agents that each follow rules of their own."""

    def make(**rules: list[dict[str, Any]]) -> Any:
        models = {name: ScriptedModel(script, name) for name, script in rules.items()}
        for name in rules:
            house.agent(name, model=name)
        return workshop.taker(lambda name: models[name or "scout"])

    return make


def take(house, taker, id: str) -> None:
    """Take this turn now, before what else was hinted."""
    if id in house.hints:
        house.hints.remove(id)
    taker.take(id)


def heard(house, agent_id: str) -> list[tuple[str, str, str]]:
    return [
        (event["kind"], event["body"], event["priority"])
        for event in house.events(scope=f"agent/{agent_id}", stream="task_input")
    ]


def results(house, agent_id: str = "scout") -> list[Any]:
    return [
        each["content"][0]["text"]
        for each in entries.list_after(house.database, agent_id)
        if each["type"] == "tool_result"
    ]


def loops(house) -> list[Row]:
    return [e for e in house.events(stream="errors") if e["kind"] == "loop_stopped"]


def reply(house, id: str) -> str:
    return str(tasks.shape(house.task(id))["result"]["text"])


def end_wait(house) -> None:
    """Let the time of every wait come."""
    with house.write() as tx:
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        recovery.wake_due(tx)


# Asking, and being answered.


@pytest.mark.line("G70")
def test_an_agent_that_is_new_is_made_as_a_child_and_answers(house, cast) -> None:
    ask = call("delegate", agent_id="ranger", text="how far?", wait_seconds=60)
    taker = cast(
        scout=[
            when("how far?", say("seven miles")),
            when("please", ask),
            when('"text": "seven miles"', say("It is seven miles.")),
        ]
    )
    id = house.post("please").turn_id
    while house.hints:
        taker.take(house.hints.pop(0))
    assert reply(house, id) == "It is seven miles."
    row = house.database.read_one("SELECT parent_id FROM agents WHERE id = 'ranger'")
    assert row == {"parent_id": "scout"}
    assert heard(house, "scout") == [("message", "please", "wake")]


@pytest.mark.line("G70")
def test_the_answer_to_a_question_in_the_background_comes_as_a_message(
    house, workshop, cast
) -> None:
    taker = cast(
        scout=[
            when(
                "please", call("delegate", agent_id="owl", text="why?", wait_seconds=0)
            ),
            when('"pending": true', say("I have asked.")),
            when("Because.", say("I see.")),
        ],
        owl=[when("why?", say("Because."))],
    )
    id = house.post("please").turn_id
    workshop.work(taker)
    assert reply(house, id) == "I have asked."
    assert heard(house, "scout") == [
        ("message", "please", "wake"),
        ("reply", "Because.", "wake"),
    ]
    asked = house.events(scope="agent/owl", stream="task_input")[0]
    answer = house.events(scope="agent/scout", stream="task_input")[1]
    assert (asked["hop"], answer["hop"], answer["cause_id"]) == (1, 2, asked["id"])
    assert answer["payload"]["request_id"] == asked["payload"]["request_id"]
    assert [e["text"] for e in texts(house, "scout", "assistant_message")] == [
        "I have asked.",
        "I see.",
    ]


def texts(house, agent_id: str, type: str) -> list[dict[str, str]]:
    return [
        block
        for each in entries.list_after(house.database, agent_id)
        if each["type"] == type
        for block in each["content"]
        if block.get("text")
    ]


def asking(seconds: float) -> dict[str, list[dict[str, Any]]]:
    ask = call("delegate", agent_id="owl", text="why?", wait_seconds=seconds)
    return {
        "scout": [
            when("please", ask),
            when("timeout", say("No answer yet.")),
            when("Because.", say("I see.")),
        ],
        "owl": [when("why?", say("Because."))],
    }


def test_an_answer_after_the_wait_is_over_comes_as_a_message(
    house, workshop, cast
) -> None:
    taker = cast(**asking(60))
    id = house.post("please").turn_id
    take(house, taker, id)
    assert house.status(id) == "waiting"
    end_wait(house)
    take(house, taker, id)
    assert reply(house, id) == "No answer yet."
    workshop.work(taker)
    assert heard(house, "scout")[1:] == [("reply", "Because.", "wake")]


def test_an_answer_in_time_does_not_come_twice(house, workshop, cast) -> None:
    taker = cast(**asking(60))
    id = house.post("please").turn_id
    workshop.work(taker)
    assert reply(house, id) == "I see."
    assert heard(house, "scout") == [("message", "please", "wake")]


def test_an_agent_that_fails_tells_who_asked(house, workshop, cast) -> None:
    taker = cast(
        scout=[
            when(
                "please", call("delegate", agent_id="owl", text="why?", wait_seconds=0)
            ),
            when("pending", say("I have asked.")),
            when("could not answer", say("A pity.")),
        ],
        owl=[when("why?", {"error": {"status": 401, "message": "No key."}})],
    )
    house.post("please")
    workshop.work(taker)
    told = house.events(scope="agent/scout", stream="task_input")[1]
    assert (told["body"], told["payload"]["failed"]) == (
        "I could not answer: No key.",
        True,
    )
    assert texts(house, "scout", "assistant_message")[-1]["text"] == "A pity."


def test_a_question_taken_in_before_a_crash_is_answered_by_the_next_worker(
    house, workshop, scripted, died
) -> None:
    house.agent("owl")
    script = [call("noop"), say("both of you")]
    id = house.post("why?", to="owl", source="agent/scout").turn_id
    house.agent("mole")
    house.post("why not?", to="owl", source="agent/mole")
    with pytest.raises(died):
        workshop.taker(scripted(*script, dies_at=2)).take(id)
    workshop.bury()
    workshop.taker(scripted(*script), "worker-2").take(id)
    for asker in ("scout", "mole"):
        assert heard(house, asker) == [("reply", "both of you", "wake")]


# Awaiting an agent.


@pytest.mark.line("G77")
def test_an_agent_that_is_awaited_gives_the_turn_that_answers_who_waits(
    house, workshop, cast
) -> None:
    taker = cast(
        scout=[
            when("please", call("send_task", task_id="owl", body="why?")),
            when('"ok": true', call("await_task", task_id="owl", wait_seconds=60)),
            when("Because.", say("I see.")),
        ],
        owl=[when("why?", say("Because.")), when("hello", say("good day"))],
    )
    house.post("hello", to="owl")
    id = house.post("please").turn_id
    take(house, taker, id)
    house.post("hello", to="owl")
    workshop.work(taker)
    assert reply(house, id) == "I see."
    assert heard(house, "scout") == [("message", "please", "wake")]


@pytest.mark.line("G32", "G77")
def test_an_agent_that_has_nothing_to_do_gives_its_last_result_at_once(
    house, workshop, cast
) -> None:
    taker = cast(
        scout=[
            when("please", call("await_task", task_id="owl", wait_seconds=60)),
            when("good day", say("I see.")),
        ],
        owl=[when("hello", say("good day"))],
    )
    house.post("hello", to="owl")
    workshop.work(taker)
    id = house.post("please").turn_id
    take(house, taker, id)
    assert reply(house, id) == "I see."


@pytest.mark.line("G77")
def test_an_agent_that_answers_somebody_else_gives_that_turn(
    house, workshop, cast
) -> None:
    taker = cast(
        scout=[
            when("please", call("await_task", task_id="owl", wait_seconds=60)),
            when("good day", say("I see.")),
        ],
        owl=[when("hello", say("good day"))],
    )
    house.post("hello", to="owl")
    id = house.post("please").turn_id
    take(house, taker, id)
    assert house.status(id) == "waiting"
    workshop.work(taker)
    assert reply(house, id) == "I see."


# Loops.


def ping_pong(other: str) -> list[dict[str, Any]]:
    """Send a ping for a ping; and again when an answer steered before it was sent."""
    return [
        when("limit is", say("I stop.")),
        when('"ok": true', say("done")),
        when("ping", call("send_task", task_id=other, body="ping")),
        when("done", call("send_task", task_id=other, body="ping")),
        when("", say("noted")),
    ]


@pytest.mark.line("P19")
def test_two_agents_that_ping_each_other_come_to_rest_and_it_is_told(
    house, workshop, cast
) -> None:
    taker = cast(scout=ping_pong("owl"), owl=ping_pong("scout"))
    house.post("ping")
    workshop.work(taker)
    pings = [e["hop"] for e in house.events(stream="task_input") if e["body"] == "ping"]
    assert pings == list(range(11))
    refusals = [r for r in results(house) + results(house, "owl") if "limit" in r]
    assert len(refusals) == 1
    refusal = refusals[0]
    assert "owl and scout have written to each other 11 times in a row" in refusal
    assert "nothing was sent" in refusal
    assert (house.state(), house.state("owl")) == ("idle", "idle")
    refused = next(each for each in loops(house) if each["body"] == refusal)
    assert refused["scope"] == "agent/scout"
    assert len(refused["payload"]["chain"]) == 11
    # The last ping was accepted: its answer is written, and wakes nobody.
    assert heard(house, "owl")[-1] == ("reply", "I stop.", "normal")
    chain = why.explain(house.database, str(refused["id"]))["chain"]
    assert chain[0]["what"].endswith("ping")
    assert chain[-1]["id"] == refused["id"]


def test_a_circle_of_three_comes_to_rest(house, workshop, cast) -> None:
    def pass_on(to: str) -> list[dict[str, Any]]:
        return [
            when("A chain of messages among", say("I stop.")),
            when("round", call("send_task", task_id=to, body="round")),
            when('"ok": true', say("done")),
            when("", say("noted")),
        ]

    taker = cast(scout=pass_on("owl"), owl=pass_on("mole"), mole=pass_on("scout"))
    house.post("round")
    workshop.work(taker)
    rounds = [
        e["hop"] for e in house.events(stream="task_input") if e["body"] == "round"
    ]
    assert rounds == list(range(together.HOPS_LIMIT + 1))
    assert {name for each in loops(house) for name in each["payload"]["agents"]} == {
        "scout",
        "owl",
        "mole",
    }


def test_a_circle_of_agents_that_wait_for_one_another_comes_to_rest(
    house, workshop, cast
) -> None:
    """Each turn takes the question in that comes round; all of them are answered."""

    def pass_on(to: str) -> list[dict[str, Any]]:
        ask = call("delegate", agent_id=to, text="pass it on", wait_seconds=60)
        return [
            when("so nothing was sent", say("I stop.")),
            when("pass it on", ask),
            when("", say("noted")),
        ]

    taker = cast(scout=pass_on("owl"), owl=pass_on("mole"), mole=pass_on("scout"))
    house.post("pass it on")
    workshop.work(taker)
    while any(house.state(name) != "idle" for name in ("scout", "owl", "mole")):
        end_wait(house)  # a message that wakes ends a wait after a grace
        workshop.work(taker)
    asked = [e for e in house.events(stream="task_input") if e["body"] == "pass it on"]
    assert [e["hop"] for e in asked] == list(range(together.HOPS_LIMIT + 1))
    assert [set(each["payload"]["agents"]) for each in loops(house)] == [
        {"scout", "owl", "mole"}
    ]
    replied = [e["cause_id"] for e in house.events() if e["kind"] == "reply"]
    awaited = [e["id"] for e in asked if e["id"] not in replied]
    assert sorted(replied) == [e["id"] for e in asked if e["id"] in replied]
    # A person asked first; of the others, one was still waited for when it ended.
    assert awaited == [asked[0]["id"], asked[-1]["id"]]


def test_code_in_the_background_does_not_hide_a_loop(
    house, workshop, cast, sandbox
) -> None:
    """What an exec tells has the hop of the turn that started it."""

    def pass_on(to: str) -> list[dict[str, Any]]:
        return [
            when("A chain of messages among", say("I stop.")),
            when("pass it on", call("exec", code="1", wait_seconds=0)),
            when('"pending": true', say("done")),
            when("completed", call("send_task", task_id=to, body="pass it on")),
            when("", say("noted")),
        ]

    taker = cast(scout=pass_on("owl"), owl=pass_on("scout"))
    house.post("pass it on")
    outcomes = [Outcome(status="completed", result=1)] * 17
    with sandbox(*outcomes) as cage:
        workshop.work(taker, workshop.runner(cage))
    passed = [
        e["hop"] for e in house.events(stream="task_input") if e["body"] == "pass it on"
    ]
    assert passed == list(range(together.HOPS_LIMIT + 1))
    assert loops(house)


def test_a_person_may_ask_for_more_after_a_loop_was_stopped(
    house, workshop, cast
) -> None:
    taker = cast(scout=ping_pong("owl"), owl=ping_pong("scout"))
    house.post("ping")
    workshop.work(taker)
    before = house.events()[-1]["id"]
    house.post("ping once more", to="owl")
    workshop.work(taker)
    (first, *_) = house.events(after=before, scope="agent/scout", stream="task_input")
    assert (first["body"], first["hop"], first["priority"]) == ("ping", 1, "wake")


# Limits of one turn and of what an agent makes.


class Many:
    """A model that makes so many calls at once, and then says what came of them."""

    name = "many"
    context_tokens = 200_000

    def __init__(self, *calls: dict[str, Any]) -> None:
        self._script = ScriptedModel(
            [{"tool_calls": [c["tool_calls"][0] for c in calls]}, say("done")]
        )

    def stream(self, request: Request, emit: Any, interrupt: Any) -> Any:
        return self._script.stream(request, emit, interrupt)


def test_an_agent_may_have_only_so_much_under_way(house, workshop) -> None:
    """The calls of an answer are made together: any of them may be the one too many."""
    limit = together.FAN_OUT_LIMIT
    execs = [call("exec", code="1", wait_seconds=0)] * (limit - 1)
    asked = [
        call("delegate", agent_id=f"a{n}", text="x", wait_seconds=0) for n in range(2)
    ]
    id = house.post("please").turn_id
    take(house, workshop.taker(Many(*execs, *asked)), id)
    refused = [each for each in results(house) if "pending" not in each]
    assert refused == [
        "This turn has 64 execs and questions to agents under way; the limit is 64."
        " Wait for some of them with await_task, or kill some, before the next."
    ]
    made = house.database.read("SELECT 1 AS x FROM tasks WHERE id <> ?", id)
    assert len(made) == limit


def test_an_agent_writes_to_one_other_only_so_often(house, workshop) -> None:
    house.agent("owl")
    calls = [call("send_task", task_id="owl", body="x")] * (together.PAIR_LIMIT + 1)
    take(house, workshop.taker(Many(*calls)), house.post("please").turn_id)
    found = results(house)
    (refusal,) = [each for each in found if "has reached its limit" in each]
    assert refusal.startswith(
        "What scout may write to owl within 60 seconds has reached its limit of 30"
    )
    assert [json.loads(r)["ok"] for r in found if r is not refusal] == [True] * 30


def test_an_agent_deep_down_makes_no_more_agents(house, workshop) -> None:
    with house.write() as tx:
        for depth in range(1, together.DEPTH_LIMIT + 1):
            parent = f"a{depth - 1}" if depth > 1 else "scout"
            upsert(tx, f"a{depth}", AgentChange(), parent_id=parent)
    ask = call("delegate", agent_id="deeper", text="x", wait_seconds=0)
    id = house.post("please", to="a8").turn_id
    take(house, workshop.taker(Many(ask)), id)
    assert results(house, "a8") == [
        "A new agent would be 9 agents below the one that a person made; the limit"
        " is 8. Do the work yourself, or ask an agent that there is."
    ]


def test_a_call_that_is_repeated_counts_once(house, workshop, died) -> None:
    limit = together.FAN_OUT_LIMIT
    calls = [call("exec", code="1", wait_seconds=0)] * limit
    id = house.post("please").turn_id
    hint, seen = house.database.hint, []

    def die(type: str, name: str) -> None:
        hint(type, name)
        seen.append(name)
        if len(seen) == limit:
            raise died

    house.database.hint = die
    with pytest.raises(died):
        take(house, workshop.taker(Many(*calls)), id)
    house.database.hint = hint
    workshop.bury()
    workshop.taker(Many(*calls), "worker-2").take(id)
    assert reply(house, id) == "done"
    assert all("pending" in each for each in results(house))
    assert len(tasks.list_page(house.database, type="exec")) == limit
