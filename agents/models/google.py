"""Gemini through Google's Gen AI API (`generateContent`, streamed).

What a thinking level means differs by the model:

| level          | since Gemini 3                     | Gemini 2.5                  |
|----------------|------------------------------------|-----------------------------|
| None           | the provider's default             | the provider's default      |
| off            | the least, and nothing of it shown | none (Pro: 128 tokens)      |
| minimal        | MINIMAL, or LOW where there is none| 512 tokens                  |
| low … high     | LOW, MEDIUM, HIGH                  | 2,048, 8,192, 24,576 tokens |
| xhigh          | HIGH: no model has a higher one    | 24,576 tokens               |

Since Gemini 3 a call has to come back with the signature that it came with, so an
answer's parts are kept and sent as they were; pieces of text without a signature are
joined. Where there is no signature (another model's answer), Google's documented
placeholder stands for it.

Ids of calls are made here when Google gives none, and are not sent then: results are
in the order of their calls. The SDK would go on by itself with an answer that reached
its limit, and retry on the way; it is told not to, and such an answer is `length`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
from google import genai
from google.genai import errors, types

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Native,
    StopReason,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from agents.models import wire
from agents.models.base import Delta, ModelError, Request, Thinking, ToolSpec
from agents.models.catalogue import known
from agents.models.clients import Clients
from agents.models.history import (
    NO_OUTPUT,
    OPENING,
    find_image,
    is_empty,
    sent_arguments,
)
from agents.models.listening import Emit, hear_out, listen
from agents.models.provider import Access, broken, failure, incomplete

JSON = dict[str, Any]

PROVIDER: Final = "google"
IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp"})
# For calls that Gemini 3 did not make itself; from Google's page on thought signatures.
NO_SIGNATURE: Final = b"skip_thought_signature_validator"
LEAST_BUDGET_TOKENS: Final = 128

_LEVELS: Final[dict[Thinking, types.ThinkingLevel]] = {
    "low": types.ThinkingLevel.LOW,
    "medium": types.ThinkingLevel.MEDIUM,
    "high": types.ThinkingLevel.HIGH,
    "xhigh": types.ThinkingLevel.HIGH,
}
_BUDGETS: Final[dict[Thinking, int]] = {
    "off": 0,
    "minimal": 512,
    "low": 2_048,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 24_576,
}
# Who takes MINIMAL, by Google's table of levels; others refuse it.
_MINIMAL: Final = ("gemini-3-flash", "gemini-3.1-flash-lite", "gemini-3.5-flash-lite")

_STOPS: Final[dict[str, StopReason]] = {
    "STOP": "end",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_RECITATION": "refusal",
    "ESCALATION": "refusal",
    "MODEL_ARMOR": "refusal",
}
# The model stumbled; the next try may not.
_STUMBLES: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "OTHER",
    }
)
# The same request would end in the same way.
_REFUSED: Final[dict[str, str]] = {
    "MISSING_THOUGHT_SIGNATURE": "bad_request",
    "PUP_LIMITED_DISABLED": "forbidden",
}


class GoogleModel:
    """A Gemini; see the module."""

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
        contents = list(tell(self._model, request))
        config = settings(self._model, request)
        if request.on_payload is not None:
            request.show(payload(self._model, contents, config))
        hearing = Hearing(self._model)

        async def conversation(heard: Emit) -> None:
            async with CLIENTS.lend(self._access.base_url, key) as client:
                stream: Any = await client.genai.aio.models.generate_content_stream(
                    model=self._model, contents=contents, config=config
                )
                async with aclosing(stream):
                    await listen(stream, hearing, heard)

        return hear_out(conversation, hearing, judge, emit, interrupt)


@dataclass(frozen=True, slots=True)
class _Client:
    """The HTTP client is ours: with a timeout of its own the SDK knows only one for
    everything, and tells the server of it; without one it waits for ever."""

    genai: genai.Client
    http: httpx2.AsyncClient

    async def close(self) -> None:
        await self.http.aclose()
        self.genai.close()


def _open_client(base_url: str | None, key: str) -> _Client:
    http = httpx2.AsyncClient(event_hooks={"request": [_limit_waiting]})
    options = types.HttpOptions(base_url=base_url, httpx_async_client=http)
    client = genai.Client(enterprise=False, api_key=key, http_options=options)
    return _Client(client, http)


async def _limit_waiting(request: httpx2.Request) -> None:
    timeout = httpx2.Timeout(wire.READ_SECONDS, connect=wire.CONNECT_SECONDS)
    request.extensions = {**request.extensions, "timeout": timeout.as_dict()}


CLIENTS: Final = Clients(_open_client, _Client.close)


# What is asked.


def payload(
    model: str, contents: Sequence[types.Content], config: types.GenerateContentConfig
) -> JSON:
    """Return a request as JSON, in Google's own names, as the SDK is given it: it moves
    most of `config` one level up on the way."""
    told = [
        each.model_dump(mode="json", by_alias=True, exclude_none=True)
        for each in (*contents, config)
    ]
    return {"model": model, "contents": told[:-1], "config": told[-1]}


def settings(model: str, request: Request) -> types.GenerateContentConfig:
    """Return everything of a request but its conversation."""
    return types.GenerateContentConfig(
        system_instruction=request.system or None,
        tools=_tools(request.tools) or None,
        max_output_tokens=request.max_output_tokens,
        thinking_config=think(model, request.thinking),
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def think(model: str, level: Thinking | None) -> types.ThinkingConfig | None:
    """Return the thinking to ask a model for; thoughts are shown (G116)."""
    if not known(model).thinks:
        return None
    if level is None:
        return types.ThinkingConfig(include_thoughts=True)
    shown = level != "off"
    if model.startswith("gemini-2"):
        least = LEAST_BUDGET_TOKENS if "pro" in model else 0
        budget = max(_BUDGETS[level], least)
        return types.ThinkingConfig(include_thoughts=shown, thinking_budget=budget)
    least_level = (
        types.ThinkingLevel.MINIMAL
        if model.startswith(_MINIMAL)
        else types.ThinkingLevel.LOW
    )
    return types.ThinkingConfig(
        include_thoughts=shown, thinking_level=_LEVELS.get(level, least_level)
    )


def _tools(tools: Sequence[ToolSpec]) -> list[Any]:
    declared = [
        types.FunctionDeclaration(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=tool.parameters,
        )
        for tool in sorted(tools, key=lambda tool: tool.name)
    ]
    return [types.Tool(function_declarations=declared)] if declared else []


def tell(model: str, request: Request) -> Iterator[types.Content]:
    """Return the conversation: results of calls stand in a turn of their own, and the
    rest of the user's in another after it."""
    yield from _begun_by_the_user(_joined(_Telling(model, request).contents()))


