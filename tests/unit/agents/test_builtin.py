"""The tools of every agent, on a runtime that only remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agents.control import Parked, Waiting
from agents.messages import ToolCall, ToolResult
from agents.runtime import TaskView, Waited
from agents.tools import Registry, ToolContext, builtin_tools
from agents.tools.artifacts import PAGE_CHARACTERS
from agents.tools.builtin import RESULT_CHARACTERS

REGISTRY = Registry(builtin_tools())


@pytest.fixture
def use(runtime) -> Callable[..., ToolResult]:
    """Call a tool as the loop does."""

    def call(name: str, **arguments: Any) -> ToolResult:
        made = ToolCall(id="id", name=name, arguments=arguments)
        context = ToolContext(
            key="turn-1/2", step=2, agent_id="scout", turn_id="turn-1", runtime=runtime
        )
        return REGISTRY.refuse(made) or REGISTRY.execute(made, context)

    return call


def ended(id: str = "exec-1", result: Any = 4) -> Waited:
    task = TaskView(id=id, status="completed", result=result)
    return Waited(task=task, pending=())


def test_exec_in_the_background_returns_at_once(use, runtime) -> None:
    result = use("exec", code="1", wait_seconds=0)
    assert json.loads(result.text) == {
        "task_id": "exec-1",
        "status": "queued",
        "pending": True,
        "background": True,
    }
    assert runtime.asked == [("start_exec", "turn-1/2", "1", None, False)]


def test_exec_with_a_wait_returns_the_result(use, runtime) -> None:
    runtime.waited = ended()
    result = use("exec", code="1", wait_seconds=5, id="mine")
    assert result.details == {"task_id": "exec-1", "status": "completed", "result": 4}
    assert runtime.asked == [
        ("start_exec", "turn-1/2", "1", "mine", True),
        ("wait_for", 2, ("mine",), 5),
    ]


def test_a_wait_that_parks_passes_through(use, runtime) -> None:
    wait = Waiting(step=2, target_ids=("exec-1",), deadline_at=None, why={})
    runtime.waited = Parked(wait)
    with pytest.raises(Parked):
        use("exec", code="1", wait_seconds=5)


def test_a_task_that_failed_is_a_failed_result_with_its_error(use, runtime) -> None:
    error = {"type": "exec_failed", "message": "boom"}
    task = TaskView(id="exec-1", status="failed", error=error)
    runtime.waited = Waited(task=task, pending=())
    result = use("exec", code="throw 1", wait_seconds=5)
    assert (result.status, result.details["error"]) == ("failed", error)


def test_a_wait_whose_time_is_over_says_that_the_task_goes_on(use, runtime) -> None:
    task = TaskView(id="exec-1", status="running")
    runtime.waited = Waited(task=task, pending=("exec-1",))
    result = use("await_task", task_id="exec-1", wait_seconds=1)
    assert result.status == "succeeded"
    assert result.details["pending"] is True
    assert result.details["await_error"].startswith("timeout")


def test_a_wait_that_a_message_cut_short_names_the_event(use, runtime) -> None:
    task = TaskView(id="exec-1", status="running")
    wake = {"id": 7, "stream": "task_input", "priority": "wake"}
    runtime.waited = Waited(task=task, pending=("exec-1",), wake=wake)
    details = use("await_task", task_id="exec-1", wait_seconds=1).details
    assert details["await_error"].startswith("wake")
    assert (details["wake_event_id"], details["wake_stream"]) == (7, "task_input")


@pytest.mark.line("G38")
def test_a_wait_for_several_names_those_that_go_on(use, runtime) -> None:
    task = TaskView(id="a", status="completed", result=1)
    runtime.waited = Waited(task=task, pending=("b",))
    details = use("await_task", task_id=["a", "b", "a"], wait_seconds=1).details
    assert details["pending_task_ids"] == ["b"]
    assert runtime.asked == [("wait_for", 2, ("a", "b"), 1)]


def test_a_wait_for_nothing_is_refused(use, runtime) -> None:
    assert use("await_task", task_id=[], wait_seconds=1).status == "failed"
    assert runtime.asked == []


def test_send_kill_and_delegate_reach_the_runtime_with_their_key(use, runtime) -> None:
    runtime.waited = ended("turn-9", {"text": "hi"})
    sent = use("send_task", task_id="ranger", body="hello")
    killed = use("kill_task", task_id="exec-1", reason="enough")
    asked = use("delegate", agent_id="ranger", text="hello", wait_seconds=5)
    assert sent.details == {"ok": True, "event_id": 7}
    assert killed.details == {"ok": True}
    assert asked.details["result"] == {"text": "hi"}
    assert runtime.asked == [
        ("send", "turn-1/2", "ranger", "hello"),
        ("kill", "exec-1", "enough"),
        ("delegate", "turn-1/2", "ranger", "hello", True),
        ("wait_for", 2, ("turn-9",), 5),
    ]


@pytest.mark.line("G79")
def test_what_the_runtime_refuses_is_read_by_the_model(use) -> None:
    result = use("kill_task", task_id="ghost")
    assert result.status == "failed"
    assert "There is no task 'ghost'." in result.text


def test_what_was_said_is_recalled_from_the_runtime(use, runtime) -> None:
    result = use("recall", query="dog", limit=3)
    assert json.loads(result.text)["matches"][0]["snippet"] == "Bello"
    assert use("recall", query="dog").status == "succeeded"
    assert runtime.asked == [("recall", "dog", 3), ("recall", "dog", 10)]
    assert use("recall", query="dog", limit=21).status == "failed"


def test_doing_nothing_is_possible(use) -> None:
    assert use("noop", comment="rest").details == {"status": "idle", "comment": "rest"}


def test_the_result_of_an_own_exec_names_its_variable(use, runtime) -> None:
    """G82."""
    for owner, named in (("scout", "$result7"), ("ranger", None)):
        task = TaskView(
            id="exec-1", status="completed", agent_id=owner, variable="$result7"
        )
        runtime.waited = Waited(task=task, pending=())
        details = use("exec", code="1", wait_seconds=5).details
        assert details.get("variable") == named


def test_a_page_of_an_artifact_is_short_enough_to_be_shown() -> None:
    assert PAGE_CHARACTERS + 500 < RESULT_CHARACTERS


@pytest.mark.parametrize("seconds", [-1, 86_401, "5"])
def test_a_wait_that_makes_no_sense_is_refused(use, runtime, seconds) -> None:
    result = use("exec", code="1", wait_seconds=seconds)
    assert (result.status, runtime.asked) == ("failed", [])
    assert "wait_seconds" in result.text
