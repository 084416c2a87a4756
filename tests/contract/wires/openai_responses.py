"""OpenAI's Responses API from its own side, as its documents stream it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from openai.types.responses import ResponseStreamEvent
from openai.types.responses import response_create_params as params
from pydantic import TypeAdapter

from agents.messages import Answer, ToolCall
from agents.models import Model
from agents.models.openai_responses import ResponsesModel
from agents.models.provider import Access

JSON = dict[str, Any]
Told = list[JSON]

MODEL = "gpt-6-sol"
_CODES = {
    400: "invalid_request_error",
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
}


class ResponsesWire:
    """See `Wire`."""

    provider = "openai"

    def model(self, base_url: str, find_key: Callable[[], str | None]) -> Model:
        access = Access(
            provider=self.provider,
            key_name="OPENAI_API_KEY",
            find_key=find_key,
            base_url=f"{base_url}/v1",
        )
        return ResponsesModel(MODEL, access)

    def frames(self, answer: Answer) -> list[bytes]:
        return [frame(event) for event in numbered([*begun(answer), ending(answer)])]

    def unfinished(self, answer: Answer) -> list[bytes]:
        return [frame(event) for event in numbered(begun(answer))]

    def error_frame(self, message: str) -> bytes:
        error = {"type": "error", "code": "server_is_overloaded", "message": message}
        return frame({**error, "param": None, "sequence_number": 99})

    def error_body(self, status: int, message: str) -> JSON:
        code = _CODES.get(status)
        type = "invalid_request_error" if status < 429 else "server_error"
        return {
            "error": {"message": message, "type": type, "param": None, "code": code}
        }

    def overflow(self) -> tuple[int, JSON]:
        error = {
            "message": "Your input exceeds the context window of this model. "
            "Please adjust your input and try again.",
            "type": "invalid_request_error",
            "param": "input",
            "code": "context_length_exceeded",
        }
        return 400, {"error": error}

    def check(self, path: str, headers: Mapping[str, str], body: JSON) -> None:
        assert path == "/v1/responses"
        assert set(body) <= _known, set(body) - _known
        walk(_types.validate_python(body))
        assert body["store"] is False
        assert len(body.get("prompt_cache_key", "")) <= 64
        check_history(body["input"])

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers["authorization"].removeprefix("Bearer ")


_types: TypeAdapter[Any] = TypeAdapter(params.ResponseCreateParamsStreaming)
_events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_known = {
    *params.ResponseCreateParamsBase.__annotations__,
    *params.ResponseCreateParamsStreaming.__annotations__,
}


def walk(value: Any) -> None:
    """Look at everything: what is an Iterable by its type is validated only then."""
    if isinstance(value, Mapping):
        for each in value.values():
            walk(each)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            walk(each)


def check_history(items: Told) -> None:
    """Refuse what the API does: a call that is not answered before anybody speaks
    again, an answer without its call, reasoning without what it led to, and reasoning
    that is neither stored nor sent along."""
    assert items[-1]["type"] in ("message", "function_call_output")
    assert items[-1].get("role") != "assistant", "the last item asks for an answer"
    open_calls: set[str] = set()
    every_call: list[str] = []
    for item, after in zip(items, [*items[1:], None], strict=True):
        if item["type"] == "function_call":
            open_calls.add(item["call_id"])
            every_call.append(item["call_id"])
            assert len(item["call_id"]) <= 64
        elif item["type"] == "function_call_output":
            open_calls.remove(item["call_id"])
        elif item["type"] == "reasoning":
            assert item["encrypted_content"], "nothing is stored"
            assert after is not None
            assert after["type"] in ("function_call", "reasoning") or (
                after.get("role") == "assistant"
            )
        else:
            assert not open_calls, "somebody speaks before every call is answered"
            assert item["content"], "a message without content"
    assert not open_calls
    assert len(set(every_call)) == len(every_call), "ids are unique"


def frame(event: JSON) -> bytes:
    """Return one event of the stream."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def numbered(events: Told) -> Told:
    """Number the events, and hold each against the SDK's own types."""
    told = [{**event, "sequence_number": n} for n, event in enumerate(events)]
    for event in told:
        _events.validate_python(event)
    return told


def begun(answer: Answer) -> Told:
    """Return the events of an answer up to the one that ends it."""
    index = count()
    created = response("in_progress", [], None)
    told: Told = [
        {"type": "response.created", "response": created},
        {"type": "response.in_progress", "response": created},
    ]
    if answer.reasoning:
        told += reasoning(next(index), answer.reasoning)
    if answer.stop_reason == "refusal":
        told += refusal(next(index), answer.text)
    elif answer.text:
        told += message(next(index), answer.text)
    for call in answer.tool_calls:
        told += function_call(next(index), call)
    return told


