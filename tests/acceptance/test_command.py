"""The `roost` command against a running Roost, end to end, and without one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import ANSWER_SECONDS, BIN, Agent, System, run
from tests.acceptance.waiting import wait_until

TOKENS_APART_SECONDS = 0.2  # `slow` says a word each fifth of a second


def test_ask_prints_the_reply(system: System) -> None:
    done = system.roost("ask", "scout", "17 * 23 + 4")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("17 * 23 + 4 = 395")


def test_ask_as_json_is_what_the_api_answers(system: System, demo: Agent) -> None:
    said = json.loads(system.roost("ask", demo.id, "6 * 7", "--json").stdout)

    turn = system.api.task(said["turn_id"])
    assert said["text"] == turn["result"]["text"]
    assert said["usage"] == turn["usage"]


def test_ask_tells_a_failed_turn_on_stderr(scripted: NewAgent, system: System) -> None:
    agent = scripted({"error": {"status": 400, "message": "not that"}})

    done = system.roost("ask", agent.id, "Hello")

    assert (done.returncode, done.stdout) == (1, "")
    assert "not that" in done.stderr


def test_ask_that_waits_too_short_says_where_the_reply_will_be(
    scripted: NewAgent, system: System
) -> None:
    agent = scripted({"text": "late", "delay_seconds": 3})

    done = system.roost("ask", agent.id, "Hello", "--wait", "1")

    (turn,) = agent.tasks(type="turn")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"roost show {turn['id']}" in done.stderr


def test_send_prints_the_ids_and_goes_on(system: System, demo: Agent) -> None:
    waking = system.roost("send", demo.id, "6 * 7")
    quiet = system.roost("send", demo.id, "It rains.", "--priority", "low", "--json")

    (turn,) = demo.tasks(type="turn")
    assert waking.returncode == quiet.returncode == 0
    assert waking.stdout.split() == ["event", str(turn["cause_id"]), "turn", turn["id"]]
    assert json.loads(quiet.stdout)["turn_id"] is None
    assert "= 42" in system.api.finished(turn["id"])["result"]["text"]


@contextmanager
def _started(system: System, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that knows the server by its URL and token alone."""
    by_name = {
        "ROOST_HOME": str(system.home.with_name("nowhere")),
        "ROOST_URL": system.url,
        "ROOST_TOKEN": str(system.api.token),
        "PORT": "1",
    }
    with subprocess.Popen(
        [str(BIN / "roost"), *arguments],
        cwd=system.home.parent,
        env=system.environ | by_name,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(process: subprocess.Popen[bytes], wanted: str) -> float:
    """Read what comes until the text is in it; return when it was."""
    assert process.stdout is not None
    deadline = time.monotonic() + ANSWER_SECONDS
    text = b""
    while wanted.encode() not in text:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(left, 0))
        assert ready, f"{wanted!r} has not come; this has: {text.decode()}"
        chunk = os.read(process.stdout.fileno(), 65536)
        assert chunk, f"it ended without {wanted!r}: {text.decode()}"
        text += chunk
    return time.monotonic()


def test_tail_shows_tokens_as_they_arrive(system: System, demo: Agent) -> None:
    demo.turn("Are you there?")

    with _started(system, "tail", demo.id, "-f") as tail:
        _read_until(tail, "agent_end")
        turn_id = demo.send("slow")["turn_id"]
        first_at = _read_until(tail, "word-1 ")
        fifth_at = _read_until(tail, "word-5")
        demo.api.post(f"/agents/{demo.id}/interrupt")
        _read_until(tail, "agent_end")
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) in (0, 130)

    assert fifth_at - first_at > TOKENS_APART_SECONDS
    assert demo.api.finished(turn_id)["status"] == "completed"


def test_tail_as_json_is_one_event_a_line(system: System, demo: Agent) -> None:
    demo.turn("6 * 7")

    listed = json.loads(system.roost("tail", demo.id, "-n", "1000", "--json").stdout)

    assert [event["id"] for event in listed] == [e["id"] for e in demo.events()]


def test_tail_goes_on_over_a_restart(mortal: System, new_agent: NewAgent) -> None:
    agent = new_agent(mortal.api)

    with _started(mortal, "tail", agent.id, "-f") as tail:
        agent.turn("6 * 7")
        _read_until(tail, "agent_end")
        mortal.stop()
        mortal.start()
        agent.turn("7 * 7")
        _read_until(tail, "= 49")


