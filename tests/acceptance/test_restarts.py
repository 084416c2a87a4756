"""Ends, good and bad, and what the next start finds: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.acceptance import processes
from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import JSON, STOP_SECONDS, Agent, System, text_of
from tests.acceptance.waiting import wait_until

SPEECH = " ".join(f"word-{n}" for n in range(40))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A message that got its 202, and how the reply to it begins."""

    agent: Agent
    turn_id: str
    text: str
    reply: str


def _say(agent: Agent, text: str, reply: str) -> Accepted:
    turn_id = agent.send(text)["turn_id"]
    return Accepted(agent=agent, turn_id=turn_id, text=text, reply=reply)


def _keep_busy(system: System, new_agent: NewAgent) -> list[Accepted]:
    """Have a model speak, an exec sleep and a line wait, and return what was said."""
    waiter = new_agent(system.api)
    speaker = new_agent(system.api, [{"text": SPEECH, "token_seconds": 0.04}])
    clerk = _echo(system, new_agent, delay_seconds=0.3)
    accepted = [
        _say(waiter, "wait 1.5", "The result is waited 1.5 s"),
        _say(speaker, "Speak", SPEECH),
        *(_say(clerk, f"item {n}", f"noted {n}") for n in range(4)),
    ]
    speaker.wait_for_text(accepted[1].turn_id)
    wait_until(
        lambda: waiter.tasks(type="exec", status="running"), 20, "the exec sleeps"
    )
    return accepted


def _echo(system: System, new_agent: NewAgent, delay_seconds: float) -> Agent:
    rules = [
        {
            "when": {"matches": rf"\Aitem {n}\Z"},
            "text": f"noted {n}",
            "delay_seconds": delay_seconds,
        }
        for n in range(10)
    ]
    return new_agent(system.api, rules)


def _assert_answered_once(system: System, accepted: list[Accepted]) -> None:
    for each in accepted:
        turn = system.api.finished(each.turn_id)
        assert turn["status"] == "completed", turn["error"]
        assert turn["result"]["text"].startswith(each.reply)
        history = [e for e in each.agent.history() if e["turn_id"] == each.turn_id]
        said = [text_of(entry) for entry in history if entry["type"] == "user_message"]
        assert said == [each.text]
        assert len([e for e in history if _is_reply(e)]) == 1
        kinds = [e["kind"] for e in each.agent.events(subject=each.turn_id)]
        assert (kinds.count("turn_start"), kinds.count("agent_end")) == (1, 1)
    for agent in {each.agent.id: each.agent for each in accepted}.values():
        wanted = [each.turn_id for each in accepted if each.agent.id == agent.id]
        assert [turn["id"] for turn in agent.tasks(type="turn")] == wanted


def _is_reply(entry: JSON) -> bool:
    return entry["type"] == "assistant_message" and not entry["data"]["tool_calls"]


def _wait_for_nobody(system: System) -> None:
    wait_until(lambda: not system.processes(), STOP_SECONDS, "nothing of it is left")


def _ctrl_c(system: System) -> None:
    """Do what a terminal does: interrupt the whole foreground group."""
    os.killpg(system.main.pid, signal.SIGINT)


def _sigterm(system: System) -> None:
    system.send(signal.SIGTERM)


# honcho's own answer to Ctrl-C is 130; `roost up` (test_up.py) makes it 0.
@pytest.mark.parametrize(("tell", "code"), [(_sigterm, 143), (_ctrl_c, 130)])
def test_a_stop_ends_all_in_time_and_the_next_start_answers_what_was_accepted(
    mortal: System, new_agent: NewAgent, tell: Callable[[System], None], code: int
) -> None:
    accepted = _keep_busy(mortal, new_agent)
    running = mortal.processes()

    tell(mortal)
    ended = mortal.wait()

    assert ended.seconds < STOP_SECONDS
    assert ended.code in (0, code)
    assert processes.alive(running) | mortal.processes() == set()
    mortal.start()
    _assert_answered_once(mortal, accepted)