def ending(answer: Answer) -> JSON:
    """Return the event that ends it."""
    output = [
        event["item"]
        for event in begun(answer)
        if event["type"] == "response.output_item.done"
    ]
    read, written = answer.usage.cache_read_tokens, answer.usage.cache_write_tokens
    usage = {
        "input_tokens": answer.usage.input_tokens + read + written,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": answer.usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(answer.usage.as_json().values()),
    }
    if answer.stop_reason == "length":
        ended = response("incomplete", output, usage)
        ended["incomplete_details"] = {"reason": "max_output_tokens"}
        return {"type": "response.incomplete", "response": ended}
    ended = response("completed", output, usage)
    return {"type": "response.completed", "response": ended}


def response(status: str, output: Told, usage: JSON | None) -> JSON:
    """Return a response as it stands in events about the whole."""
    return {
        "id": "resp_0a1b2c3d",
        "object": "response",
        "created_at": 1763740800,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }


def reasoning(index: int, text: str) -> Told:
    """Return the events of an item of reasoning with one summary."""
    id = f"rs_{index}"
    empty = {"id": id, "type": "reasoning", "summary": []}
    part = {"type": "summary_text", "text": text}
    place = {"item_id": id, "output_index": index, "summary_index": 0}
    name = "response.reasoning_summary"
    begin = {**place, "part": {"type": "summary_text", "text": ""}}
    pieces = [{"type": f"{name}_text.delta", **place, "delta": d} for d in halves(text)]
    done = {**empty, "summary": [part], "encrypted_content": f"gAAAAAB{len(text)}"}
    told = [
        {"type": f"{name}_part.added", **begin},
        *pieces,
        {"type": f"{name}_text.done", **place, "text": text},
        {"type": f"{name}_part.done", **place, "part": part},
    ]
    return item(index, empty, told, done)


def message(index: int, text: str) -> Told:
    """Return the events of a message."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    place = {"item_id": f"msg_{index}", "output_index": index, "content_index": 0}
    name = "response.output_text"
    told = [
        {"type": f"{name}.delta", **place, "delta": piece, "logprobs": []}
        for piece in halves(text)
    ]
    end = {"type": f"{name}.done", **place, "text": text, "logprobs": []}
    return _spoken(index, place, part, [*told, end])


def refusal(index: int, text: str) -> Told:
    """Return the events of a message that refuses."""
    part = {"type": "refusal", "refusal": text}
    place = {"item_id": f"msg_{index}", "output_index": index, "content_index": 0}
    name = "response.refusal"
    told = [{"type": f"{name}.delta", **place, "delta": d} for d in halves(text)]
    end = {"type": f"{name}.done", **place, "refusal": text}
    return _spoken(index, place, part, [*told, end])


def function_call(index: int, call: ToolCall) -> Told:
    """Return the events of a call."""
    raw = call.raw_arguments or json.dumps(call.arguments)
    id = f"fc_{index}"
    named = {"id": id, "type": "function_call", "call_id": call.id, "name": call.name}
    place = {"item_id": id, "output_index": index}
    name = "response.function_call_arguments"
    told = [
        *({"type": f"{name}.delta", **place, "delta": d} for d in halves(raw)),
        {"type": f"{name}.done", **place, "name": call.name, "arguments": raw},
    ]
    empty = {**named, "status": "in_progress", "arguments": ""}
    return item(index, empty, told, {**named, "status": "completed", "arguments": raw})


def item(index: int, empty: JSON, told: Told, done: JSON) -> Told:
    """Return an item's events between those that open and close it."""
    name = "response.output_item"
    return [
        {"type": f"{name}.added", "output_index": index, "item": empty},
        *told,
        {"type": f"{name}.done", "output_index": index, "item": done},
    ]


def halves(text: str) -> list[str]:
    """Cut a text in two."""
    middle = (len(text) + 1) // 2
    return [text[:middle], text[middle:]]


def _spoken(index: int, place: JSON, part: JSON, told: Told) -> Told:
    said = {"id": place["item_id"], "type": "message", "role": "assistant"}
    name = "response.content_part"
    between = [
        {"type": f"{name}.added", **place, "part": _emptied(part)},
        *told,
        {"type": f"{name}.done", **place, "part": part},
    ]
    empty = {**said, "status": "in_progress", "content": []}
    done = {**said, "status": "completed", "content": [part]}
    return item(index, empty, between, done)


def _emptied(part: JSON) -> JSON:
    return {**part, **{name: "" for name in ("text", "refusal") if name in part}}