def _joined(contents: Iterator[types.Content]) -> Iterator[types.Content]:
    """Join neighbours of one role, but results with results only."""
    last: types.Content | None = None
    for content in contents:
        if last is not None and _place(last) == _place(content):
            last.parts = [*(last.parts or ()), *(content.parts or ())]
            continue
        if last is not None:
            yield last
        last = content
    if last is not None:
        yield last


def _place(content: types.Content) -> tuple[str | None, bool]:
    parts = content.parts or []
    return content.role, any(part.function_response for part in parts)


def _begun_by_the_user(contents: Iterator[types.Content]) -> Iterator[types.Content]:
    for index, content in enumerate(contents):
        if index == 0 and content.role == "model":
            yield types.Content(role="user", parts=[types.Part(text=OPENING)])
        yield content


class _Telling:
    def __init__(self, model: str, request: Request) -> None:
        self._model, self._request = model, request
        self._is_strict = not model.startswith("gemini-2")
        # Under which ids the calls of the present answer are told; None: under none.
        self._ids: Mapping[str, str | None] = {}
        # Images of results, for models that take none in a result itself.
        self._shown: list[types.Part] = []

    def contents(self) -> Iterator[types.Content]:
        for message in self._request.messages:
            if not isinstance(message, ToolMessage):
                yield from self._of("user", self._taken())
            if isinstance(message, AssistantMessage):
                yield from self._of("model", self._of_answer(message.answer))
            elif isinstance(message, UserMessage):
                yield from self._of("user", self._of_blocks(message.for_model))
            else:
                yield from self._of("user", [self._of_result(message)])
        yield from self._of("user", self._taken())

    def _of(self, role: str, parts: list[types.Part]) -> Iterator[types.Content]:
        if parts:
            yield types.Content(role=role, parts=parts)

    def _taken(self) -> list[types.Part]:
        taken, self._shown = self._shown, []
        return taken

    def _of_answer(self, answer: Answer) -> list[types.Part]:
        if is_empty(answer):
            return []
        native = answer.native
        if native and (native.provider, native.model) == (PROVIDER, self._model):
            parts = [_part(item) for item in native.items]
            made = [part.function_call for part in parts if part.function_call]
            ids = [call.id for call in answer.tool_calls]
            self._ids = dict(zip(ids, (call.id for call in made), strict=True))
            return parts
        self._ids = {call.id: call.id for call in answer.tool_calls}
        said = [types.Part(text=answer.text)] if answer.text.strip() else []
        calls = [
            types.Part(
                function_call=types.FunctionCall(
                    id=call.id, name=call.name, args=sent_arguments(call)
                )
            )
            for call in answer.tool_calls
        ]
        if calls and self._is_strict:
            calls[0].thought_signature = NO_SIGNATURE  # it is asked of the first only
        return said + calls

    def _of_result(self, message: ToolMessage) -> types.Part:
        result = message.result
        text = result.text or NO_OUTPUT
        told = types.FunctionResponse(
            id=self._ids[message.call_id],
            name=message.name,
            response={"error" if result.is_error else "output": text},
        )
        images = self._of_blocks(result.blocks)
        if not self._is_strict:
            self._shown += images
        elif images:
            told.parts = self._response_parts(images)
            self._shown += [part for part in images if part.inline_data is None]
        return types.Part(function_response=told)

    def _response_parts(
        self, images: Sequence[types.Part]
    ) -> list[types.FunctionResponsePart]:
        blobs = [part.inline_data for part in images if part.inline_data]
        return [
            types.FunctionResponsePart(
                inline_data=types.FunctionResponseBlob(
                    mime_type=blob.mime_type, data=blob.data
                )
            )
            for blob in blobs
        ]

    def _of_blocks(self, blocks: Sequence[JSON]) -> list[types.Part]:
        told = [self._of_block(block) for block in blocks]
        return [part for part in told if part is not None]

    def _of_block(self, block: JSON) -> types.Part | None:
        if block["type"] == "text":
            return types.Part(text=block["text"]) if block["text"].strip() else None
        if block["type"] != "image":
            return None
        found = find_image(block, self._request, IMAGE_TYPES)
        if isinstance(found, str):
            return types.Part(text=found)
        blob = types.Blob(mime_type=block["media_type"], data=found)
        return types.Part(inline_data=blob)


