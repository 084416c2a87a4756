"""The tools that every agent has. Names and arguments are part of the contract."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import Field

from agents.messages import ToolResult
from agents.runtime import TaskView, Waited
from agents.tools.registry import Tool, ToolContext, tool

# What a model is shown of a result; the whole of it stays in the task.
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
    id: Annotated[str | None, Field(description="An id of your own.")] = None,
) -> ToolResult:
    """Run TypeScript in a sandbox and return `globalThis.result`.

    Import helpers from "core/…" and "tools/…". With wait_seconds 0 it runs in the
    background: use await_task later.
    """
    task = context.runtime.start_exec(context.key, code, id)
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

    A message that wakes you ends the wait early; the task goes on.
    """
    ids = [task_id] if isinstance(task_id, str) else list(dict.fromkeys(task_id))
    if not ids:
        return ToolResult(text="task_id is an empty list.", status="failed")
    waited = context.runtime.wait_for(context.step, ids, wait_seconds)
    return _shown_after(waited, names_pending=len(ids) > 1)


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
    task_id: TaskId,
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
    """Ask another agent and return its answer."""
    task = context.runtime.delegate(context.key, agent_id, text)
    return _after(context, task, wait_seconds)


@tool(effect="pure")
def noop(
    context: ToolContext,  # noqa: ARG001 (every handler takes it)
    comment: Annotated[str | None, Field(description="Why nothing is to do.")] = None,
) -> ToolResult:
    """Do nothing, on purpose."""
    return _json({"status": "idle", "comment": comment})


def builtin_tools() -> tuple[Tool, ...]:
    """Return the tools of every agent, in a stable order."""
    return (exec_code, await_task, send_task, kill_task, delegate, noop)


def _after(context: ToolContext, task: TaskView, wait_seconds: float) -> ToolResult:
    if wait_seconds == 0 and not task.is_over:
        return _shown(task, {"pending": True, "background": True})
    return _shown_after(context.runtime.wait_for(context.step, [task.id], wait_seconds))


def _shown_after(waited: Waited, *, names_pending: bool = False) -> ToolResult:
    """Show how a wait ended: with a result, by a message that woke, or by its time."""
    extra: dict[str, Any] = {}
    if names_pending:
        extra["pending_task_ids"] = list(waited.pending)
    if waited.task.is_over:
        return _shown(waited.task, extra)
    extra |= {"pending": True, "background": True}
    if waited.wake is None:
        extra["await_error"] = "timeout: the wait ended before the task did; it goes on"
    else:
        extra["await_error"] = "wake: a message came; the task goes on"
        extra["wake_event_id"] = waited.wake["id"]
        extra["wake_stream"] = waited.wake["stream"]
        extra["wake_priority"] = waited.wake["priority"]
    return _shown(waited.task, extra)


def _shown(task: TaskView, extra: dict[str, Any]) -> ToolResult:
    shown: dict[str, Any] = {"task_id": task.id, "status": task.status, **extra}
    if task.status == "completed":
        shown["result"] = task.result
    if task.error is not None:
        shown["error"] = task.error
    is_bad = task.status in ("failed", "cancelled")
    return _json(shown, status="failed" if is_bad else "succeeded")


def _json(value: dict[str, Any], status: Any = "succeeded") -> ToolResult:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > RESULT_CHARACTERS:
        text = _cut(value, text)
    return ToolResult(text=text, status=status, details=value)


def _cut(value: dict[str, Any], text: str) -> str:
    note: dict[str, Any] = {
        **{name: value[name] for name in ("task_id", "status") if name in value},
        "truncated": f"{len(text)} characters; the whole is in the task",
        "head": text[: RESULT_CHARACTERS // 2],
        "tail": text[-RESULT_CHARACTERS // 4 :],
    }
    return json.dumps(note, ensure_ascii=False)