def test_what_is_queued_is_done_though_the_queue_was_deleted(
    mortal: System, new_agent: NewAgent
) -> None:
    clerk = _echo(mortal, new_agent, delay_seconds=0.4)
    accepted = [_say(clerk, f"item {n}", f"noted {n}") for n in range(8)]
    task = mortal.api.run("await Bun.sleep(4000); globalThis.result = 1;")

    mortal.stop()
    for path in mortal.home.glob("queue.db*"):
        path.unlink()
    stopped_at = datetime.now(UTC)
    mortal.start()

    _assert_answered_once(mortal, accepted)
    assert mortal.api.finished(task["id"])["result"] == 1
    last = mortal.api.task(accepted[-1].turn_id)
    assert datetime.fromisoformat(last["finished_at"]) > stopped_at


@pytest.mark.parametrize("kind", ["web", "agents", "exec", "scheduler"])
def test_a_killed_process_ends_all_and_loses_nothing(
    mortal: System, new_agent: NewAgent, kind: str
) -> None:
    accepted = _keep_busy(mortal, new_agent)
    running = mortal.processes()

    mortal.workers(kind)[0].send(signal.SIGKILL)
    mortal.wait()

    assert processes.alive(running) | mortal.processes() == set()
    mortal.start()
    _assert_answered_once(mortal, accepted)


def test_killed_web_workers_are_replaced_and_nothing_stops(
    mortal: System, new_agent: NewAgent
) -> None:
    accepted = _keep_busy(mortal, new_agent)
    master, *workers = mortal.workers("web")
    assert len(workers) >= 2

    for worker in workers:
        worker.send(signal.SIGKILL)
    wait_until(lambda: len(mortal.workers("web")) > len(workers), 20, "new ones run")
    wait_until(mortal.is_ready, 20, "they answer")

    _assert_answered_once(mortal, accepted)
    assert master.is_alive
    assert not processes.alive(workers)


def test_a_killed_honcho_leaves_nobody_behind(
    mortal: System, new_agent: NewAgent
) -> None:
    accepted = _keep_busy(mortal, new_agent)
    running = mortal.processes()

    mortal.send(signal.SIGKILL)
    wait_until(lambda: not processes.alive(running), STOP_SECONDS, "all have ended")

    mortal.wait()
    _wait_for_nobody(mortal)
    mortal.start()
    _assert_answered_once(mortal, accepted)


def test_everything_killed_at_once_loses_nothing(
    mortal: System, new_agent: NewAgent
) -> None:
    accepted = _keep_busy(mortal, new_agent)

    for each in mortal.processes():
        each.send(signal.SIGKILL)
    mortal.wait()
    _wait_for_nobody(mortal)

    mortal.start()
    _assert_answered_once(mortal, accepted)


def test_a_stop_right_after_the_start_ends_all(mortal: System) -> None:
    mortal.stop()
    mortal.start()

    assert mortal.stop().seconds < STOP_SECONDS


def test_two_homes_run_side_by_side(system: System, mortal: System) -> None:
    ours = {each.pid for each in system.processes()}
    theirs = {each.pid for each in mortal.processes()}

    assert ours & theirs == set()
    assert system.api.token != mortal.api.token
    assert system.is_ready()
    assert mortal.is_ready()


def test_more_workers_of_a_kind_share_the_work(
    tmp_path: Path, new_agent: NewAgent
) -> None:
    several = System(tmp_path / "home", ("honcho", "start", "-c", "agents=3,exec=2"))
    try:
        several.start()
        agents = [new_agent(several.api) for _ in range(6)]
        accepted = [_say(agent, "wait 1", "The result is waited 1") for agent in agents]
        _assert_answered_once(several, accepted)
        workers = [len(several.workers(kind)) for kind in ("agents", "exec")]
    finally:
        several.clean_up()

    assert workers == [3, 2]
