"""OpenAI's Responses API: `openai/<model>`, and any server that speaks it.

Nothing is stored there (`store` is false): the whole conversation goes with every call,
with the encrypted reasoning of earlier answers, as it came.

| thinking | `reasoning.effort` |
|---|---|
| None | not sent: the model's default |
| off | none |
| minimal, low, medium, high, xhigh | the same word |

A model that does not know a level refuses the call and says which ones it knows. Of a
model that is known not to think, nothing about reasoning is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agents.control import Interrupt
from agents.messages import (
    Answer,
    Message,
    StopReason,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from agents.models.base import Delta, Request, ToolSpec
from agents.models.catalogue import UNKNOWN, known
from agents.models.history import NO_OUTPUT, CallIds, parse_arguments
from agents.models.listening import Emit
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

PROVIDER: Final = "openai"
BASE_URL: Final = "https://api.openai.com/v1"


class ResponsesModel:
    """A model behind the Responses API; see the module."""

    def __init__(self, model: str, access: Access) -> None:
        facts = known(model)
        self.name = f"{PROVIDER}/{model}"
        self.context_tokens = facts.context_tokens
        self._model, self._access = model, access
        self._thinks, self._is_known = facts.thinks, facts is not UNKNOWN
        self._images = IMAGE_TYPES if facts.takes_images else frozenset[str]()

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the request."""
        call = Call(
            access=self._access,
            base_url=self._access.base_url or BASE_URL,
            path="/responses",
            body=self.body(request),
        )
        request.show(call.body)
        hearing = _Hearing(self._access.provider, self._model, FreshIds(request))
        return converse(call, hearing, emit, interrupt)

    def body(self, request: Request) -> JSON:
        """Return what is sent for a request."""
        history = _History(self._model, request, self._images)
        body: JSON = {
            "model": self._model,
            "input": [item for each in request.messages for item in history.tell(each)],
            "store": False,
            "stream": True,
        }
        if request.system:
            body["instructions"] = request.system
        if request.tools:
            body["tools"] = [_tool(spec) for spec in request.tools]
        if request.max_output_tokens is not None:
            body["max_output_tokens"] = request.max_output_tokens
        if request.cache_key:
            body["prompt_cache_key"] = fitting(request.cache_key, CACHE_KEY_CHARACTERS)
        if reasoning := self._reasoning(request):
            body["include"] = ["reasoning.encrypted_content"]
            body["reasoning"] = reasoning
        return body

    def _reasoning(self, request: Request) -> JSON | None:
        if not self._thinks and (self._is_known or request.thinking is None):
            return None
        if request.thinking is None:
            return {"summary": "auto"}
        if request.thinking == "off":
            return {"effort": "none"}
        return {"effort": request.thinking, "summary": "auto"}


def _tool(spec: ToolSpec) -> JSON:
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
        # Strict schemas are a dialect of their own; ours are what a tool declares.
        "strict": False,
    }