def _part(item: JSON) -> types.Part:
    """Read a part as it was kept: only from JSON are bytes taken for base64."""
    return types.Part.model_validate_json(json.dumps(item))


# What is heard.


@dataclass(slots=True)
class Hearing:
    """An answer as far as it was heard, part by part."""

    model: str
    usage: Usage = field(default_factory=Usage)
    _parts: list[JSON] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)
    _stop: str | None = None
    _seed: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    @property
    def is_whole(self) -> bool:
        """Whether the reason is known why it ends."""
        return self._stop is not None

    def take(self, chunk: types.GenerateContentResponse, emit: Emit) -> None:
        """Hear one chunk of the stream."""
        if chunk.usage_metadata is not None:
            self._count(chunk.usage_metadata)
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            self._stop = "SAFETY"
        for candidate in (chunk.candidates or ())[:1]:
            content = candidate.content
            for part in (content.parts or ()) if content else ():
                self._hear(part, emit)
            if candidate.finish_reason is not None:
                self._stop = str(candidate.finish_reason.value)

    def answer(self) -> Answer:
        """Return the whole answer; raise ModelError when it is not whole."""
        if self._stop is None:
            raise incomplete(PROVIDER)
        if self._stop in _STUMBLES or self._stop in _REFUSED:
            raise ModelError(
                f"{PROVIDER}: the answer ended with {self._stop}.",
                kind=_REFUSED.get(self._stop, "malformed"),
                is_retriable=self._stop in _STUMBLES,
            )
        stop = _STOPS.get(self._stop, "end")
        is_refused = stop == "refusal"
        return Answer(
            text=self._said(thought=False),
            reasoning=self._said(thought=True),
            tool_calls=() if is_refused else tuple(self._calls),
            stop_reason="tool_use" if self._calls and stop == "end" else stop,
            usage=self.usage,
            native=None if is_refused else self._native(),
        )

    def _hear(self, part: types.Part, emit: Emit) -> None:
        kept = part.model_dump(mode="json", by_alias=True, exclude_none=True)
        if part.function_call is not None:
            self._hear_call(part.function_call, emit)
        elif part.text:
            kind: Any = "reasoning" if part.thought else "text"
            emit(Delta(kind=kind, text=part.text))
        if self._parts and _can_join(self._parts[-1], kept):
            self._parts[-1]["text"] += kept["text"]
        elif kept and kept != {"text": ""}:
            self._parts.append(kept)

    def _hear_call(self, made: types.FunctionCall, emit: Emit) -> None:
        raw = json.dumps(made.args or {})
        call = ToolCall(
            id=self._id_of(made),
            name=made.name or "",
            arguments=made.args or {},
            raw_arguments=raw,
        )
        self._calls.append(call)
        emit(
            Delta(
                kind="tool_call",
                text=raw,
                tool_call_id=call.id,
                tool_name=call.name,
            )
        )

    def _id_of(self, made: types.FunctionCall) -> str:
        """Google's own id, unless there is none or it has been used in this answer."""
        if made.id and made.id not in {call.id for call in self._calls}:
            return made.id
        return f"call_{self._seed}_{len(self._calls)}"

    def _said(self, *, thought: bool) -> str:
        return "".join(
            part.get("text", "")
            for part in self._parts
            if part.get("thought", False) == thought
        )

    def _count(self, counts: types.GenerateContentResponseUsageMetadata) -> None:
        """Google's prompt count includes what was read from a cache."""
        cached = counts.cached_content_token_count or 0
        read = (counts.prompt_token_count or 0) + (
            counts.tool_use_prompt_token_count or 0
        )
        self.usage = Usage(
            input_tokens=max(read - cached, 0),
            output_tokens=(counts.candidates_token_count or 0)
            + (counts.thoughts_token_count or 0),
            cache_read_tokens=cached,
        )

    def _native(self) -> Native | None:
        if not self._parts:
            return None
        return Native(provider=PROVIDER, model=self.model, items=tuple(self._parts))


