"""Chat Completions: `openai-chat/…`, `openrouter/…`, `ollama/…`, and whoever speaks it.

What the servers do differently stands in a Dialect, and nowhere else.

| thinking | openai-chat `reasoning_effort` | openrouter `reasoning.effort` | ollama |
|---|---|---|---|
| None | not sent | not sent | not sent |
| off | none | none | none |
| minimal | minimal | minimal | low |
| low, medium, high | the same word | the same word | the same word |
| xhigh | xhigh | xhigh | high |

(Ollama takes the level as `reasoning_effort` too.) Of a model that is known not to
think, no level is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agents.control import Interrupt
from agents.messages import (
    Answer,
    Message,
    Native,
    StopReason,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from agents.models.base import THINKING, Delta, Request, Thinking, ToolSpec
from agents.models.catalogue import UNKNOWN, known
from agents.models.history import (
    NO_OUTPUT,
    OPENING,
    CallIds,
    is_empty,
    parse_arguments,
)
from agents.models.listening import Emit
from agents.models.ollama import ollama_url
from agents.models.openai_client import JSON, Call, converse, told
from agents.models.openai_history import (
    CACHE_KEY_CHARACTERS,
    DETAILS,
    IMAGE_TYPES,
    FreshIds,
    arguments_text,
    as_native,
    as_text,
    fitting,
    own_items,
    picture,
)
from agents.models.provider import Access, incomplete

OPENAI_URL: Final = "https://api.openai.com/v1"
OPENROUTER_URL: Final = "https://openrouter.ai/api/v1"

# The longest id of a tool call that OpenAI accepts here.
CALL_ID_CHARACTERS: Final = 40

# What servers call the reasoning that they stream as plain text.
_PLAIN: Final = ("reasoning_content", "reasoning")

_EFFORTS: Final[Mapping[Thinking, str]] = {
    level: "none" if level == "off" else level for level in THINKING
}

_CACHED: Final = {"cache_control": {"type": "ephemeral"}}

_ENDINGS: Final[Mapping[str, StopReason]] = {
    "content_filter": "refusal",
    "length": "length",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider's Chat Completions.

    `echoes` are the fields of reasoning that have to come back with the answer they
    belong to. `address` makes a base URL of what a person has set, or of nothing.
    """

    provider: str
    address: Callable[[str | None], str]
    effort_field: Literal["reasoning_effort", "reasoning"] = "reasoning_effort"
    efforts: Mapping[Thinking, str] = field(default_factory=lambda: _EFFORTS)
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    echoes: frozenset[str] = frozenset()
    image_types: frozenset[str] = IMAGE_TYPES
    headers: Mapping[str, str] = field(default_factory=dict)


OPENAI_CHAT: Final = Dialect(
    provider="openai-chat",
    address=lambda url: url or OPENAI_URL,
    # OpenAI's thinking models refuse the older name.
    limit_field="max_completion_tokens",
    # DeepSeek's field: a call's answer is refused without it.
    echoes=frozenset({"reasoning_content"}),
)
OPENROUTER: Final = Dialect(
    provider="openrouter",
    address=lambda url: url or OPENROUTER_URL,
    effort_field="reasoning",
    echoes=frozenset({"reasoning_details"}),
    headers={
        # Who asks, for the user's own statistics; with a title, this host is enough.
        "HTTP-Referer": "http://localhost:8080",
        "X-OpenRouter-Title": "Roost",
    },
)
OLLAMA: Final = Dialect(
    provider="ollama",
    address=ollama_url,
    efforts={**_EFFORTS, "minimal": "low", "xhigh": "high"},
    echoes=frozenset({"reasoning"}),
    image_types=IMAGE_TYPES - {"image/gif"},
)
DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.provider: dialect for dialect in (OPENAI_CHAT, OPENROUTER, OLLAMA)
}