def test_chat_answers_line_by_line(system: System, demo: Agent) -> None:
    with _started(system, "chat", demo.id) as chat:
        assert chat.stdin is not None
        for question, answer in (("6 * 7", "= 42"), ("7 * 7", "= 49")):
            chat.stdin.write(f"{question}\n".encode())
            chat.stdin.flush()
            _read_until(chat, answer)
        chat.stdin.close()
        assert chat.wait(ANSWER_SECONDS) == 0


def test_agents_lists_them(system: System, demo: Agent) -> None:
    plain = system.roost("agents", "--limit", "1000")
    listed = json.loads(system.roost("agents", "--limit", "1000", "--json").stdout)

    assert demo.id in [line.split("\t")[0] for line in plain.stdout.splitlines()]
    assert demo.read() in listed


def test_tasks_lists_them_by_filter(system: System, demo: Agent) -> None:
    demo.turn("6 * 7")

    done = system.roost("tasks", "--agent", demo.id, "--type", "exec", "--json")

    (task,) = json.loads(done.stdout)
    assert (task["agent_id"], task["status"], task["result"]) == (
        demo.id,
        "completed",
        42,
    )


def test_show_tells_a_task_with_its_updates(system: System, demo: Agent) -> None:
    demo.turn("6 * 7")
    (task,) = demo.tasks(type="exec")

    plain = system.roost("show", task["id"])
    shown = json.loads(system.roost("show", task["id"], "--json").stdout)

    assert plain.returncode == 0
    assert "globalThis.result = 6 * 7;" in plain.stdout
    assert shown["result"] == 42
    assert "exit" in [update["kind"] for update in shown["updates"]]


def test_kill_ends_a_running_exec(system: System) -> None:
    task = system.api.run("await Bun.sleep(600000)")
    system.api.wait_for_status(task["id"], "running")

    done = system.roost("kill", task["id"])

    assert done.returncode == 0
    assert system.api.finished(task["id"])["status"] == "cancelled"


def test_doctor_finds_nothing_that_fails(system: System) -> None:
    done = system.roost("doctor", "--json")

    found = json.loads(done.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert done.returncode == 0
    assert found["status"] in ("ok", "warn")
    assert {"sqlite", "schema", "server", "agents", "exec", "scheduler"} <= set(checks)
    assert all(check["detail"] for check in checks.values())
    assert all(check["fix"] for check in checks.values() if check["status"] != "ok")


def test_version_says_it(system: System) -> None:
    version = json.loads(system.roost("version", "--json").stdout)["version"]

    assert system.roost("version").stdout == f"roost {version}\n"
    assert system.api.send("GET", "/health").json()["version"] == version


@pytest.fixture
def stopped(system: System) -> System:
    """A home in which nothing runs."""
    return System(system.home.with_name("stopped"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "scout", "hello"),
        ("send", "scout", "hello"),
        ("tail",),
        ("agents",),
        ("tasks",),
        ("show", "exec-1"),
        ("agents", "--json"),
    ],
)
def test_a_command_says_when_nothing_runs(
    stopped: System, arguments: tuple[str, ...]
) -> None:
    done = stopped.roost(*arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"Nothing answers at {stopped.url}" in done.stderr
    assert "roost up" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_without_a_server_fails_and_says_what_to_do(stopped: System) -> None:
    done = stopped.roost("doctor", "--json")

    found = json.loads(done.stdout)
    assert found["checks"]
    assert (done.returncode == 0) == (found["status"] != "fail")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("ask", "scuot", "hello"), 1, "scout"),
        (("ask", "scout", ""), 1, "text"),
        (("show", "nothing"), 1, "nothing"),
        (("agents", "--token", "wrong"), 1, "token"),
        (("ask", "scout"), 2, "TEXT"),
        (("taks",), 2, "tasks"),
        (("tasks", "--status", "lost"), 2, "failed"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    system: System, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = system.roost(*arguments)

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_and_ends_well_when_told_to(
    mortal: System, new_agent: NewAgent, number: signal.Signals
) -> None:
    mortal.stop()
    mortal.command = ["roost", "up"]
    try:
        mortal.start()
        agent = new_agent(mortal.api, [run("await Bun.sleep(600000)")])
        assert "= 42" in mortal.roost("ask", "scout", "6 * 7").stdout
        agent.send("Sleep")
        wait_until(lambda: agent.tasks(type="exec", status="running"), 20, "it runs")

        ended = mortal.stop(number)
    finally:
        mortal.command = ["honcho", "start"]

    assert ended.code == 0


def test_up_on_a_port_that_is_taken_says_so(system: System) -> None:
    rival = System(system.home.with_name("rival"))
    rival.port = system.port

    done = rival.roost("up")

    assert (done.returncode, done.stdout) == (1, "")
    assert str(system.port) in done.stderr
    assert not rival.processes()
