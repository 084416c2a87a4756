"""The seam to every model: a request in, deltas streamed out, an answer back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol

from agents.control import Interrupt
from agents.messages import Answer, Message

# The kind of a ModelError that says: the conversation is longer than the window.
CONTEXT_OVERFLOW: Final = "context_overflow"

# How much a model may think before it answers; adapters map it to what theirs knows.
Thinking = Literal["off", "minimal", "low", "medium", "high", "xhigh"]
THINKING: Final[tuple[Thinking, ...]] = (
    "off",
    "minimal",
    "low",
    "medium",
    "high",
    "xhigh",
)


def _no_image(handle: str) -> bytes:
    raise LookupError(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model sees it; `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the tool as the history keeps it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One model call. `attempt` counts from 1 over the tries of this same step.

    `thinking` None leaves it to the provider, `max_output_tokens` None to the model's
    own limit. `cache_key` is the same for calls that share a prefix. `image_bytes`
    returns the bytes of an image block's artifact; LookupError when they are gone.
    `on_payload` sees what is sent to a provider, just before (P39).
    """

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    attempt: int = 1
    thinking: Thinking | None = None
    max_output_tokens: int | None = None
    cache_key: str | None = None
    image_bytes: Callable[[str], bytes] = field(default=_no_image, compare=False)
    on_payload: Callable[[dict[str, Any]], None] | None = field(
        default=None, compare=False
    )

    def show(self, payload: dict[str, Any]) -> None:
        """Show a payload to who wants to see it: a copy, so that it stays what it is.

        Called by adapters, in the turn's own thread, before anything is sent.
        """
        if self.on_payload is not None:
            self.on_payload(json.loads(json.dumps(payload)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of an answer as it streams; for a tool call, a piece of its arguments."""

    kind: Literal["text", "reasoning", "tool_call"]
    text: str
    tool_call_id: str | None = None
    tool_name: str | None = None


class Model(Protocol):
    """A model behind one seam; one contract suite holds for every implementation."""

    @property
    def name(self) -> str:
        """`provider/model`."""

    @property
    def context_tokens(self) -> int:
        """How many tokens a conversation with it may have: its window."""

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the request, streaming deltas; when interrupted, return what there is
        with stop_reason `interrupted`. Raises ModelError, and what `emit` raises; that
        is called from any one thread, and must not block."""


class ModelError(Exception):
    """A model call failed."""

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        is_retriable: bool,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.is_retriable = kind, is_retriable
        self.retry_after_seconds = retry_after_seconds

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        shown = {"type": self.kind, "message": str(self)}
        if self.retry_after_seconds is None:
            return shown
        return {**shown, "retry_after_seconds": self.retry_after_seconds}