class ChatModel:
    """A model behind Chat Completions; see the module."""

    def __init__(
        self, model: str, access: Access, dialect: Dialect | None = None
    ) -> None:
        self._dialect = dialect or DIALECTS.get(access.provider, OPENAI_CHAT)
        facts = known(model)
        self.name = f"{self._dialect.provider}/{model}"
        self.context_tokens = facts.context_tokens
        self._model, self._access = model, access
        self._thinks = facts.thinks or facts is UNKNOWN
        self._images = self._dialect.image_types if facts.takes_images else frozenset()

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the request."""
        call = Call(
            access=self._access,
            base_url=self._dialect.address(self._access.base_url),
            path="/chat/completions",
            body=self.body(request),
            headers=self._dialect.headers,
        )
        request.show(call.body)
        hearing = _Hearing(
            self._access.provider, self._dialect, self._model, FreshIds(request)
        )
        return converse(call, hearing, emit, interrupt)

    def body(self, request: Request) -> JSON:
        """Return what is sent for a request."""
        history = _History(self._dialect, self._model, request, self._images)
        body: JSON = {
            "model": self._model,
            "messages": history.tell(),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = [_tool(spec) for spec in request.tools]
        if request.max_output_tokens is not None:
            body[self._dialect.limit_field] = request.max_output_tokens
        return {**body, **self._reasoning(request), **self._cache(request)}

    def _reasoning(self, request: Request) -> JSON:
        if request.thinking is None or not self._thinks:
            return {}
        effort = self._dialect.efforts[request.thinking]
        if self._dialect.effort_field == "reasoning":
            return {"reasoning": {"effort": effort}}
        return {"reasoning_effort": effort}

    def _cache(self, request: Request) -> JSON:
        """Say which calls share a prefix, to those who understand it; the many others
        that speak this protocol refuse fields that they do not know."""
        key = fitting(request.cache_key or "", CACHE_KEY_CHARACTERS)
        if self._dialect is OPENROUTER:
            session = {"session_id": key} if key else {}
            # Everybody else's models cache by themselves, or not at all.
            is_asked = self._model.startswith("anthropic/")
            return {**session, **(_CACHED if is_asked else {})}
        is_openai = self._dialect.address(self._access.base_url) == OPENAI_URL
        return {"prompt_cache_key": key} if key and is_openai else {}


def _tool(spec: ToolSpec) -> JSON:
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": spec.parameters,
            "strict": False,
        },
    }


class _History:
    """Tells a conversation as messages.

    A tool message holds only text, so the images of results follow the last result of
    their answer, as the user's. What users say in a row is one message: the templates
    of many open models want the roles to alternate.
    """

    def __init__(
        self, dialect: Dialect, model: str, request: Request, images: frozenset[str]
    ) -> None:
        self._dialect, self._model = dialect, model
        self._request, self._images = request, images
        self._ids = CallIds()
        self._used: set[str] = set()
        self._told: list[JSON] = []
        self._shown: list[JSON] = []
        self._heard: list[JSON] = []

    def tell(self) -> list[JSON]:
        if self._request.system:
            self._told.append({"role": "system", "content": self._request.system})
        for message in self._request.messages:
            self._tell(message)
        self._tell_heard()
        return self._told

    def _tell(self, message: Message) -> None:
        if isinstance(message, UserMessage):
            self._heard += self._parts(message.for_model)
        elif isinstance(message, ToolMessage):
            self._tell_result(message)
        elif not is_empty(message.answer):
            self._heard = self._heard or self._opening()
            self._tell_heard()
            self._tell_answer(message.answer)

    def _opening(self) -> list[JSON]:
        """What the user says before the first answer, if it is not there."""
        is_open = any(told["role"] == "user" for told in self._told)
        return [] if is_open else [_text(OPENING)]

    def _tell_heard(self) -> None:
        if content := self._shown + self._heard:
            self._told.append({"role": "user", "content": _content(content)})
        self._shown, self._heard = [], []

    def _tell_answer(self, answer: Answer) -> None:
        self._open_calls(answer)
        said: JSON = {"role": "assistant", "content": answer.text or None}
        if answer.tool_calls:
            said["tool_calls"] = [self._call(call) for call in answer.tool_calls]
        for item in own_items(answer, self._dialect.provider, self._model):
            said.update(item)
        self._told.append(said)

    def _open_calls(self, answer: Answer) -> None:
        """Leave ids as they are unless they were used before: for some open models
        they have a meaning, and were learnt."""
        ids = {call.id for call in answer.tool_calls}
        self._ids.open(answer.tool_calls, as_they_are=self._used.isdisjoint(ids))
        self._used |= ids

    def _call(self, call: ToolCall) -> JSON:
        function = {"name": call.name, "arguments": arguments_text(call)}
        return {"id": self._id(call.id), "type": "function", "function": function}

    def _tell_result(self, message: ToolMessage) -> None:
        result = message.result
        told = {"role": "tool", "tool_call_id": self._id(message.call_id)}
        self._told.append({**told, "content": result.text or NO_OUTPUT})
        if result.blocks:
            whose = f"What the tool {message.name} showed ({told['tool_call_id']}):"
            self._shown += [_text(whose), *self._parts(list(result.blocks))]

    def _id(self, call_id: str) -> str:
        return fitting(self._ids.of(call_id), CALL_ID_CHARACTERS)

    def _parts(self, blocks: list[JSON]) -> list[JSON]:
        return [self._part(block) for block in blocks]

    def _part(self, block: JSON) -> JSON:
        if block["type"] != "image":
            return _text(block["text"])
        shown, is_shown = picture(block, self._request, self._images)
        if not is_shown:
            return _text(shown)
        detail = DETAILS.get(block.get("fidelity", ""), "auto")
        return {"type": "image_url", "image_url": {"url": shown, "detail": detail}}


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


def _content(parts: list[JSON]) -> str | list[JSON]:
    """Text alone goes as text: not every server reads a list."""
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


class _Hearing:
    """Puts an answer together out of chunks."""

    def __init__(
        self, provider: str, dialect: Dialect, model: str, ids: FreshIds
    ) -> None:
        self.usage = Usage()
        self._provider, self._dialect, self._model = provider, dialect, model
        self._calls = _Calls(ids)
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._plain: dict[str, str] = {}
        self._details: list[JSON] = []
        self._has_refused = False
        self._ending: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there was a finish_reason."""
        return self._ending is not None

    def take(self, event: Any, emit: Emit) -> None:
        """Take in a chunk."""
        if event.get("usage"):
            self.usage = _usage(event["usage"])
        for choice in event.get("choices") or ():
            self._hear_delta(choice.get("delta") or {}, emit)
            reason = choice.get("finish_reason")
            if reason == "error":
                raise told(self._provider, choice.get("error") or {})
            self._ending = reason or self._ending

    def answer(self) -> Answer:
        """Return the answer."""
        if not self.is_whole:
            raise incomplete(self._provider)
        stop_reason = self._stop_reason()
        return Answer(
            text="".join(self._text),
            reasoning="".join(self._thoughts),
            tool_calls=() if stop_reason == "refusal" else self._calls.done(),
            stop_reason=stop_reason,
            usage=self.usage,
            native=self._native(),
        )

    def _hear_delta(self, delta: JSON, emit: Emit) -> None:
        self._hear_thoughts(delta, emit)
        self._has_refused |= bool(delta.get("refusal"))
        if text := delta.get("content") or delta.get("refusal"):
            self._text.append(as_text(text))
            emit(Delta(kind="text", text=text))
        for piece in delta.get("tool_calls") or ():
            self._calls.hear(piece, emit)

    def _hear_thoughts(self, delta: JSON, emit: Emit) -> None:
        details = delta.get("reasoning_details") or []
        for detail in details:
            _merge(self._details, detail)
        name = next((name for name in _PLAIN if delta.get(name)), None)
        if name is None:
            thought = "".join(
                each.get("text") or each.get("summary") or "" for each in details
            )
        else:
            thought = as_text(delta[name])
            self._plain[name] = self._plain.get(name, "") + thought
        if thought:
            self._thoughts.append(thought)
            emit(Delta(kind="reasoning", text=thought))

    def _stop_reason(self) -> StopReason:
        if self._has_refused:
            return "refusal"
        otherwise: StopReason = "tool_use" if self._calls.any else "end"
        return _ENDINGS.get(self._ending or "", otherwise)

    def _native(self) -> Native | None:
        """The reasoning that has to come back. Plain text does only beside the calls
        that it led to: without, servers drop it, and some refuse it."""
        item: JSON = {}
        if self._details:
            item["reasoning_details"] = self._details
        if self._calls.any:
            item.update(self._plain)
        kept = {name: item[name] for name in item if name in self._dialect.echoes}
        if not kept or self._stop_reason() in ("length", "refusal"):
            return None
        return as_native(self._dialect.provider, self._model, [kept])


