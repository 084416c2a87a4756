"""The neutral conversation: what every model adapter reads and writes.

A conversation is a tuple of messages: the user's, the assistant's, and one tool message
per tool call. Providers' own formats exist only inside their adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

StopReason = Literal["end", "tool_use", "length", "refusal", "interrupted"]
CallStatus = Literal["succeeded", "failed", "uncertain"]
Content = list[dict[str, Any]]

OUTCOME_UNKNOWN: Final = (
    "Interrupted: this call had begun when its worker died; its outcome is unknown. "
    "It may or may not have happened. It was not repeated: check before you repeat it."
)
CUT_OFF: Final = (
    "Not executed: your answer was cut off by its length limit, so these arguments may "
    "be incomplete. Send a shorter call."
)
SKIPPED: Final = "Skipped due to queued user message."
INTERRUPTED: Final = "Not executed: the turn was interrupted."


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more model calls, each token in one count only.

    `input_tokens` are those that were neither read from a cache nor written to one;
    `output_tokens` include what the model thought.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Add two counts."""
        mine, theirs = asdict(self), asdict(other)
        return Usage(**{name: mine[name] + theirs[name] for name in mine})

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a model asked for. `arguments` is None when they were not valid JSON."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw_arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """An answer in its provider's own form: JSON items, as they came.

    Signatures and encrypted reasoning have to go back unchanged, and only to whom they
    came from. Everybody else reads the neutral answer beside it.
    """

    provider: str
    model: str
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's whole answer to one call."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: StopReason = "end"
    usage: Usage = field(default_factory=Usage)
    native: Native | None = None
    # Who answered, where the one that was asked passed the question on.
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool call came to; the model reads `text`, also when it failed.

    `blocks` are further content for the model. An image is `{"type": "image",
    "media_type", "artifact", "name", "fidelity", "size_bytes"}`: its bytes lie in the
    artifact. `details` are for people's eyes only.
    """

    text: str
    status: CallStatus = "succeeded"
    details: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[dict[str, Any], ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether the model should take the text for an error."""
        return self.status != "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessage:
    """What came in. `content` is as it was sent; `framed` is what a model reads of it,
    with the news around it, where there is such a frame."""

    content: Content
    framed: str | None = None

    @property
    def text(self) -> str:
        """The text blocks, joined by blank lines."""
        return "\n\n".join(b["text"] for b in self.content if b["type"] == "text")

    @property
    def for_model(self) -> Content:
        """The blocks that a provider is sent."""
        if self.framed is None:
            return self.content
        others = [block for block in self.content if block["type"] != "text"]
        return [{"type": "text", "text": self.framed}, *others]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage:
    """What the model answered."""

    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolMessage:
    """What one tool call came to."""

    call_id: str
    name: str
    result: ToolResult


Message = UserMessage | AssistantMessage | ToolMessage


def with_own_ids(answer: Answer, conversation: Sequence[Message], step: int) -> Answer:
    """Give every call of an answer an id that no other call of the conversation has.

    Results find their calls by id, and so does the journal; some servers send none, or
    the same ones in every answer. An answer so changed is no longer its provider's.
    """
    taken = {
        call.id
        for message in conversation
        if isinstance(message, AssistantMessage)
        for call in message.answer.tool_calls
    }
    calls: list[ToolCall] = []
    for number, call in enumerate(answer.tool_calls, start=1):
        id = call.id
        if not id or id in taken:
            id = f"{id or 'call'}-{step}-{number}"
        taken.add(id)
        calls.append(replace(call, id=id))
    if tuple(calls) == answer.tool_calls:
        return answer
    return replace(answer, tool_calls=tuple(calls), native=None)


def open_calls(messages: Sequence[Message]) -> list[ToolCall]:
    """Return the calls of the last answer that have no result yet, in source order."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.call_id)
        elif isinstance(message, AssistantMessage):
            calls = message.answer.tool_calls
            return [call for call in calls if call.id not in answered]
        else:
            return []
    return []


def close_abandoned_calls(past: Sequence[Message]) -> list[Message]:
    """Give every call that was left without a result an explicit one.

    A killed turn leaves calls open. No provider may ever see a call without its result.
    """
    closed: list[Message] = []
    waiting: list[ToolCall] = []
    for message in past:
        if isinstance(message, ToolMessage):
            waiting = [call for call in waiting if call.id != message.call_id]
        else:
            closed += [_unknown(call) for call in waiting]
            waiting = []
        closed.append(message)
        if isinstance(message, AssistantMessage):
            waiting = list(message.answer.tool_calls)
    return closed + [_unknown(call) for call in waiting]


def mend(messages: Sequence[Message]) -> list[Message]:
    """Make a conversation valid that somebody has cut: a result without its call goes,
    a call without its result gets one."""
    known: set[str] = set()
    kept: list[Message] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            known = {call.id for call in message.answer.tool_calls}
        elif isinstance(message, ToolMessage):
            if message.call_id not in known:
                continue
            known.discard(message.call_id)
        else:
            known = set()
        kept.append(message)
    return close_abandoned_calls(kept)


def _unknown(call: ToolCall) -> ToolMessage:
    result = ToolResult(text=OUTCOME_UNKNOWN, status="uncertain")
    return ToolMessage(call_id=call.id, name=call.name, result=result)
