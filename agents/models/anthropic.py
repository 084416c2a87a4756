"""Claude through Anthropic's Messages API, streamed.

Thinking is adaptive, with an effort; what a level means differs by the model:

| level             | since Claude 4.6             | 4.5 and before            |
|-------------------|------------------------------|---------------------------|
| None              | the provider's default       | no thinking               |
| off               | see `Mind.off`               | disabled                  |
| minimal, low      | effort low                   | 1,024 and 4,096 tokens    |
| medium, high      | effort medium, high          | 10,000 and 20,000 tokens  |
| xhigh             | effort xhigh (4.6: high)     | 32,000 tokens             |

Where a model thinks by default, None asks for the same with its summary (G116): since
Claude 4.7 the thoughts are left out unless they are asked for. `off` leaves earlier
thoughts out of the history too.

Newer models bind their thoughts to everything said before them (preserved thinking):
after a compaction, or with other tools, the thoughts that were kept would be refused.
`block_binding` has the API drop those instead.

How an answer ends: `max_tokens` is `length`, and so is `pause_turn` (only tools on
Anthropic's side pause, and none are asked for). `model_context_window_exceeded` is an
overflow: the window was full, so the loop makes room and asks again. A refused answer
is not sent back in its native form: what of it was cut off is not known.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anthropic
import httpx2

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Native,
    StopReason,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from agents.models import wire
from agents.models.base import (
    CONTEXT_OVERFLOW,
    Delta,
    ModelError,
    Request,
    Thinking,
    ToolSpec,
)
from agents.models.catalogue import known
from agents.models.clients import Clients
from agents.models.history import (
    NO_OUTPUT,
    OPENING,
    CallIds,
    find_image,
    is_empty,
    parse_arguments,
    sent_arguments,
)
from agents.models.listening import Emit, hear_out, listen
from agents.models.provider import Access, broken, failure, incomplete

JSON = dict[str, Any]

PROVIDER: Final = "anthropic"
IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
# A mark ends what may be cached; a request may have four of them.
CACHED: Final = {"type": "ephemeral"}
# Without it, `block_binding` is an unknown field.
BINDING_BETA: Final = "thinking-binding-controls-2026-08-01"
LEAST_BUDGET_TOKENS: Final = 1_024

_STOPS: Final[dict[str, StopReason]] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tool_use",
    "max_tokens": "length",
    "pause_turn": "length",
    "refusal": "refusal",
}
_EFFORTS: Final[dict[Thinking, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
}
_BUDGETS: Final[dict[Thinking, int]] = {
    "minimal": LEAST_BUDGET_TOKENS,
    "low": 4_096,
    "medium": 10_000,
    "high": 20_000,
    "xhigh": 32_000,
}
# Errors inside of a stream that the same request would meet again.
_PERMANENT: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mind:
    """How a model is told to think. `off` is the thinking to ask for when there should
    be none: None where leaving it out does that, or where nothing does (then the effort
    is low). `unasked` when it thinks by default, `binds` when it has preserved
    thinking."""

    is_adaptive: bool = True
    off: str | None = None
    stops_when_off: bool = True
    unasked: bool = False
    binds: bool = False
    most_effort: str = "xhigh"


_ALWAYS: Final = Mind(stops_when_off=False, unasked=True)
_BOUND: Final = Mind(stops_when_off=False, unasked=True, binds=True)
_BETWEEN: Final = Mind(off="between_tools", unasked=True, binds=True)
_DEFAULT_ON: Final = Mind(off="disabled", unasked=True)
_BUDGET: Final = Mind(is_adaptive=False)
# From platform.claude.com (adaptive thinking, preserved thinking, migration guides),
# read in 2026-11; Haiku 5.5's `off` is assumed to be Sonnet 5.5's.
_MINDS: Final[dict[str, Mind]] = {
    "claude-fable-5": _ALWAYS,
    "claude-mythos": _ALWAYS,
    "claude-fable-5-1": _BOUND,
    "claude-fable-5-2": _BOUND,
    "claude-mythos-5-1": _BOUND,
    "claude-mythos-5-2": _BOUND,
    "claude-opus-5-5": _BOUND,
    "claude-sonnet-5-5": _BETWEEN,
    "claude-haiku-5-5": _BETWEEN,
    "claude-opus-5": _DEFAULT_ON,
    "claude-sonnet-5": _DEFAULT_ON,
    "claude-opus-4-8": Mind(),
    "claude-opus-4-7": Mind(),
    "claude-opus-4-6": Mind(most_effort="high"),
    "claude-sonnet-4-6": Mind(most_effort="high"),
    "claude-opus-4": _BUDGET,
    "claude-sonnet-4": _BUDGET,
    "claude-haiku-4": _BUDGET,
    "claude-3": _BUDGET,
}
_UNKNOWN_MIND: Final = Mind(stops_when_off=False)


class AnthropicModel:
    """A Claude; see the module."""

    def __init__(self, model: str, access: Access) -> None:
        self.name = f"{PROVIDER}/{model}"
        self._model, self._access = model, access

    @property
    def context_tokens(self) -> int:
        """How many tokens a conversation with it may have."""
        return known(self._model).context_tokens

    def stream(self, request: Request, emit: Emit, interrupt: Interrupt) -> Answer:
        """Answer the request; see `Model`."""
        key = self._access.key()
        body, headers = request_body(self._model, request)
        request.show({**body, "stream": True})
        hearing = Hearing(self._model)

        async def conversation(heard: Emit) -> None:
            timeout = anthropic.Timeout(wire.READ_SECONDS, connect=wire.CONNECT_SECONDS)
            async with (
                CLIENTS.lend(self._access.base_url, key) as client,
                await client.messages.create(
                    **body, extra_headers=headers, timeout=timeout, stream=True
                ) as stream,
            ):
                await listen(stream, hearing, heard)

        return hear_out(conversation, hearing, judge, emit, interrupt)


def _open_client(base_url: str | None, key: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0)


CLIENTS: Final = Clients(_open_client, anthropic.AsyncAnthropic.close)


# What is asked.


def request_body(model: str, request: Request) -> tuple[JSON, dict[str, str]]:
    """Return the body of a request, and the headers that it needs."""
    limit = known(model).output_tokens
    most = min(request.max_output_tokens or limit, limit)
    thinking, effort = think(model, request.thinking, most)
    body: JSON = {
        "model": model,
        "max_tokens": most,
        "messages": _Telling(request).messages(),
        "cache_control": CACHED,
    }
    if request.system:
        body["system"] = [
            {"type": "text", "text": request.system, "cache_control": CACHED}
        ]
    if request.tools:
        body["tools"] = _tools(request.tools)
    if thinking is not None:
        body["thinking"] = thinking
    if effort is not None:
        body["output_config"] = {"effort": effort}
    binds = thinking is not None and "block_binding" in thinking
    return body, {"anthropic-beta": BINDING_BETA} if binds else {}


def think(
    model: str, level: Thinking | None, max_tokens: int
) -> tuple[JSON | None, str | None]:
    """Return the thinking and the effort to ask a model for."""
    mind = _mind(model)
    if not mind.is_adaptive:
        return _budget(level, max_tokens), None
    if level == "off" and mind.stops_when_off:
        return ({"type": mind.off} if mind.off else None), None
    if level is None and not mind.unasked:
        return None, None
    thinking: JSON = {"type": "adaptive", "display": "summarized"}
    if mind.binds:
        thinking["block_binding"] = {"prefix_mismatch_behavior": "drop_block"}
    if level is None:
        return thinking, None
    effort = _EFFORTS.get(level, "low")
    return thinking, mind.most_effort if effort == "xhigh" else effort


def _mind(model: str) -> Mind:
    found = [prefix for prefix in _MINDS if model.startswith(prefix)]
    return _MINDS[max(found, key=len)] if found else _UNKNOWN_MIND


def _budget(level: Thinking | None, max_tokens: int) -> JSON | None:
    if level is None:
        return None
    tokens = min(_BUDGETS.get(level, 0), max_tokens - LEAST_BUDGET_TOKENS)
    if tokens < LEAST_BUDGET_TOKENS:
        return {"type": "disabled"}
    return {"type": "enabled", "budget_tokens": tokens}


def _tools(tools: Sequence[ToolSpec]) -> list[JSON]:
    """In one order, whatever order they came in: the cache is by the bytes."""
    told: list[JSON] = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.parameters,
        }
        for tool in sorted(tools, key=lambda tool: tool.name)
    ]
    told[-1]["cache_control"] = CACHED
    return told


class _Telling:
    """Tells a conversation: roles alternate, and the user begins."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ids = CallIds()
        self._messages: list[JSON] = []

    def messages(self) -> list[JSON]:
        for message in self._request.messages:
            if isinstance(message, AssistantMessage):
                self._add("assistant", self._of_answer(message.answer))
            elif isinstance(message, UserMessage):
                self._add("user", self._of_blocks(message.for_model))
            else:
                self._add("user", [self._of_result(message)])
        return self._messages

    def _add(self, role: str, content: list[JSON]) -> None:
        if not content:
            return
        if not self._messages and role == "assistant":
            self._messages.append({"role": "user", "content": [_text(OPENING)]})
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"] += content
        else:
            self._messages.append({"role": role, "content": content})

    def _of_answer(self, answer: Answer) -> list[JSON]:
        if is_empty(answer):
            return []
        native = answer.native
        if native is not None and native.provider == PROVIDER:
            self._ids.open(answer.tool_calls, as_they_are=True)
            return self._of_native(native)
        self._ids.open(answer.tool_calls, as_they_are=False)
        said = [_text(answer.text)] if answer.text.strip() else []
        return said + [
            {
                "type": "tool_use",
                "id": self._ids.of(call.id),
                "name": call.name,
                "input": sent_arguments(call),
            }
            for call in answer.tool_calls
        ]

    def _of_native(self, native: Native) -> list[JSON]:
        """As it came, but for what the API itself refuses: blocks of nothing but white
        space, and an answer that ends with a thought."""
        leaves_out = self._request.thinking == "off"
        told = [
            item
            for item in native.items
            if not (item["type"] == "text" and not item["text"].strip())
            and not (leaves_out and item["type"] in THOUGHTS)
        ]
        while told and told[-1]["type"] in THOUGHTS:
            told.pop()
        return told

    def _of_result(self, message: ToolMessage) -> JSON:
        result = message.result
        told = {
            "type": "tool_result",
            "tool_use_id": self._ids.of(message.call_id),
            "content": self._of_content(result) or [_text(NO_OUTPUT)],
        }
        return {**told, "is_error": True} if result.is_error else told

    def _of_content(self, result: ToolResult) -> list[JSON]:
        # Beside an error the API takes nothing but text.
        others = [] if result.is_error else self._of_blocks(result.blocks)
        return ([_text(result.text)] if result.text.strip() else []) + others

    def _of_blocks(self, blocks: Sequence[JSON]) -> list[JSON]:
        told = [self._of_block(block) for block in blocks]
        return [block for block in told if block is not None]

    def _of_block(self, block: JSON) -> JSON | None:
        if block["type"] == "text":
            return _text(block["text"]) if block["text"].strip() else None
        if block["type"] != "image":
            return None
        found = find_image(block, self._request, IMAGE_TYPES)
        if isinstance(found, str):
            return _text(found)
        source = {
            "type": "base64",
            "media_type": block["media_type"],
            "data": base64.b64encode(found).decode(),
        }
        return {"type": "image", "source": source}


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