class _Calls:
    """The tool calls of an answer, whose pieces come by index."""

    def __init__(self, ids: FreshIds) -> None:
        self._ids = ids
        self._calls: list[_Call] = []
        self._by_index: dict[int | None, _Call] = {}

    @property
    def any(self) -> bool:
        return bool(self._calls)

    def hear(self, piece: JSON, emit: Emit) -> None:
        function = piece.get("function") or {}
        call = self._call_of(piece, function)
        call.name = call.name or function.get("name") or ""
        text = function.get("arguments") or ""
        # Some servers send the object that they have parsed already.
        call.raw += text if isinstance(text, str) else json.dumps(text)
        if text:
            emit(call.delta(text if isinstance(text, str) else json.dumps(text)))

    def done(self) -> tuple[ToolCall, ...]:
        return tuple(call.done() for call in self._calls)

    def _call_of(self, piece: JSON, function: JSON) -> _Call:
        """Find the call of a piece. Another id is another call, whatever its index:
        some servers number none of them, or all of them 0."""
        index, given = piece.get("index"), piece.get("id")
        call = self._by_index.get(index)
        if call is None or (given and call.given and given != call.given):
            call = _Call(self._ids.claim(given), given, function.get("name") or "")
            self._calls.append(call)
            self._by_index[index] = call
        return call


@dataclass(slots=True)
class _Call:
    id: str
    given: str | None
    name: str
    raw: str = ""

    def delta(self, text: str) -> Delta:
        return Delta(
            kind="tool_call", text=text, tool_call_id=self.id, tool_name=self.name
        )

    def done(self) -> ToolCall:
        return ToolCall(
            id=self.id,
            name=self.name,
            arguments=parse_arguments(self.raw),
            raw_arguments=self.raw,
        )


def _merge(details: list[JSON], piece: JSON) -> None:
    """Add a piece of reasoning_details: text grows, everything else is set."""
    last = details[-1] if details else {}
    is_same = (last.get("type"), last.get("index")) == (
        piece.get("type"),
        piece.get("index"),
    )
    if not is_same or "data" in piece:
        details.append(dict(piece))
        return
    for name, value in piece.items():
        grows = name in ("text", "summary") and last.get(name) and value
        last[name] = last[name] + value if grows else value or last.get(name)


def _usage(usage: JSON) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    read = details.get("cached_tokens") or 0
    written = details.get("cache_write_tokens") or 0
    return Usage(
        input_tokens=max((usage.get("prompt_tokens") or 0) - read - written, 0),
        output_tokens=usage.get("completion_tokens") or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
