"""Turns and execs together: one life after another, on a real database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agents.messages import ToolResult
from agents.models.scripted import ScriptedModel
from agents.tools import ToolContext, tool
from broker import agents, entries, recovery, steps, tasks, updates
from broker.agents import AgentChange
from broker.states import Priority
from broker.times import now_us
from broker.turns import BACKOFF_SECONDS, CLAIMS_LIMIT
from sandbox import Failure, Outcome, Output


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def reply(house, id: str) -> Any:
    return tasks.shape(house.task(id))["result"]


def history(house, agent_id: str = "scout") -> list[str]:
    found = entries.list_after(house.database, agent_id)
    return [each["type"] for each in found if each["turn_id"]]


def told(house, id: str) -> list[tuple[str, str, str, int]]:
    """The steps of a turn."""
    return [
        (step["kind"], step["name"], step["status"], step["attempts"])
        for step in steps.list_of(house.database, id)
    ]


def results(house, agent_id: str = "scout") -> list[str]:
    return [
        each["content"][0]["text"]
        for each in entries.list_after(house.database, agent_id)
        if each["type"] == "tool_result"
    ]


# A life without trouble.


@pytest.mark.line("P1", "P2", "P10", "G54", "G65")
def test_a_message_becomes_a_reply(house, workshop, scripted) -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    model = scripted({"text": "hi there", "reasoning": "hm", "usage": usage})
    id = house.post("hello").turn_id
    workshop.work(workshop.taker(model))
    row = tasks.shape(house.task(id))
    assert (row["status"], row["result"], row["usage"]["output_tokens"]) == (
        "completed",
        {"text": "hi there"},
        2,
    )
    assert history(house) == ["user_message", "reasoning", "assistant_message"]
    kinds = [kind for kind in house.kinds() if kind != "message_update"]
    assert kinds == [
        "message",
        "agent_run_start",
        "turn_start",
        "message_start",
        "message_end",
        "agent_run_complete",
        "turn_end",
        "agent_end",
    ]
    assert house.state() == "idle"


@pytest.mark.line("G54")
def test_the_streamed_pieces_add_up_to_the_answer(house, workshop, scripted) -> None:
    text = " ".join(f"word-{n}" for n in range(200))
    house.post("hello")
    workshop.work(workshop.taker(scripted({"text": text, "token_seconds": 0.001})))
    told = [event for event in house.events() if event["kind"].startswith("message_")]
    pieces = [e["payload"]["text"] for e in told if e["kind"] == "message_update"]
    assert "".join(pieces) == text
    assert told[-1]["kind"] == "message_end"
    assert 1 < len(pieces) < 200


@pytest.mark.line("P2", "G54")
def test_a_tool_is_called_and_its_result_is_remembered(
    house, workshop, scripted
) -> None:
    model = scripted(call("noop", comment="rest"), {"text": "rested"})
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    assert reply(house, id) == {"text": "rested"}
    assert told(house, id) == [
        ("model", "scripted", "succeeded", 1),
        ("tool", "noop", "succeeded", 1),
        ("model", "scripted", "succeeded", 1),
    ]
    assert history(house) == [
        "user_message",
        "assistant_message",
        "tool_call",
        "tool_result",
        "assistant_message",
    ]


@pytest.mark.line("P21")
def test_the_next_turn_remembers_the_last(house, workshop, scripted) -> None:
    seen: list[int] = []

    class Listening:
        name = "listening"
        context_tokens = 200_000

        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            seen.append(len(request.messages))
            return scripted({"when": {}, "text": "ok"}).stream(request, emit, interrupt)

    for text in ("one", "two"):
        house.post(text)
        workshop.work(workshop.taker(Listening()))
    assert seen == [1, 3]


@pytest.mark.line("G31")
def test_an_exec_is_waited_for_without_a_thread(
    house, workshop, scripted, sandbox
) -> None:
    model = scripted(call("exec", code="4", wait_seconds=60), {"text": "four"})
    id = house.post().turn_id
    taker = workshop.taker(model)
    workshop.work(taker)
    assert (house.status(id), house.status("exec-1")) == ("waiting", "queued")
    assert house.state() == "waiting"
    cage = sandbox(
        Outcome(status="completed", result=4, exit_code=0),
        outputs=[Output(stream="stdout", text="on it\n")],
    )
    house.hints.append("exec-1")
    with cage:
        workshop.work(taker, workshop.runner(cage))
    assert cage.jobs[0].code == "4"
    assert reply(house, id) == {"text": "four"}
    assert json.loads(results(house)[0]) == {
        "task_id": "exec-1",
        "status": "completed",
        "variable": "$result1",
        "result": 4,
    }
    shown = [e for e in house.events() if e["kind"] == "tool_execution_update"]
    assert [event["payload"]["text"] for event in shown] == ["on it\n"]
    log = updates.list_after(house.database, "exec-1")
    assert [each["kind"] for each in log] == [
        "spawn",
        "started",
        "start",
        "stdout",
        "exit",
        "completed",
    ]
    assert told(house, id)[1] == ("tool", "exec", "succeeded", 2)


def test_an_exec_in_the_background_does_not_park_the_turn(
    house, workshop, scripted, sandbox
) -> None:
    model = scripted(call("exec", code="4", wait_seconds=0), {"text": "started"})
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    assert (reply(house, id), house.status("exec-1")) == (
        {"text": "started"},
        "queued",
    )


@pytest.mark.line("P3")
def test_code_that_fails_is_a_result_that_the_model_reads(
    house, workshop, scripted, sandbox
) -> None:
    model = scripted(call("exec", code="throw 1", wait_seconds=60), {"text": "oh"})
    id = house.post().turn_id
    error = Failure(type="exec_failed", message="boom")
    cage = sandbox(Outcome(status="failed", exit_code=1, error=error))
    workshop.work(workshop.taker(model), workshop.runner(cage))
    assert reply(house, id) == {"text": "oh"}
    assert json.loads(results(house)[0])["error"]["message"] == "boom"


def test_real_code_runs_and_its_result_comes_back(
    house, workshop, scripted, bare_sandbox
) -> None:
    code = "console.log('computing'); globalThis.result = 17 * 23 + 4;"
    model = scripted(
        call("exec", code=code, wait_seconds=60),
        {"when": {"contains": '"result": 395'}, "text": "395"},
    )
    id = house.post().turn_id
    workshop.work(workshop.taker(model), workshop.runner(bare_sandbox))
    assert reply(house, id) == {"text": "395"}
    log = updates.list_after(house.database, "exec-1", kind="stdout")
    assert [each["payload"]["text"] for each in log] == ["computing\n"]


@pytest.mark.line("G70")
def test_an_agent_asks_another_and_reads_its_answer(house, workshop, scripted) -> None:
    house.agent("ranger", model="ranger")
    models = {
        None: scripted(
            call("delegate", agent_id="ranger", text="how far?", wait_seconds=60),
            {"when": {"contains": "seven miles"}, "text": "It is seven miles."},
        ),
        "ranger": scripted({"when": {"contains": "how far?"}, "text": "seven miles"}),
    }
    id = house.post().turn_id
    workshop.work(workshop.taker(models.__getitem__))
    assert reply(house, id) == {"text": "It is seven miles."}
    assert (house.state(), house.state("ranger")) == ("idle", "idle")


@pytest.mark.line("G17")
def test_a_message_cuts_a_wait_short_and_is_answered_in_the_same_turn(
    house, workshop, scripted
) -> None:
    model = scripted(
        call("exec", code="4", wait_seconds=600),
        {"when": {"contains": "hurry"}, "text": "Hurrying."},
    )
    first = house.post("go").turn_id
    taker = workshop.taker(model)
    house.hints.remove(first)
    taker.take(first)
    assert house.status(first) == "waiting"
    second = house.post("hurry", priority=Priority.WAKE).turn_id
    with house.write() as tx:
        tx.execute("UPDATE waits SET deadline_at = ?", now_us() - 1)
        recovery.wake_due(tx)
    workshop.work(taker)
    assert json.loads(results(house)[0])["await_error"].startswith("wake")
    assert (reply(house, first), reply(house, second)) == (
        {"text": "Hurrying."},
        {"text": "Hurrying.", "absorbed_by": first},
    )
    assert house.status("exec-1") == "queued"


# Trouble with the model.


def test_a_model_that_is_ill_is_asked_again_later(house, workshop, scripted) -> None:
    model = scripted({"error": {"status": 503, "message": "ill"}}, {"text": "better"})
    id = house.post().turn_id
    taker = workshop.taker(model)
    workshop.work(taker)
    row = tasks.shape(house.task(id))
    assert (row["status"], row["attempts"], row["error"]["message"]) == (
        "queued",
        2,
        "ill",
    )
    assert house.task(id)["not_before_at"] > now_us() - int(BACKOFF_SECONDS)
    (signal,) = [e for e in house.events() if e["kind"] == "turn_retry"]
    delay = signal["payload"].pop("delay_seconds")
    assert BACKOFF_SECONDS / 2 <= delay <= BACKOFF_SECONDS
    assert (signal["stream"], signal["scope"]) == ("signals", "agent/scout")
    assert (signal["body"], signal["payload"]) == (
        "ill",
        {"turn_id": id, "attempt": 2, "attempts_limit": 4, "type": "http_503"},
    )
    with house.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = NULL")
    taker.take(id)
    assert reply(house, id) == {"text": "better"}
    assert told(house, id) == [("model", "scripted", "succeeded", 2)]


def test_a_model_that_will_never_answer_fails_the_turn_at_once(
    house, workshop, scripted
) -> None:
    id = house.post().turn_id
    workshop.work(workshop.taker(scripted({"error": {"status": 401}})))
    assert house.status(id) == "failed"
    assert house.state() == "idle"


def test_a_bug_in_a_model_fails_the_turn_and_not_the_worker(house, workshop) -> None:
    class Broken:
        name = "broken"
        context_tokens = 200_000

        def stream(self, *arguments: Any) -> Any:
            raise ZeroDivisionError("by nothing")

    id = house.post().turn_id
    workshop.work(workshop.taker(Broken()))
    error = tasks.shape(house.task(id))["error"]
    assert (house.status(id), error["type"]) == ("queued", "turn_failed")
    assert error["message"] == "ZeroDivisionError: by nothing"


def test_a_broken_connection_is_not_remembered(house, workshop, scripted) -> None:
    model = scripted({"text": "a b c d", "cut_after_tokens": 2}, {"text": "whole"})
    id = house.post().turn_id
    taker = workshop.taker(model)
    workshop.work(taker)
    with house.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = NULL")
    taker.take(id)
    assert reply(house, id) == {"text": "whole"}
    assert history(house) == ["user_message", "assistant_message"]


# Trouble with the workers.


def test_a_recorded_answer_is_not_asked_for_again(
    house, workshop, scripted, died
) -> None:
    model = scripted(call("noop"), {"text": "done"}, dies_at=2)
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.taker(model).take(id)
    assert house.status(id) == "running"
    workshop.bury()
    workshop.taker(model, "worker-2").take(id)
    assert reply(house, id) == {"text": "done"}
    assert model.asked == 3  # the first, the one that died, and that one again
    assert told(house, id) == [
        ("model", "scripted", "succeeded", 1),
        ("tool", "noop", "succeeded", 1),
        ("model", "scripted", "succeeded", 2),
    ]
    assert house.kinds().count("turn_start") == 1


def test_a_turn_whose_worker_dies_at_every_answer_still_ends(
    house, workshop, scripted, died
) -> None:
    line = [*(call("noop", comment=str(n)) for n in range(4)), {"text": "done"}]
    model = scripted(*line)
    id = house.post().turn_id
    deaths = 0
    while house.status(id) != "completed":
        model.dies_at = model.asked + 2
        try:
            workshop.taker(model, f"worker-{deaths}").take(id)
        except died:
            workshop.bury(f"worker-{deaths}")
            deaths += 1
    assert deaths == 4
    assert [json.loads(text)["comment"] for text in results(house)] == list("0123")
    assert [attempts for *_, attempts in told(house, id)] == [1, 1, 2, 1, 2, 1, 2, 1, 2]


def test_a_recorded_result_is_not_computed_again(
    house, workshop, scripted, died
) -> None:
    model = scripted(
        call("send_task", task_id="ranger", body="hello"), {"text": "sent"}, dies_at=2
    )
    house.agent("ranger")
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.taker(model).take(id)
    workshop.bury()
    workshop.taker(model, "worker-2").take(id)
    assert reply(house, id) == {"text": "sent"}
    assert house.kinds("ranger") == ["message"]


def die_when_hinted(house, died, type: str) -> None:
    """Let the worker die right after a commit that hints a task of a type."""
    record = house.database.hint

    def hint(hinted: str, id: str) -> None:
        record(hinted, id)
        if hinted == type:
            house.database.hint = record
            raise died

    house.database.hint = hint


def test_a_message_that_was_sent_as_its_sender_died_is_not_sent_twice(
    house, workshop, scripted, died
) -> None:
    model = scripted(
        call("send_task", task_id="ranger", body="hello"), {"text": "sent"}
    )
    house.agent("ranger")
    id = house.post().turn_id
    die_when_hinted(house, died, "turn")
    with pytest.raises(died):
        workshop.taker(model).take(id)
    workshop.bury()
    workshop.taker(model, "worker-2").take(id)
    assert house.kinds("ranger") == ["message"]
    assert told(house, id)[1] == ("tool", "send_task", "succeeded", 2)


def test_an_exec_that_was_queued_as_its_turn_died_is_not_queued_twice(
    house, workshop, scripted, sandbox, died
) -> None:
    model = scripted(call("exec", code="4", wait_seconds=60), {"text": "four"})
    id = house.post().turn_id
    die_when_hinted(house, died, "exec")
    with pytest.raises(died):
        workshop.taker(model).take(id)
    workshop.bury()
    with sandbox(Outcome(status="completed", result=4)) as cage:
        workshop.work(workshop.taker(model, "worker-2"), workshop.runner(cage))
    assert reply(house, id) == {"text": "four"}
    assert [row["id"] for row in tasks.list_page(house.database, type="exec")] == [
        "exec-1"
    ]


def test_an_exec_whose_worker_died_is_run_again(
    house, workshop, scripted, sandbox, died
) -> None:
    class Deadly:
        level = detail = "deadly"

        def run(self, *arguments: Any, **more: Any) -> Outcome:
            raise died

    model = scripted(call("exec", code="4", wait_seconds=60), {"text": "four"})
    id = house.post().turn_id
    taker = workshop.taker(model)
    with pytest.raises(died):
        workshop.work(taker, workshop.runner(Deadly(), "exec-worker-1"))
    workshop.bury("exec-worker-1")
    with sandbox(Outcome(status="completed", result=4)) as cage:
        workshop.work(taker, workshop.runner(cage))
    assert (reply(house, id), model.asked) == ({"text": "four"}, 2)
    assert house.task("exec-1")["crashes"] == 1


def test_what_may_happen_once_is_not_repeated_and_the_model_is_told(
    house, workshop, scripted, died
) -> None:
    launched: list[str] = []

    @tool(effect="at_most_once")
    def launch(context: ToolContext) -> ToolResult:
        """Launch."""
        launched.append(context.key)
        raise died

    model = scripted(
        call("launch"), {"when": {"contains": "outcome is unknown"}, "text": "I see."}
    )
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.taker(model, tools=[launch]).take(id)
    workshop.bury()
    workshop.taker(model, "worker-2", tools=[launch]).take(id)
    assert (reply(house, id), launched) == ({"text": "I see."}, [f"{id}/2"])
    assert told(house, id)[1] == ("tool", "launch", "uncertain", 2)


def test_a_worker_that_lost_its_lease_writes_nothing_more(
    house, workshop, scripted
) -> None:
    class Slow:
        """While it answers, another worker takes the turn and ends it."""

        name = "slow"
        context_tokens = 200_000

        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            workshop.bury()
            workshop.taker(scripted({"text": "mine"}), "worker-2").take(id)
            return scripted({"text": "too late"}).stream(request, emit, interrupt)

    id = house.post().turn_id
    workshop.taker(Slow()).take(id)
    assert reply(house, id) == {"text": "mine"}
    assert history(house) == ["user_message", "assistant_message"]
    assert house.kinds().count("agent_end") == 1


def test_a_worker_that_drains_hands_its_turn_over(house, workshop, scripted) -> None:
    model = scripted({"text": "hi"})
    id = house.post().turn_id
    workshop.drain.set()
    workshop.taker(model).take(id)
    assert (house.status(id), model.asked) == ("queued", 0)
    workshop.drain.clear()
    workshop.work(workshop.taker(model, "worker-2"))
    assert reply(house, id) == {"text": "hi"}
    assert house.task(id)["crashes"] == 0


def test_a_turn_that_was_cancelled_while_it_waited_takes_its_exec_along(
    house, workshop, scripted
) -> None:
    model = scripted(call("exec", code="4", wait_seconds=60))
    id = house.post().turn_id
    taker = workshop.taker(model)
    workshop.work(taker)
    with house.write() as tx:
        tasks.cancel(tx, id, "enough")
    assert (house.status(id), house.status("exec-1"), house.state()) == (
        "cancelled",
        "cancelled",
        "idle",
    )
    house.hints[:] = [id, "exec-1"]
    workshop.work(taker, workshop.runner(None))
    assert house.status(id) == "cancelled"


def test_a_history_with_a_dead_turn_in_it_is_whole_for_the_next(
    house, workshop, scripted
) -> None:
    model = scripted(call("exec", code="4", wait_seconds=60))
    taker = workshop.taker(model)
    id = house.post("go").turn_id
    workshop.work(taker)
    with house.write() as tx:
        tasks.kill(tx, id, "enough")
    seen: list[Any] = []

    class Listening:
        name = "listening"
        context_tokens = 200_000

        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            seen.extend(request.messages)
            return scripted({"when": {}, "text": "ok"}).stream(request, emit, interrupt)

    house.post("and now?")
    workshop.work(workshop.taker(Listening()))
    assert [type(message).__name__ for message in seen] == [
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
        "UserMessage",
    ]
    assert seen[2].result.status == "uncertain"


# Output.


@pytest.fixture
def busy_database(house) -> Iterator[None]:
    """Another writer holds the database most of the time."""
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            with house.write():
                done.wait(0.02)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    yield
    done.set()
    busy.join()


class Unhurried:
    """A sandbox whose jobs print, take a moment, and are over."""

    level = detail = "unhurried"

    def run(self, job: Any, policy: Any, *, emit: Any, **more: Any) -> Outcome:
        emit(Output(stream="stdout", text="printed"))
        threading.Event().wait(0.01)  # the batch is on its way to the database
        return Outcome(status="completed")


@pytest.mark.usefixtures("busy_database")
def test_no_output_is_lost_or_late_however_busy_the_database_is(
    house, workshop
) -> None:
    runner = workshop.runner(Unhurried())
    for number in range(1, 11):
        house.create(id=f"job-{number}")
        runner.run(f"job-{number}")
        log = updates.list_after(house.database, f"job-{number}")
        assert [each["kind"] for each in log] == [
            "spawn",
            "started",
            "stdout",
            "exit",
            "completed",
        ]


@pytest.mark.usefixtures("busy_database")
def test_no_delta_comes_after_the_end_of_its_message(house, workshop, scripted) -> None:
    text = {"when": {}, "text": "one two three", "token_seconds": 0.005}
    taker = workshop.taker(scripted(text))
    for number in range(10):
        after = house.post(f"message {number}").event_id
        workshop.work(taker)
        told = house.events(after=after)
        kinds = [event["kind"] for event in told]
        assert "message_update" not in kinds[kinds.index("message_end") :]
        pieces = [event for event in told if event["kind"] == "message_update"]
        said = "".join(event["payload"]["text"] for event in pieces)
        assert said == "one two three"


@pytest.mark.parametrize("id", ["c", ""])
@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_calls_of_one_id_are_made_and_answered_each_for_itself(
    house, workshop, id: str, mode: str
) -> None:
    """Some servers send no ids, or the same ones."""
    keys = []

    @tool(effect="at_most_once")
    def mail(context: ToolContext, to: str) -> ToolResult:
        """Send."""
        keys.append(context.key)
        return ToolResult(text=f"sent to {to}")

    calls = [{"name": "mail", "arguments": {"to": t}, "id": id} for t in ("ada", "bob")]
    with house.write() as tx:
        agents.update(tx, "scout", AgentChange(metadata={"tool_execution": mode}))
    script = [{"tool_calls": calls}, {"tool_calls": calls[:1]}, {"text": "done"}]
    turn_id = house.post().turn_id
    workshop.taker(ScriptedModel(script), tools=(mail,)).take(turn_id)
    assert reply(house, turn_id) == {"text": "done"}
    assert sorted(keys) == [f"{turn_id}/{n}" for n in (2, 3, 5)]
    results = [
        each["content"][0]["text"]
        for each in entries.list_after(house.database, "scout")
        if each["type"] == "tool_result"
    ]
    assert results == ["sent to ada", "sent to bob", "sent to ada"]


def test_a_turn_whose_claim_breaks_is_a_dead_letter_in_the_end(
    house, workshop, scripted
) -> None:
    id = house.post().turn_id
    with house.write() as tx:
        tx.execute("UPDATE events SET payload = '{'")
    taker = workshop.taker(scripted({"text": "hello"}))
    while house.status(id) == "queued":
        with house.write() as tx:
            tx.execute("UPDATE tasks SET not_before_at = NULL")
        taker.take(id)
    assert "JSONDecodeError" in tasks.shape(house.task(id))["error"]["message"]
    assert house.task(id)["crashes"] == CLAIMS_LIMIT


def test_a_message_may_name_the_model_of_its_own_turn(house, workshop) -> None:
    models = {
        "first": ScriptedModel([{"when": {"contains": ""}, "text": "I am first"}]),
        "other": ScriptedModel([{"when": {"contains": ""}, "text": "I am other"}]),
    }
    house.agent("scout", model="first")
    taker = workshop.taker(models.__getitem__)
    ids = [house.post("who?", **more).turn_id for more in ({}, {"model": "other"}, {})]
    workshop.work(taker)
    said = [reply(house, id)["text"] for id in ids]
    assert said == ["I am first", "I am other", "I am first"]
