"""Doubles for the loop's two seams: a journal in memory, and a runtime that records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from agents.control import Stop
from agents.hooks import Hooks
from agents.messages import Answer, ToolCall, ToolResult, UserMessage
from agents.models.base import Delta, Model, ModelError
from agents.models.scripted import ScriptedModel
from agents.runtime import RuntimeRefused, TaskView, Waited
from agents.thinker import (
    Estimate,
    Limits,
    Prompt,
    Standing,
    StartedAnswer,
    StartedCall,
    Thinker,
)
from agents.tools.registry import Registry, Tool

Told = tuple[Any, ...]


@dataclass
class MemoryJournal:
    """Numbers steps as the broker does, and remembers what it was told, in order.

    `started` holds the ids of calls that an earlier worker began.
    """

    told: list[Told] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    recorded: dict[str, ToolResult] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    heard: list[list[str]] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    max_output_tokens: int | None = None
    attempt: int = 1
    _last: int = 0

    def start_answer(
        self, model_name: str, heard: Sequence[UserMessage], estimate: Estimate
    ) -> StartedAnswer:
        self._last += 1
        self.estimates.append(estimate)
        self.heard.append([message.text for message in heard])
        self.told.append(("start_answer", self._last, model_name))
        return StartedAnswer(
            number=self._last,
            attempt=self.attempt,
            max_output_tokens=self.max_output_tokens,
        )

    def delta(self, number: int, delta: Delta) -> None:
        self.told.append(("delta", number, delta.kind, delta.text))

    def finish_answer(
        self, number: int, answer: Answer, effects: dict[str, str]
    ) -> None:
        for call in answer.tool_calls:
            self._last += 1
            self.numbers[call.id] = self._last
        self.told.append(("finish_answer", number, answer.text, effects))

    def fail_answer(self, number: int, error: ModelError) -> None:
        self.told.append(("fail_answer", number, error.kind))

    def start_call(self, call: ToolCall) -> StartedCall:
        number = self.numbers.setdefault(call.id, self._last + 1)
        self._last = max(self._last, number)
        self.told.append(("start_call", number, call.name))
        return StartedCall(
            number=number,
            key=f"turn-1/{number}",
            was_started=call.id in self.started,
        )

    def finish_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        self.told.append(("finish_call", number, result.status, result.text))
        return result

    def standing(self, calls: Sequence[ToolCall]) -> dict[str, Standing]:
        return {
            call.id: Standing(
                is_started=call.id in self.started, result=self.recorded.get(call.id)
            )
            for call in calls
        }

    def report(self, call: ToolCall, number: int, text: str) -> None:
        self.told.append(("report", number, text))

    def skip_call(self, call: ToolCall, result: ToolResult) -> None:
        self.told.append(("skip_call", self.numbers.get(call.id), result.text))

    def record_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        self.recorded[call.id] = result
        self.told.append(("record_call", number, result.status, result.text))
        return result

    def append_results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> None:
        self.told.append(("append_results", *[result.text for _, result in results]))


@dataclass
class ListInbox:
    """What comes in, by a list each of what wakes and of what does not hurry."""

    waking: list[str] = field(default_factory=list)
    quiet: list[str] = field(default_factory=list)

    def is_urgent(self) -> bool:
        return bool(self.waking)

    def take(self) -> list[UserMessage]:
        return self._first(self.waking)

    def follow_up(self) -> list[UserMessage]:
        return self._first(self.quiet)

    def _first(self, waiting: list[str]) -> list[UserMessage]:
        content = [{"type": "text", "text": waiting.pop(0)}] if waiting else None
        return [UserMessage(content=content)] if content else []


@dataclass
class RecordingRuntime:
    """Does nothing but remember what it was asked; a wait ends as `waited` says."""

    asked: list[Told] = field(default_factory=list)
    waited: Waited | BaseException | None = None

    def start_exec(
        self, key: str, code: str, id: str | None, *, waits: bool
    ) -> TaskView:
        self.asked.append(("start_exec", key, code, id, waits))
        return TaskView(id=id or "exec-1", status="queued")

    def wait_for(self, step: int, task_ids: Sequence[str], seconds: float) -> Waited:
        self.asked.append(("wait_for", step, tuple(task_ids), seconds))
        if isinstance(self.waited, BaseException):
            raise self.waited
        assert self.waited is not None
        return self.waited

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        self.asked.append(("send", key, target_id, body))
        return {"ok": True, "event_id": 7}

    def delegate(self, key: str, agent_id: str, text: str, *, waits: bool) -> TaskView:
        self.asked.append(("delegate", key, agent_id, text, waits))
        return TaskView(id="turn-9", status="queued")

    def recall(self, query: str, limit: int) -> list[dict[str, Any]]:
        self.asked.append(("recall", query, limit))
        return [{"entry_id": 3, "at": "…", "who": "user", "snippet": "Bello"}]

    def kill(self, task_id: str, reason: str | None) -> None:
        if task_id == "ghost":
            raise RuntimeRefused("There is no task 'ghost'.")
        self.asked.append(("kill", task_id, reason))


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def runtime() -> RecordingRuntime:
    return RecordingRuntime()


@pytest.fixture
def inbox() -> ListInbox:
    return ListInbox()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def thinker(
    journal: MemoryJournal, runtime: RecordingRuntime, inbox: ListInbox
) -> Callable[..., Thinker]:
    """Make a thinker from a script (or a model) and tools."""

    def make(
        script: list[dict[str, Any]] | Model,
        *tools: Tool,
        pool: ThreadPoolExecutor | None = None,
        hooks: Hooks | None = None,
        limits: Limits | None = None,
    ) -> Thinker:
        model = ScriptedModel(script) if isinstance(script, list) else script
        registry = Registry(tools)
        return Thinker(
            model=model,
            tools=registry,
            journal=journal,
            runtime=runtime,
            stop=Stop(),
            inbox=inbox,
            prompt=lambda: Prompt(system="Be brief.", tools=registry.specs()),
            agent_id="scout",
            turn_id="turn-1",
            pool=pool,
            hooks=hooks or Hooks(),
            limits=limits or Limits(),
        )

    return make
