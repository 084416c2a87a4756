"""What ends the wait of a turn, and what does not (G31 to G38, G69)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.models.scripted import ScriptedModel
from broker import agents, entries, recovery, tasks, updates, waking
from broker.states import Priority
from broker.times import SECOND_US, now_us
from sandbox import Failure, Outcome

WAIT_SECONDS = 600
DONE = Outcome(status="completed", result=4, exit_code=0)


def calls(*made: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"tool_calls": [{"name": n, "arguments": given} for n, given in made]}


def start(id: str) -> tuple[str, dict[str, Any]]:
    return "exec", {"code": "4", "wait_seconds": 0, "id": id}


def await_(task_id: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return "await_task", {"task_id": task_id, "wait_seconds": WAIT_SECONDS, **more}


def results(house: Any) -> list[Any]:
    return [
        json.loads(each["content"][0]["text"])
        for each in entries.list_after(house.database, "scout")
        if each["type"] == "tool_result"
    ]


def texts(house: Any, type: str) -> list[str]:
    return [
        block["text"]
        for each in entries.list_after(house.database, "scout")
        if each["type"] == type
        for block in each["content"]
        if block.get("text")
    ]


def end(house: Any, id: str, result: Any = 4) -> None:
    """End an exec as its worker would."""
    row = house.claim(id, by="exec-worker")
    with house.write() as tx:
        tasks.complete(tx, id, row["epoch"], result)


def take(house: Any, taker: Any, id: str) -> None:
    """Take a turn, or go on with it; leave all else that was hinted."""
    house.hints[:] = [each for each in house.hints if each != id]
    taker.take(id)


def let_the_wait_end(house: Any) -> None:
    """Let the deadline of every wait come."""
    with house.write() as tx:
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        recovery.wake_due(tx)


def seconds_left(house: Any) -> float:
    (row,) = house.database.read("SELECT DISTINCT deadline_at FROM waits")
    return float((row["deadline_at"] - now_us()) / SECOND_US)


def unread(house: Any) -> int:
    return int(agents.get(house.database, "scout")["unread"])


@pytest.fixture
def waiting(house, workshop, scripted) -> Any:
    """A turn that has started `mine` and waits for it; and who takes it."""
    script = [calls(start("mine")), calls(await_("mine")), {"text": "I see."}]
    taker = workshop.taker(scripted(*script))
    id = house.post("go").turn_id
    take(house, taker, id)
    assert house.status(id) == "waiting"
    return id, taker


# How long.


@pytest.mark.line("G31", "G75")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("exec", {"code": "4"}),
        ("await_task", {"task_id": "mine"}),
        ("delegate", {"agent_id": "owl", "text": "why?"}),
    ],
)
def test_a_wait_has_no_default_and_without_one_nothing_is_begun(
    house, workshop, scripted, tool: str, arguments: dict[str, Any]
) -> None:
    house.post("go")
    script = [calls((tool, arguments)), {"text": "I see."}]
    workshop.work(workshop.taker(scripted(*script)))
    (refusal,) = texts(house, "tool_result")
    assert refusal.startswith("Nothing was run: ")
    assert "'wait_seconds' is a required property" in refusal
    assert tasks.list_page(house.database, type="exec") == []
    assert [each["id"] for each in agents.list_page(house.database)] == ["scout"]


@pytest.mark.line("G31")
def test_a_wait_is_as_long_as_was_said_and_holds_no_worker(house, waiting) -> None:
    id, _ = waiting
    assert WAIT_SECONDS - 10 < seconds_left(house) <= WAIT_SECONDS
    assert house.task(id)["lease_owner"] is None
    end(house, "mine")  # in that transaction the turn is hinted: nobody polls
    assert (house.status(id), house.hints[-1]) == ("queued", id)


@pytest.mark.line("G32")
def test_what_is_over_already_is_returned_without_a_wait(
    house, workshop, scripted
) -> None:
    house.create(id="mine")
    end(house, "mine")
    id = house.post("go").turn_id
    taker = workshop.taker(scripted(calls(await_("mine")), {"text": "I see."}))
    take(house, taker, id)
    assert house.status(id) == "completed"
    assert results(house) == [{"task_id": "mine", "status": "completed", "result": 4}]


@pytest.mark.line("G33", "G77")
def test_a_wait_whose_time_is_over_is_told_and_its_task_goes_on(house, waiting) -> None:
    id, taker = waiting
    house.claim("mine", by="exec-worker")
    let_the_wait_end(house)
    take(house, taker, id)
    assert results(house)[1] == {
        "task_id": "mine",
        "status": "running",
        "pending": True,
        "background": True,
        "await_error": "timeout: the wait ended before the task did; it goes on",
    }
    (told,) = updates.list_after(house.database, "mine", kind="await_timeout")
    assert told["payload"] == {"timeout_ms": WAIT_SECONDS * 1000, "turn_id": id}
    assert (house.status(id), house.status("mine")) == ("completed", "running")


@pytest.mark.line("G33", "G37")
def test_a_turn_that_waits_for_something_else_by_now_is_woken_by_the_end(
    house, workshop, scripted
) -> None:
    house.create(id="other")
    script = [
        calls(start("mine")),
        calls(await_("mine", wait_seconds=1)),
        calls(await_("other")),
        {"text": "I see."},
    ]
    taker = workshop.taker(scripted(*script))
    id = house.post("go").turn_id
    take(house, taker, id)
    let_the_wait_end(house)
    take(house, taker, id)
    assert house.status(id) == "waiting"
    end(house, "mine")
    assert house.status("turn-2") == "queued"
    let_the_wait_end(house)
    take(house, taker, id)
    assert results(house)[2]["await_error"].startswith("wake")
    assert texts(house, "wake") == ["Task mine: completed. Its result: 4"]


@pytest.mark.line("G33", "G37")
def test_the_end_after_a_wait_that_was_over_wakes_the_agent(house, waiting) -> None:
    id, taker = waiting
    let_the_wait_end(house)
    take(house, taker, id)
    end(house, "mine")
    assert house.status("turn-2") == "queued"
    assert unread(house) == 1


@pytest.mark.line("G37")
def test_the_end_of_what_is_awaited_is_kept_in_the_turn_and_wakes_nobody_else(
    house, waiting
) -> None:
    id, taker = waiting
    end(house, "mine")
    take(house, taker, id)
    assert results(house)[1]["result"] == 4
    assert (tasks.find(house.database, "turn-2"), unread(house)) == (None, 0)


@pytest.mark.line("G37")
def test_an_end_from_before_the_wait_stays_unread_until_the_turn_reads_it(
    house, workshop
) -> None:
    """Whoever ignores what await_task returns still hears of it."""
    script = [
        {"when": {"matches": "^go$"}, **calls(start("mine"))},
        {"when": {"contains": '"background"'}, **calls(await_("mine"))},
        {"when": {"contains": "Task mine: completed"}, "text": "I have heard."},
    ]

    class Late(ScriptedModel):
        """`mine` ends while the model asks to wait for it."""

        def stream(self, request: Any, *more: Any) -> Any:
            answer = super().stream(request, *more)
            if answer.tool_calls and answer.tool_calls[0].name == "await_task":
                end(house, "mine")
                assert (house.status("turn-2"), unread(house)) == ("queued", 2)
            return answer

    id = house.post("go").turn_id
    take(house, workshop.taker(Late(script)), id)
    assert results(house)[1]["result"] == 4
    assert tasks.shape(house.task(id))["result"] == {"text": "I have heard."}
    assert tasks.shape(house.task("turn-2"))["result"]["absorbed_by"] == id


# What wakes.


@pytest.mark.line("G34")
def test_a_message_gives_the_task_200_ms_to_win(house, waiting) -> None:
    id, taker = waiting
    house.post("hurry")
    assert waking.GRACE_SECONDS == 0.2
    assert 0 < seconds_left(house) <= 0.2
    assert house.status(id) == "waiting"
    end(house, "mine")
    take(house, taker, id)
    assert results(house)[1] == {
        "task_id": "mine",
        "status": "completed",
        "variable": "$result1",
        "result": 4,
    }


@pytest.mark.line("G34", "G17", "G76")
@pytest.mark.parametrize("wait", ["exec", "await_task"])
def test_a_message_ends_the_wait_with_its_event_and_is_read_in_the_turn(
    house, workshop, scripted, wait: str
) -> None:
    waits = ("exec", {"code": "4", "wait_seconds": WAIT_SECONDS, "id": "mine"})
    if wait == "await_task":
        house.create(id="mine")
        waits = await_("mine")
    taker = workshop.taker(scripted(calls(waits), {"text": "I see."}))
    id = house.post("go").turn_id
    take(house, taker, id)
    posted = house.post("hurry")
    let_the_wait_end(house)
    take(house, taker, id)
    assert results(house) == [
        {
            "task_id": "mine",
            "status": "queued",
            "pending": True,
            "background": True,
            "await_error": "wake: a message came; the task goes on",
            "wake_event_id": posted.event_id,
            "wake_stream": "task_input",
            "wake_priority": "wake",
        }
    ]
    assert texts(house, "user_message") == ["go", "hurry"]
    assert (unread(house), house.status("mine")) == (0, "queued")


@pytest.mark.line("G35")
def test_what_woke_before_the_wait_began_ends_it_too(house, workshop, scripted) -> None:
    """News skips no call, so the wait itself has to look for it."""
    house.create(id="mine")
    script = [calls(start("other")), calls(await_("mine")), {"text": "I see."}]
    model = scripted(*script)

    class Late:
        name, context_tokens = "late", 200_000

        def stream(self, *arguments: Any) -> Any:
            answer = model.stream(*arguments)
            if answer.tool_calls and answer.tool_calls[0].name == "await_task":
                end(house, "other")
            return answer

    id = house.post("go").turn_id
    take(house, workshop.taker(lambda _: Late()), id)
    assert house.status(id) == "completed"
    waited = results(house)[1]
    assert waited["await_error"].startswith("wake")
    assert waited["wake_stream"] == "task_output"
    assert (waited["task_id"], house.status("mine")) == ("mine", "queued")


@pytest.mark.line("G35")
def test_what_wakes_another_ends_no_wait(house, waiting) -> None:
    id, _ = waiting
    house.agent("owl")
    house.post("hurry", to="owl")
    assert seconds_left(house) > WAIT_SECONDS - 10
    assert house.status(id) == "waiting"


@pytest.mark.line("G35")
@pytest.mark.parametrize("priority", [Priority.NORMAL, Priority.LOW])
def test_what_does_not_hurry_ends_no_wait(house, waiting, priority) -> None:
    id, taker = waiting
    house.post("by the way", priority=priority)
    assert seconds_left(house) > WAIT_SECONDS - 10
    taker.take(id)  # a stray hint
    assert house.status(id) == "waiting"


@pytest.mark.line("G36")
def test_what_the_turn_has_read_ends_no_wait_of_it(house, workshop, scripted) -> None:
    """Neither its own message, nor what stood around it, nor what it has absorbed."""
    begin = calls(start("mine"))  # the first is skipped, for the message
    model = scripted(begin, begin, calls(await_("mine")), {"text": "I see."})

    class Busy:
        name, context_tokens = "busy", 200_000

        def stream(self, *arguments: Any) -> Any:
            answer = model.stream(*arguments)
            if model.asked == 1:
                house.post("and this")
            return answer

    house.post("by the way", priority=Priority.NORMAL)
    id = house.post("go").turn_id
    taker = workshop.taker(lambda _: Busy())
    take(house, taker, id)
    assert texts(house, "user_message")[-1] == "and this"
    assert unread(house) == 3
    assert house.status(id) == "waiting"
    assert seconds_left(house) > WAIT_SECONDS - 10


# For several.


@pytest.mark.line("G38")
def test_the_first_of_several_is_returned_with_those_that_go_on(
    house, workshop, scripted
) -> None:
    for each in ("a", "b", "c"):
        house.create(id=each)
    id = house.post("go").turn_id
    script = [calls(await_(["a", "b", "c"])), {"text": "I see."}]
    taker = workshop.taker(scripted(*script))
    take(house, taker, id)
    assert house.status(id) == "waiting"
    end(house, "b")
    take(house, taker, id)
    assert results(house) == [
        {
            "task_id": "b",
            "status": "completed",
            "result": 4,
            "pending_task_ids": ["a", "c"],
        }
    ]


@pytest.mark.line("G38")
def test_a_message_ends_the_wait_for_several_as_for_one(
    house, workshop, scripted
) -> None:
    for each in ("a", "b"):
        house.create(id=each)
    id = house.post("go").turn_id
    taker = workshop.taker(scripted(calls(await_(["a", "b"])), {"text": "I see."}))
    take(house, taker, id)
    posted = house.post("hurry")
    let_the_wait_end(house)
    take(house, taker, id)
    (waited,) = results(house)
    assert (waited["task_id"], waited["pending_task_ids"]) == ("a", ["a", "b"])
    assert waited["wake_event_id"] == posted.event_id


# In the background.


@pytest.mark.line("G69")
@pytest.mark.parametrize("what", ["finishes", "times out", "is not what wakes"])
def test_the_next_turn_begins_as_soon_as_one_of_several_execs_has_news(
    house, workshop, sandbox, what: str
) -> None:
    script = [
        {"when": {"matches": "^go$"}, **calls(start("a"), start("b"))},
        {"when": {"contains": '"background"'}, "text": "started"},
        {"when": {"contains": ""}, "text": "I see."},
    ]
    taker = workshop.taker(ScriptedModel(script))
    first = house.post("go").turn_id
    take(house, taker, first)
    assert house.hints == ["a", "b"]
    limit = Failure(type="timeout", message="It took longer than 300 seconds.")
    outcome = Outcome(status="failed", error=limit) if what == "times out" else DONE
    if what == "is not what wakes":
        house.post("from outside")
    else:
        with sandbox(outcome) as cage:
            workshop.runner(cage).run("b")
    second = house.task("turn-2")
    assert (second["status"], house.status("a")) == ("queued", "queued")
    take(house, taker, "turn-2")
    assert house.status("turn-2") == "completed"
    said = {
        "finishes": "Task b: completed. Its result: 4",
        "times out": "Task b: failed. It took longer than 300 seconds.",
        "is not what wakes": "from outside",
    }
    heard = [*texts(house, "wake"), *texts(house, "user_message")]
    assert said[what] in heard
    assert house.status("a") == "queued"
