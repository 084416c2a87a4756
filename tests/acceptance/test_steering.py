"""Stopping work that is under way: kill, cancel, interrupt."""

from __future__ import annotations

import pytest

from tests.acceptance import processes
from tests.acceptance.conftest import NewAgent
from tests.acceptance.processes import Process
from tests.acceptance.system import JSON, Agent, Api, System, run, text_of
from tests.acceptance.waiting import wait_until

GONE_SECONDS = 1.0  # what the contract promises of a kill
EARLY_SECONDS = 5.0  # a `slow` that nobody stops takes ten
FOREVER = "await Bun.sleep(600000)"


def _bun_of(system: System, before: set[Process]) -> Process:
    """Wait for the one Bun process that was not there before."""
    (found,) = wait_until(lambda: system.sandboxed() - before, 20, "Bun runs")
    return found


def _sleeping_exec(system: System) -> tuple[JSON, Process]:
    before = system.sandboxed()
    task = system.api.run(f'console.log("asleep"); {FOREVER}')
    system.api.wait_for_status(task["id"], "running")
    return task, _bun_of(system, before)


@pytest.mark.parametrize("verb", ["kill", "cancel"])
def test_an_exec_that_is_stopped_has_no_process_a_second_later(
    mortal: System, verb: str
) -> None:
    task, bun = _sleeping_exec(mortal)

    mortal.api.post(f"/tasks/{task['id']}/{verb}", {"reason": "enough"})
    wait_until(lambda: not bun.is_alive, GONE_SECONDS, "the Bun process is gone")

    ended = mortal.api.finished(task["id"])
    assert ended["status"] == "cancelled"
    assert ended["error"]["message"] == "enough"


def test_an_exec_that_ignores_signals_is_killed_with_all_it_started(
    mortal: System,
) -> None:
    before = mortal.sandboxed()
    code = (
        'for (const s of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(s, () => {});\n'
        'Bun.spawn([process.execPath, "-e", "setInterval(() => {}, 1000)"]);\n'
        "for (;;) await Bun.sleep(10);"
    )
    task = mortal.api.run(code)
    wait_until(lambda: len(mortal.sandboxed() - before) >= 2, 20, "both run")
    started = mortal.sandboxed() - before

    mortal.api.post(f"/tasks/{task['id']}/kill")

    wait_until(lambda: not processes.alive(started), GONE_SECONDS, "all are gone")


def test_a_queued_task_that_is_cancelled_never_runs(api: Api) -> None:
    task = api.post("/tasks", {"type": "chore"})

    shown = api.post(f"/tasks/{task['id']}/cancel", {"reason": "not needed"})

    assert (shown["status"], shown["started_at"]) == ("cancelled", None)
    assert shown["error"] == {"type": "cancelled", "message": "not needed"}


@pytest.mark.parametrize("verb", ["kill", "cancel"])
def test_a_turn_that_is_stopped_takes_its_exec_with_it(
    mortal: System, new_agent: NewAgent, verb: str
) -> None:
    agent = new_agent(mortal.api, [run(FOREVER), {"text": "next"}])
    before = mortal.sandboxed()
    turn_id = agent.send("Begin")["turn_id"]
    wait_until(lambda: agent.tasks(type="exec", status="running"), 20, "it runs")
    bun = _bun_of(mortal, before)

    mortal.api.post(f"/tasks/{turn_id}/{verb}")
    wait_until(lambda: not bun.is_alive, GONE_SECONDS, "the Bun process is gone")

    assert mortal.api.finished(turn_id)["status"] == "cancelled"
    (child,) = agent.tasks(type="exec")
    assert mortal.api.finished(child["id"])["status"] == "cancelled"
    assert agent.ask("And now?") == "next"


def test_an_interrupt_ends_the_turn_early_and_keeps_what_was_said(
    demo: Agent,
) -> None:
    turn_id = demo.send("slow")["turn_id"]
    demo.wait_for_text(turn_id)

    demo.api.post(f"/agents/{demo.id}/interrupt")
    turn = demo.api.finished(turn_id, EARLY_SECONDS)

    (said,) = demo.entries("assistant_message")
    assert turn["status"] == "completed"
    assert said["status"] == "interrupted"
    assert text_of(said).startswith("word-1")
    assert "word-50" not in text_of(said)
    assert turn["result"]["text"] == text_of(said)
    assert "= 42" in demo.ask("6 * 7")  # the agent goes on


def test_an_interrupt_of_an_idle_agent_is_a_conflict(demo: Agent) -> None:
    answer = demo.api.send("POST", f"/api/v1/agents/{demo.id}/interrupt", json={})

    assert answer.status_code == 409
    assert demo.id in answer.json()["detail"]


def test_a_turn_cancelled_in_mid_answer_ends_its_stream(demo: Agent) -> None:
    with demo.stream("slow") as stream:
        coming = iter(stream)
        first = next(e for e in coming if e.kind == "message_update")
        demo.api.post(f"/tasks/{first.payload['turn_id']}/cancel", {"reason": "enough"})
        last = list(coming)[-1]

    assert (last.kind, last.payload["status"]) == ("agent_end", "cancelled")


def test_a_stopped_agent_takes_no_messages_until_it_is_made_again(
    api: Api, demo: Agent
) -> None:
    shown = api.send("DELETE", f"/api/v1/agents/{demo.id}").json()
    refused = api.send("POST", f"/api/v1/agents/{demo.id}/ask", json={"text": "Hey"})
    api.post("/agents", {"id": demo.id})

    assert shown["state"] == "stopped"
    assert refused.status_code == 409
    assert "= 42" in demo.ask("6 * 7")
