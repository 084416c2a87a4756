"""The tools that every agent has. Names and arguments are part of the contract."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import Field

from agents.messages import ToolResult
from agents.runtime import TaskView, Waited
from agents.tools.artifacts import read_artifact
from agents.tools.images import view_image
from agents.tools.registry import Tool, ToolContext, tool

# What a model is shown of any tool's result; the whole of it becomes an artifact.
RESULT_CHARACTERS: Final = 16_000

Seconds = Annotated[
    float,
    Field(ge=0, le=86_400, description="How long to wait for the end, in seconds."),
]
TaskId = Annotated[str, Field(min_length=1, description="The id of a task or agent.")]


@tool(effect="idempotent", name="exec")
def exec_code(
    context: ToolContext,
    code: Annotated[
        str,
        Field(min_length=1, description="TypeScript for Bun. Set globalThis.result."),
    ],
    wait_seconds: Seconds,
    id: Annotated[
        str | None, Field(description="An id of your own, not taken yet.")
    ] = None,
) -> ToolResult:
    """Run TypeScript in a sandbox and return `globalThis.result`.

    Import helpers from "core/…" and "tools/…". With wait_seconds 0 it runs in the
    background: use await_task later. The result has a `variable`: in later code,
    `$result7` is that result, `$last` the newest one, and `$results` the array of the
    last 200, oldest first.
    """
    task = context.runtime.start_exec(context.key, code, id, waits=wait_seconds > 0)
    return _after(context, task, wait_seconds)


@tool(effect="idempotent")
def await_task(
    context: ToolContext,
    task_id: Annotated[
        str | list[str],
        Field(description="The id of a task or agent, or several: the first counts."),
    ],
    wait_seconds: Annotated[
        float,
        Field(gt=0, le=86_400, description="How long to wait at most, in seconds."),
    ],
) -> ToolResult:
    """Wait for a task (or the first of several) to end and return its result.

    Of an agent it is the turn that answers you, else the one it takes now or next; if
    it has none to take, the result of its last turn is returned at once.

    A message that wakes you ends the wait early; the task goes on.
    """
    ids = [task_id] if isinstance(task_id, str) else list(dict.fromkeys(task_id))
    if not ids:
        return ToolResult(text="task_id is an empty list.", status="failed")
    waited = context.runtime.wait_for(context.step, ids, wait_seconds)
    return _shown_after(context, waited, names_pending=len(ids) > 1)


@tool(effect="idempotent")
def send_task(
    context: ToolContext,
    task_id: TaskId,
    body: Annotated[str, Field(min_length=1, description="What to send.")],
) -> ToolResult:
    """Send a message to an agent, or a line of input to a running exec."""
    return _json(context.runtime.send(context.key, task_id, body))


@tool(effect="idempotent")
def kill_task(
    context: ToolContext,
    task_id: Annotated[str, Field(min_length=1, description="The id of a task.")],
    reason: Annotated[str | None, Field(description="Why.")] = None,
) -> ToolResult:
    """Kill a task and everything that it started."""
    context.runtime.kill(task_id, reason)
    return _json({"ok": True})


@tool(effect="idempotent")
def delegate(
    context: ToolContext,
    agent_id: Annotated[
        str, Field(min_length=1, description="The agent; made when it is new.")
    ],
    text: Annotated[str, Field(min_length=1, description="What to ask it.")],
    wait_seconds: Seconds,
) -> ToolResult:
    """Ask another agent and return its answer.

    With wait_seconds 0, or when the time is over first, the answer comes later, as a
    message to you.
    """
    waits = wait_seconds > 0
    task = context.runtime.delegate(context.key, agent_id, text, waits=waits)
    return _after(context, task, wait_seconds)


@tool(effect="pure")
def noop(
    context: ToolContext,  # noqa: ARG001 (every handler takes it)
    comment: Annotated[str | None, Field(description="Why nothing is to do.")] = None,
) -> ToolResult:
    """Do nothing, on purpose."""
    return _json({"status": "idle", "comment": comment})


@tool(effect="pure")
def recall(
    context: ToolContext,
    query: Annotated[
        str,
        Field(min_length=1, max_length=1000, description="Words that were said."),
    ],
    limit: Annotated[int, Field(ge=1, le=20, description="How many at most.")] = 10,
) -> ToolResult:
    """Search your own past, also what is no longer in the conversation.

    Finds messages, answers and results with all the words, else with any of them;
    the newest come first.
    """
    return _json({"matches": context.runtime.recall(query, limit)})


def builtin_tools() -> tuple[Tool, ...]:
    """Return the tools of every agent, in a stable order."""
    return (
        exec_code,
        await_task,
        send_task,
        kill_task,
        delegate,
        noop,
        view_image,
        read_artifact,
        recall,
    )


def _after(context: ToolContext, task: TaskView, wait_seconds: float) -> ToolResult:
    if wait_seconds == 0 and not task.is_over:
        return _shown(context, task, {"pending": True, "background": True})
    waited = context.runtime.wait_for(context.step, [task.id], wait_seconds)
    return _shown_after(context, waited)


def _shown_after(
    context: ToolContext, waited: Waited, *, names_pending: bool = False
) -> ToolResult:
    """Show how a wait ended: with a result, by a message that woke, or by its time."""
    extra: dict[str, Any] = {}
    if names_pending:
        extra["pending_task_ids"] = list(waited.pending)
    if waited.task.is_over:
        return _shown(context, waited.task, extra)
    extra |= {"pending": True, "background": True}
    if waited.is_interrupted:
        extra["await_error"] = "interrupted: the turn ends; the task goes on"
    elif waited.wake is None:
        extra["await_error"] = "timeout: the wait ended before the task did; it goes on"
    else:
        extra["await_error"] = "wake: a message came; the task goes on"
        extra["wake_event_id"] = waited.wake["id"]
        extra["wake_stream"] = waited.wake["stream"]
        extra["wake_priority"] = waited.wake["priority"]
    return _shown(context, waited.task, extra)


def _shown(context: ToolContext, task: TaskView, extra: dict[str, Any]) -> ToolResult:
    shown: dict[str, Any] = {"task_id": task.id, "status": task.status, **extra}
    if task.variable is not None and task.agent_id == context.agent_id:
        shown["variable"] = task.variable
    if task.status == "completed":
        shown["result"] = task.result
    if task.error is not None:
        shown["error"] = task.error
    is_bad = task.status in ("failed", "cancelled")
    return _json(shown, status="failed" if is_bad else "succeeded")


def _json(value: dict[str, Any], status: Any = "succeeded") -> ToolResult:
    text = json.dumps(value, ensure_ascii=False)
    return ToolResult(text=text, status=status, details=value)
