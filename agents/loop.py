"""The agent loop: model, tools, model again, until there is an answer.

A pure function of the conversation: no database, no clock, no network of its own. What
happens is told to a `Journal` before and after, so that a resume is the same call on a
longer conversation: an answer with open calls goes on with the calls, an answer without
is the reply, anything else is a question for the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from agents.control import Stop
from agents.messages import (
    OUTCOME_UNKNOWN,
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    open_calls,
)
from agents.models.base import Delta, Model, ModelError, Request
from agents.runtime import Runtime
from agents.tools.registry import Registry, ToolContext

MAX_ROUNDS: Final = 50
CUT_OFF: Final = (
    "Not executed: your answer was cut off by its length limit, so these arguments may "
    "be incomplete. Send a shorter call."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """A journalled tool call; `was_started` when an earlier worker left it open."""

    number: int
    key: str
    was_started: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedAnswer:
    """A journalled model call; `attempt` counts the tries of this step from 1."""

    number: int
    attempt: int


class Journal(Protocol):
    """Where a turn is written down, step by step."""

    def start_answer(self, model_name: str) -> StartedAnswer:
        """A model call is about to be made."""

    def delta(self, number: int, delta: Delta) -> None:
        """A piece of its answer has come."""

    def finish_answer(
        self, number: int, answer: Answer, effects: dict[str, str]
    ) -> None:
        """The answer is whole; `effects` maps its call ids to their tools' effects."""

    def fail_answer(self, number: int, error: ModelError) -> None:
        """The model call failed."""

    def start_call(self, call: ToolCall) -> StartedCall:
        """A tool call is about to be made."""

    def finish_call(self, call: ToolCall, number: int, result: ToolResult) -> None:
        """A tool call has its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinker:
    """Everything that a turn thinks with."""

    model: Model
    tools: Registry
    journal: Journal
    runtime: Runtime
    stop: Stop
    system: str
    agent_id: str
    turn_id: str


class TooManyRounds(Exception):
    """The model kept calling tools."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The turn reached its limit of {limit} model calls without an answer."
        )
        self.limit = limit

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        limit = {"name": "rounds", "value": self.limit}
        return {"type": "limit", "message": str(self), "limit": limit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """How a turn came out: the reply, and what its own answers used."""

    text: str
    usage: Usage
    is_interrupted: bool


def think(
    thinker: Thinker,
    past: list[Message],
    own: list[Message],
    max_rounds: int = MAX_ROUNDS,
) -> Thought:
    """Go on from a conversation to the turn's reply; `own` is this turn's part of it.

    Raises ModelError or TooManyRounds when there can be none, and a TurnControl when
    the turn has to leave: parked, handed over, cancelled or abandoned.
    """
    while (reply := _reply_in(own)) is None:
        thinker.stop.check()
        if calls := open_calls(own):
            own.append(_call(thinker, calls[0], _last_answer(own)))
        elif _rounds(own) >= max_rounds:
            raise TooManyRounds(max_rounds)
        else:
            own.append(_ask(thinker, [*past, *own]))
    return Thought(
        text=reply.text,
        usage=sum((answer.usage for answer in _answers(own)), Usage()),
        is_interrupted=reply.stop_reason == "interrupted",
    )


def _reply_in(own: list[Message]) -> Answer | None:
    """The turn's reply is an answer at its end that calls nothing."""
    last = own[-1] if own else None
    if isinstance(last, AssistantMessage) and not last.answer.tool_calls:
        return last.answer
    return None


def _answers(own: list[Message]) -> list[Answer]:
    return [m.answer for m in own if isinstance(m, AssistantMessage)]


def _last_answer(own: list[Message]) -> Answer:
    return _answers(own)[-1]


def _rounds(own: list[Message]) -> int:
    return len(_answers(own))


def _ask(thinker: Thinker, messages: list[Message]) -> AssistantMessage:
    started = thinker.journal.start_answer(thinker.model.name)
    request = Request(
        system=thinker.system,
        messages=tuple(messages),
        tools=thinker.tools.specs(),
        attempt=started.attempt,
    )
    try:
        answer = thinker.model.stream(
            request,
            lambda delta: thinker.journal.delta(started.number, delta),
            thinker.stop.interrupt,
        )
    except ModelError as error:
        thinker.journal.fail_answer(started.number, error)
        raise
    thinker.stop.check()
    effects: dict[str, str] = {
        call.id: thinker.tools.effect_of(call.name) for call in answer.tool_calls
    }
    thinker.journal.finish_answer(started.number, answer, effects)
    return AssistantMessage(answer=answer)


def _call(thinker: Thinker, call: ToolCall, answer: Answer) -> ToolMessage:
    started = thinker.journal.start_call(call)
    result = _result_of(thinker, call, answer, started)
    thinker.journal.finish_call(call, started.number, result)
    return ToolMessage(call_id=call.id, name=call.name, result=result)


def _result_of(
    thinker: Thinker, call: ToolCall, answer: Answer, started: StartedCall
) -> ToolResult:
    if answer.stop_reason == "length":
        return ToolResult(text=CUT_OFF, status="failed")
    if refusal := thinker.tools.refuse(call):
        return refusal
    if started.was_started and thinker.tools.effect_of(call.name) == "at_most_once":
        return ToolResult(text=OUTCOME_UNKNOWN, status="uncertain")
    context = ToolContext(
        key=started.key,
        step=started.number,
        agent_id=thinker.agent_id,
        turn_id=thinker.turn_id,
        runtime=thinker.runtime,
    )
    return thinker.tools.execute(call, context)