# What is heard.


@dataclass(slots=True)
class Hearing:
    """An answer as far as it was heard, block by block."""

    model: str
    usage: Usage = field(default_factory=Usage)
    _blocks: dict[int, JSON] = field(default_factory=dict)
    _arguments: dict[int, str] = field(default_factory=dict)
    _stop: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the reason is known why it ends."""
        return self._stop is not None

    def take(self, event: Any, emit: Emit) -> None:
        """Hear one event of the stream; those of unknown types are passed over."""
        if event.type == "message_start":
            self._count(event.message.usage)
        elif event.type == "content_block_start":
            self._begin(event.index, event.content_block, emit)
        elif event.type == "content_block_delta":
            self._go_on(event.index, event.delta, emit)
        elif event.type == "message_delta":
            self._count(event.usage)
            self._stop = event.delta.stop_reason or self._stop

    def answer(self) -> Answer:
        """Return the whole answer; raise ModelError when it is not whole."""
        if self._stop is None:
            raise incomplete(PROVIDER)
        if self._stop == "model_context_window_exceeded":
            raise ModelError(
                f"{PROVIDER}: the context window was full before the answer was done.",
                kind=CONTEXT_OVERFLOW,
                is_retriable=False,
            )
        stop = _STOPS.get(self._stop, "end")
        calls = () if stop == "refusal" else self._calls()
        return Answer(
            text=self._joined("text"),
            reasoning=self._joined("thinking"),
            tool_calls=calls,
            stop_reason="tool_use" if calls and stop == "end" else stop,
            usage=self.usage,
            native=None if stop == "refusal" else self._native(calls),
        )

    def _begin(self, index: int, block: Any, emit: Emit) -> None:
        sent = block.model_dump(mode="json", exclude_unset=True)
        begun = {name: value for name, value in sent.items() if value is not None}
        self._blocks[index] = begun
        if begun["type"] in ("text", "thinking") and begun[begun["type"]]:
            emit(Delta(kind=_KINDS[begun["type"]], text=begun[begun["type"]]))

    def _go_on(self, index: int, delta: Any, emit: Emit) -> None:
        block = self._blocks[index]
        if delta.type == "text_delta":
            block["text"] += delta.text
            emit(Delta(kind="text", text=delta.text))
        elif delta.type == "thinking_delta":
            block["thinking"] += delta.thinking
            emit(Delta(kind="reasoning", text=delta.thinking))
        elif delta.type == "signature_delta":
            block["signature"] = delta.signature
        elif delta.type == "input_json_delta" and delta.partial_json:
            self._arguments[index] = self._arguments.get(index, "") + delta.partial_json
            emit(
                Delta(
                    kind="tool_call",
                    text=delta.partial_json,
                    tool_call_id=block["id"],
                    tool_name=block["name"],
                )
            )

    def _count(self, usage: Any) -> None:
        """Counts are told anew as they grow; a later message may leave some out."""
        self.usage = Usage(
            input_tokens=max(self.usage.input_tokens, usage.input_tokens or 0),
            output_tokens=max(self.usage.output_tokens, usage.output_tokens or 0),
            cache_read_tokens=max(
                self.usage.cache_read_tokens, usage.cache_read_input_tokens or 0
            ),
            cache_write_tokens=max(
                self.usage.cache_write_tokens, usage.cache_creation_input_tokens or 0
            ),
        )

    def _joined(self, type: str) -> str:
        found = (block for _, block in sorted(self._blocks.items()))
        return "".join(block[type] for block in found if block["type"] == type)

    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            self._call(index, block)
            for index, block in sorted(self._blocks.items())
            if block["type"] == "tool_use"
        )

    def _call(self, index: int, block: JSON) -> ToolCall:
        # Arguments may also come whole, with the beginning of their block.
        raw = self._arguments.get(index) or json.dumps(block["input"])
        return ToolCall(
            id=block["id"],
            name=block["name"],
            arguments=parse_arguments(raw),
            raw_arguments=raw,
        )

    def _native(self, calls: Sequence[ToolCall]) -> Native | None:
        inputs = {call.id: sent_arguments(call) for call in calls}
        items = tuple(
            {**block, "input": inputs[block["id"]]}
            if block["type"] == "tool_use"
            else block
            for _, block in sorted(self._blocks.items())
            # A thought that was cut off has no signature, and is refused without one.
            if block["type"] != "thinking" or block.get("signature")
        )
        if not items:
            return None
        return Native(provider=PROVIDER, model=self.model, items=items)


_KINDS: Final[dict[str, Any]] = {"text": "text", "thinking": "reasoning"}


def judge(error: Exception) -> ModelError:
    """Say what an error means for the turn."""
    if isinstance(error, anthropic.APIStatusError):
        return _judge_status(error)
    if isinstance(error, anthropic.APITimeoutError | httpx2.TimeoutException):
        return broken(PROVIDER, error, is_timeout=True)
    if isinstance(error, anthropic.APIConnectionError | httpx2.HTTPError):
        return broken(PROVIDER, error, is_timeout=False)
    return ModelError(
        f"{PROVIDER}: the answer could not be read ({type(error).__name__}).",
        kind="malformed",
        is_retriable=True,
    )


def _judge_status(error: anthropic.APIStatusError) -> ModelError:
    said = error.api_message or error.message
    if error.status_code < 400:  # it came inside of a stream that had begun well
        status = _PERMANENT.get(error.type or "")
        return failure(PROVIDER, status, said, code=error.type)
    return failure(
        PROVIDER, error.status_code, said, error.response.headers, code=error.type
    )
