"""Everything that a turn thinks with, and the protocols of what it is lent for that.

`workers` fulfils the protocols on the database; tests fulfil them with lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from agents.control import Stop
from agents.hooks import Hooks
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolResult,
    UserMessage,
)
from agents.models.base import Delta, Model, ModelError, Thinking, ToolSpec
from agents.runtime import Runtime
from agents.tools.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one turn may use; None is no limit."""

    rounds: int = 50
    output_tokens: int | None = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a model call may use: about so much input, at the most so much output."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What every call of a generation begins with, to the byte: caches live on it."""

    system: str
    tools: tuple[ToolSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedAnswer:
    """A journalled model call; `attempt` counts the tries of this step from 1. A budget
    may leave less than the model's own limit for its output."""

    number: int
    attempt: int
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """A journalled tool call; `was_started` when an earlier worker left it open."""

    number: int
    key: str
    was_started: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the journal knows of an open call."""

    is_started: bool = False
    result: ToolResult | None = None


class Journal(Protocol):
    """Where a turn is written down, step by step."""

    def start_answer(
        self, model_name: str, heard: Sequence[UserMessage], estimate: Estimate
    ) -> StartedAnswer:
        """A model call is about to be made; `heard` has come in since the last. Raises
        Parked where no budget has room for it."""

    def delta(self, number: int, delta: Delta) -> None:
        """A piece of its answer has come."""

    def finish_answer(
        self, number: int, answer: Answer, effects: dict[str, str]
    ) -> None:
        """The answer is whole; `effects` maps its call ids to their tools' effects."""

    def fail_answer(self, number: int, error: ModelError) -> None:
        """The model call failed."""

    def standing(self, calls: Sequence[ToolCall]) -> Mapping[str, Standing]:
        """Say by its id how far each call has come."""

    def start_call(self, call: ToolCall) -> StartedCall:
        """A tool call is about to be made."""

    def report(self, call: ToolCall, number: int, text: str) -> None:
        """A tool tells how far it is."""

    def record_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """A tool call has its result; those before it may not have theirs yet. Return
        what the model is shown of it."""

    def skip_call(self, call: ToolCall, result: ToolResult) -> None:
        """A tool call is not made at all."""

    def append_results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> None:
        """The results go into the history, in this order."""

    def finish_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """A tool call has its result, which goes into the history: both at once.
        Return what the model is shown of it."""


class Inbox(Protocol):
    """What comes in while a turn is under way."""

    def is_urgent(self) -> bool:
        """Whether somebody's message waits that wakes: the turn should turn to it."""

    def take(self) -> list[UserMessage]:
        """Take what wakes into the turn, before its next model call."""

    def follow_up(self) -> list[UserMessage]:
        """Take messages that do not hurry, now that the turn would end."""


@dataclass(slots=True)
class Conversation:
    """What was before this turn, and the turn's own part of it."""

    past: list[Message]
    own: list[Message]
    # The turn's answers that a compaction has cut off: they still count.
    earlier: list[Answer] = field(default_factory=list)

    @property
    def answers(self) -> list[Answer]:
        """The turn's own answers."""
        own = [m.answer for m in self.own if isinstance(m, AssistantMessage)]
        return [*self.earlier, *own]

    @property
    def heard(self) -> list[UserMessage]:
        """What the turn has been told and has not said or done anything to yet."""
        told: list[UserMessage] = []
        for message in reversed(self.own):
            if not isinstance(message, UserMessage):
                break
            told.insert(0, message)
        return told

    @property
    def reply(self) -> Answer | None:
        """The turn's reply is an answer at its end that calls nothing."""
        last = self.own[-1] if self.own else None
        if isinstance(last, AssistantMessage) and not last.answer.tool_calls:
            return last.answer
        return None


class Context(Protocol):
    """Keeps the conversation within what the model can read."""

    def before_call(self, conversation: Conversation) -> None:
        """Make room before a model call, if there has to be more."""

    def after_overflow(self, conversation: Conversation) -> bool:
        """Make room because the model refused so much; False when it cannot."""


class _EverythingFits:
    def before_call(self, conversation: Conversation) -> None:
        """Leave it as it is."""

    def after_overflow(self, conversation: Conversation) -> bool:  # noqa: ARG002
        """Give up."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinker:
    """Everything that a turn thinks with. Without a `pool` tool calls are made one by
    one, with a look at the inbox between them; with one, those of an answer together.
    """

    model: Model
    tools: Registry
    journal: Journal
    runtime: Runtime
    stop: Stop
    inbox: Inbox
    prompt: Callable[[], Prompt]
    agent_id: str
    turn_id: str
    hooks: Hooks = field(default_factory=Hooks)
    limits: Limits = field(default_factory=Limits)
    context: Context = field(default_factory=_EverythingFits)
    pool: Executor | None = None
    thinking: Thinking | None = None