def _can_join(last: JSON, next: JSON) -> bool:
    """Only plain text is joined, and thoughts with thoughts; a signature belongs to
    the very part that it came with."""
    plain = {"text", "thought"}
    return (
        "text" in last
        and "text" in next
        and set(last) <= plain
        and set(next) <= plain
        and last.get("thought", False) == next.get("thought", False)
    )


def judge(error: Exception) -> ModelError:
    """Say what an error means for the turn."""
    if isinstance(error, errors.APIError):
        headers = dict(getattr(error.response, "headers", None) or {})
        return failure(
            PROVIDER,
            error.code,
            error.message or error.status or "an error without a message",
            {**_asked_delay(error.details), **headers},
            code=error.status,
        )
    if isinstance(error, httpx2.TimeoutException):
        return broken(PROVIDER, error, is_timeout=True)
    if isinstance(error, httpx2.HTTPError):
        return broken(PROVIDER, error, is_timeout=False)
    return ModelError(
        f"{PROVIDER}: the answer could not be read ({type(error).__name__}).",
        kind="malformed",
        is_retriable=True,
    )


def _asked_delay(body: Any) -> dict[str, str]:
    """Read the delay that Google asks for: it stands in the body, not in a header."""
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return {"retry-after": detail["retryDelay"].removesuffix("s")}
    return {}