class _History:
    """Tells a conversation as input items."""

    def __init__(self, model: str, request: Request, images: frozenset[str]) -> None:
        self._model, self._request, self._images = model, request, images
        self._ids = CallIds()

    def tell(self, message: Message) -> list[JSON]:
        if isinstance(message, UserMessage):
            content = self._content(message.for_model)
            said = {"type": "message", "role": "user", "content": content}
            return [said] if content else []
        if isinstance(message, ToolMessage):
            return [self._result(message)]
        return self._answer(message.answer)

    def _answer(self, answer: Answer) -> list[JSON]:
        own = own_items(answer, PROVIDER, self._model)
        called = [item["call_id"] for item in own if item["type"] == "function_call"]
        is_own = bool(own) and called == [call.id for call in answer.tool_calls]
        self._ids.open(answer.tool_calls, as_they_are=is_own)
        if is_own:
            return list(own)
        said = {"type": "message", "role": "assistant", "content": answer.text}
        calls = [self._call(call) for call in answer.tool_calls]
        return [said, *calls] if answer.text.strip() else calls

    def _call(self, call: ToolCall) -> JSON:
        return {
            "type": "function_call",
            "call_id": self._ids.of(call.id),
            "name": call.name,
            "arguments": arguments_text(call),
        }

    def _result(self, message: ToolMessage) -> JSON:
        text = message.result.text or NO_OUTPUT
        output: str | list[JSON] = text
        if message.result.blocks:
            blocks = [{"type": "text", "text": text}, *message.result.blocks]
            output = self._content(blocks)
        return {
            "type": "function_call_output",
            "call_id": self._ids.of(message.call_id),
            "output": output,
        }

    def _content(self, blocks: list[JSON]) -> list[JSON]:
        return [self._block(block) for block in blocks]

    def _block(self, block: JSON) -> JSON:
        if block["type"] != "image":
            return {"type": "input_text", "text": block["text"]}
        shown, is_shown = picture(block, self._request, self._images)
        if not is_shown:
            return {"type": "input_text", "text": shown}
        detail = DETAILS.get(block.get("fidelity", ""), "auto")
        return {"type": "input_image", "image_url": shown, "detail": detail}


