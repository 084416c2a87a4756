"""The log of a turn's calls: one line for each model call and each tool call.

A line says who, what, how long and how many tokens, and no word of what was said, asked
for or answered: logs go where histories may not. `action` is `model_call` or
`tool_call`; `workers.turns` writes `inbound`, `outbound` and `error`. The same things,
with their texts, are events.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from agents.messages import Answer, ToolCall, ToolResult, UserMessage
from agents.models import ModelError
from agents.thinker import Estimate, StartedAnswer, StartedCall
from broker import Broker
from broker.turns import Turn
from workers.batcher import Batcher
from workers.journal import TurnJournal

log = structlog.get_logger(__name__)


class LoggedJournal(TurnJournal):
    """The journal of a claimed turn that also logs what is over.

    `took_ms` is since this worker began the call: a parked one has begun anew.
    """

    def __init__(self, broker: Broker, turn: Turn, batcher: Batcher) -> None:
        super().__init__(broker, turn, batcher)
        self._log = log.bind(task_id=turn.id, agent_id=turn.agent["id"])
        self._model_name = ""
        # By the number of the step: calls of one answer run together.
        self._began: dict[int, float] = {}

    def start_answer(
        self, model_name: str, heard: Sequence[UserMessage], estimate: Estimate
    ) -> StartedAnswer:
        """Journal a model call that begins."""
        started = super().start_answer(model_name, heard, estimate)
        self._model_name = model_name
        self._began[started.number] = time.monotonic()
        return started

    def finish_answer(
        self, number: int, answer: Answer, effects: dict[str, str]
    ) -> None:
        """Journal and log a model call that came to its end."""
        super().finish_answer(number, answer, effects)
        self._log.info(
            "The model answered.",
            action="model_call",
            step=number,
            model=answer.model or self._model_name,
            ok=True,
            stop_reason=answer.stop_reason,
            tool_calls=len(answer.tool_calls),
            **answer.usage.as_json(),
            took_ms=self._took_ms(number),
        )

    def fail_answer(self, number: int, error: ModelError) -> None:
        """Journal and log a model call that failed."""
        super().fail_answer(number, error)
        self._log.warning(
            "The model gave no answer.",
            action="model_call",
            step=number,
            model=self._model_name,
            ok=False,
            error=error.kind,
            took_ms=self._took_ms(number),
        )

    def start_call(self, call: ToolCall) -> StartedCall:
        """Journal a tool call that begins."""
        started = super().start_call(call)
        self._began[started.number] = time.monotonic()
        return started

    def record_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """Journal and log the result of one call of several."""
        shown = super().record_call(call, number, result)
        self._log_call(call, number, result)
        return shown

    def finish_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """Journal and log the result of a call."""
        shown = super().finish_call(call, number, result)
        self._log_call(call, number, result)
        return shown

    def _log_call(self, call: ToolCall, number: int, result: ToolResult) -> None:
        self._log.info(
            "A tool call is over.",
            action="tool_call",
            step=number,
            tool=call.name,
            ok=not result.is_error,
            status=result.status,
            took_ms=self._took_ms(number),
        )

    def _took_ms(self, number: int) -> float:
        now = time.monotonic()
        return round(1_000 * (now - self._began.pop(number, now)), 1)