class _Hearing:
    """Puts an answer together: deltas for the eye, finished items for the record."""

    def __init__(self, provider: str, model: str, ids: FreshIds) -> None:
        self.usage = Usage()
        self._provider, self._model, self._ids = provider, model, ids
        self._items: dict[int, JSON] = {}
        self._calls: dict[int, _Call] = {}
        self._texts = _Prose("text")
        self._thoughts = _Prose("reasoning")
        self._has_refused = False
        self._ending: JSON | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the response is completed, or as complete as it gets."""
        return self._ending is not None

    def take(self, event: Any, emit: Emit) -> None:
        """Take in an event; those that are not needed are passed over."""
        kind = event["type"]
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._has_refused |= kind == "response.refusal.delta"
            self._texts.hear(_part(event, "content_index"), event["delta"], emit)
        elif kind == "response.reasoning_summary_text.delta":
            self._thoughts.hear(_part(event, "summary_index"), event["delta"], emit)
        elif kind == "response.reasoning_text.delta":
            self._thoughts.hear(_part(event, "content_index"), event["delta"], emit)
        elif kind == "response.function_call_arguments.delta":
            self._calls[event["output_index"]].hear(event["delta"], emit)
        elif kind == "response.output_item.added":
            self._begin(event["output_index"], event["item"])
        elif kind == "response.output_item.done":
            self._finish(event["output_index"], event["item"], emit)
        else:
            self._hear_status(kind, event, emit)

    def answer(self) -> Answer:
        """Return the answer."""
        if not self.is_whole:
            raise incomplete(self._provider)
        calls = tuple(call.done() for _, call in sorted(self._calls.items()))
        stop_reason = self._stop_reason()
        if stop_reason == "refusal":
            calls = ()
        return Answer(
            text=self._texts.all,
            reasoning=self._thoughts.all,
            tool_calls=calls,
            stop_reason=stop_reason,
            usage=self.usage,
            native=as_native(PROVIDER, self._model, self._native_items()),
        )

    def _hear_status(self, kind: str, event: JSON, emit: Emit) -> None:
        if kind == "error":
            raise told(self._provider, event.get("error") or event)
        response = event.get("response") or {}
        if kind in ("response.failed", "response.cancelled"):
            raise told(self._provider, response.get("error") or {})
        if usage := response.get("usage"):
            self.usage = _usage(usage)
        if kind in ("response.completed", "response.incomplete"):
            for index, item in enumerate(response.get("output") or ()):
                if index not in self._items:
                    self._finish(index, item, emit)
            self._ending = response

    def _begin(self, index: int, item: JSON) -> None:
        if item["type"] == "function_call" and index not in self._calls:
            id = self._ids.claim(item.get("call_id"))
            self._calls[index] = _Call(id, item["name"])

    def _finish(self, index: int, item: JSON, emit: Emit) -> None:
        """Keep an item as it came, and say what no delta has said of it."""
        self._begin(index, item)
        # Null is how some servers write what they leave out; none reads it back.
        kept = {name: value for name, value in item.items() if value is not None}
        if item["type"] == "function_call":
            self._calls[index].finish(item["arguments"], emit)
            kept["call_id"] = self._calls[index].id
        elif item["type"] == "message":
            self._finish_message(index, item, emit)
        elif item["type"] == "reasoning" and not self._thoughts.has_of(index):
            for place, part in enumerate(
                item.get("summary") or item.get("content") or ()
            ):
                self._thoughts.hear((index, place), part["text"], emit)
        self._items[index] = kept

    def _finish_message(self, index: int, item: JSON, emit: Emit) -> None:
        for place, part in enumerate(item["content"]):
            self._has_refused |= part["type"] == "refusal"
            if not self._texts.has((index, place)):
                text = part.get("text") or part.get("refusal") or ""
                self._texts.hear((index, place), text, emit)

    def _stop_reason(self) -> StopReason:
        ending = self._ending or {}
        if ending.get("status") == "incomplete":
            reason = (ending.get("incomplete_details") or {}).get("reason")
            return "refusal" if reason == "content_filter" else "length"
        if self._has_refused:
            return "refusal"
        return "tool_use" if self._calls else "end"

    def _native_items(self) -> list[JSON]:
        """What can go back: reasoning only whole, readable and with what it led to.

        The API refuses a history in which reasoning stands without its item, or an
        item without its reasoning.
        """
        items = [item for _, item in sorted(self._items.items())]
        thoughts = [item for item in items if item["type"] == "reasoning"]
        if self._stop_reason() in ("length", "refusal") or not items:
            return []
        if items[-1]["type"] == "reasoning":
            return []
        return items if all("encrypted_content" in each for each in thoughts) else []


class _Prose:
    """Text that comes in parts, which a blank line divides."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._parts: dict[tuple[int, int], list[str]] = {}

    @property
    def all(self) -> str:
        return "".join(piece for pieces in self._parts.values() for piece in pieces)

    def has(self, part: tuple[int, int]) -> bool:
        return part in self._parts

    def has_of(self, index: int) -> bool:
        return any(index == of for of, _ in self._parts)

    def hear(self, part: tuple[int, int], text: str, emit: Emit) -> None:
        if not text:
            return
        text = as_text(text)
        piece = text if part in self._parts or not self._parts else f"\n\n{text}"
        self._parts.setdefault(part, []).append(piece)
        emit(Delta(kind=self._kind, text=piece))


class _Call:
    """A tool call as it comes."""

    def __init__(self, id: str, name: str) -> None:
        self.id, self._name = id, name
        self._raw = ""

    def hear(self, text: str, emit: Emit) -> None:
        self._raw += as_text(text)
        emit(
            Delta(
                kind="tool_call", text=text, tool_call_id=self.id, tool_name=self._name
            )
        )

    def finish(self, raw: str, emit: Emit) -> None:
        if not self._raw:
            self.hear(raw, emit)
        self._raw = raw

    def done(self) -> ToolCall:
        return ToolCall(
            id=self.id,
            name=self._name,
            arguments=parse_arguments(self._raw),
            raw_arguments=self._raw,
        )


def _part(event: JSON, place: str) -> tuple[int, int]:
    return event["output_index"], event.get(place) or 0


def _usage(usage: JSON) -> Usage:
    details = usage.get("input_tokens_details") or {}
    read = details.get("cached_tokens") or 0
    written = details.get("cache_write_tokens") or 0
    return Usage(
        input_tokens=max(usage["input_tokens"] - read - written, 0),
        output_tokens=usage["output_tokens"],
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
