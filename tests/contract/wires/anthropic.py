"""Anthropic's Messages API from its own side, as its documents stream it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from anthropic.types import message_create_params as params
from anthropic.types.beta import message_create_params as beta_params
from pydantic import TypeAdapter

from agents.messages import Answer, ToolCall
from agents.models import Model
from agents.models.anthropic import BINDING_BETA, AnthropicModel
from agents.models.provider import Access

JSON = dict[str, Any]

MODEL = "claude-sonnet-5-5"
_STOPS = {
    "end": "end_turn",
    "tool_use": "tool_use",
    "length": "max_tokens",
    "refusal": "refusal",
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicWire:
    """See `Wire`."""

    provider = "anthropic"

    def model(self, base_url: str, find_key: Callable[[], str | None]) -> Model:
        access = Access(
            provider=self.provider,
            key_name="ANTHROPIC_API_KEY",
            find_key=find_key,
            base_url=base_url,
        )
        return AnthropicModel(MODEL, access)

    def frames(self, answer: Answer) -> list[bytes]:
        usage = {"output_tokens": answer.usage.output_tokens}
        delta = {"stop_reason": _STOPS[answer.stop_reason], "stop_sequence": None}
        return [
            *self.unfinished(answer),
            frame({"type": "message_delta", "delta": delta, "usage": usage}),
            frame({"type": "message_stop"}),
        ]

    def unfinished(self, answer: Answer) -> list[bytes]:
        index = count()
        told = [_message_start(answer), frame({"type": "ping"})]
        if answer.reasoning:
            told += _thinking(next(index), answer.reasoning)
        if answer.text:
            told += _text(next(index), answer.text)
        for call in answer.tool_calls:
            told += _tool_use(next(index), call)
        return told

    def error_frame(self, message: str) -> bytes:
        return frame(self.error_body(529, message))

    def error_body(self, status: int, message: str) -> JSON:
        error = {"type": _TYPES.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_011CSHo"}

    def overflow(self) -> tuple[int, JSON]:
        told = "prompt is too long: 1000017 tokens > 1000000 maximum"
        return 400, self.error_body(400, told)

    def check(self, path: str, headers: Mapping[str, str], body: JSON) -> None:
        assert path == "/v1/messages"
        assert headers["anthropic-version"] == "2026-10-21"
        thinking = body.get("thinking", {})
        assert "block_binding" not in thinking or (
            headers["anthropic-beta"] == BINDING_BETA
        )
        walk(_beta_types if "anthropic-beta" in headers else _types, body)
        unknown = set(body) - set(params.MessageCreateParamsStreaming.__annotations__)
        assert unknown <= set(params.MessageCreateParamsBase.__annotations__)
        assert not {"temperature", "top_p", "top_k"} & set(body)
        assert str(body).count("'cache_control'") <= 4
        check_history(body["messages"])

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers["authorization"].removeprefix("Bearer ")


_types: TypeAdapter[Any] = TypeAdapter(params.MessageCreateParamsStreaming)
_beta_types: TypeAdapter[Any] = TypeAdapter(beta_params.MessageCreateParamsStreaming)


def walk(types: TypeAdapter[Any], body: JSON) -> None:
    """Validate a body by its types; an Iterable is validated only as it is walked."""
    _walk_all(types.validate_python(body))


def _walk_all(value: Any) -> None:
    if isinstance(value, Mapping):
        for each in value.values():
            _walk_all(each)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            _walk_all(each)


def check_history(messages: list[JSON]) -> None:
    """Refuse what the API does: other roles than user and assistant in turn, a call
    that the next message does not answer, an answer without its call, empty text."""
    roles = [message["role"] for message in messages]
    assert roles == (["user", "assistant"] * len(messages))[: len(messages)], roles
    assert roles[-1] == "user", "the last message asks for an answer"
    open_calls: list[str] = []
    every_call: list[str] = []
    for message in messages:
        blocks = message["content"]
        assert blocks, "a message without content"
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        assert sorted(results) == sorted(open_calls), (results, open_calls)
        types = [block["type"] for block in blocks]
        assert types[: len(results)] == ["tool_result"] * len(results), types
        open_calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
        assert all(id.replace("_", "").replace("-", "").isalnum() for id in open_calls)
        every_call += open_calls
        _check_blocks(message["role"], blocks)
    assert len(set(every_call)) == len(every_call), "ids are unique"


def _check_blocks(role: str, blocks: list[JSON]) -> None:
    assert all(b["text"].strip() for b in blocks if b["type"] == "text"), "empty text"
    thoughts = [b for b in blocks if b["type"] == "thinking"]
    assert role == "assistant" or not thoughts
    assert all(block["signature"] for block in thoughts)
    assert blocks[-1]["type"] not in ("thinking", "redacted_thinking")
    for result in (b for b in blocks if b["type"] == "tool_result"):
        assert result["content"], "a result without content"
        if result.get("is_error"):
            assert {block["type"] for block in result["content"]} == {"text"}
        _check_blocks("user", result["content"])


def frame(event: JSON) -> bytes:
    """Return one event of the stream."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _message_start(answer: Answer) -> bytes:
    usage = {
        "input_tokens": answer.usage.input_tokens,
        "cache_read_input_tokens": answer.usage.cache_read_tokens,
        "cache_creation_input_tokens": answer.usage.cache_write_tokens,
        "output_tokens": min(answer.usage.output_tokens, 1),
    }
    message = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return frame({"type": "message_start", "message": message})


def _thinking(index: int, text: str) -> list[bytes]:
    begun = {"type": "thinking", "thinking": "", "signature": ""}
    pieces = [{"type": "thinking_delta", "thinking": piece} for piece in halves(text)]
    signed = {"type": "signature_delta", "signature": f"EqQB+{len(text)}/=="}
    return _block(index, begun, [*pieces, signed])


def _text(index: int, text: str) -> list[bytes]:
    pieces = [{"type": "text_delta", "text": piece} for piece in halves(text)]
    return _block(index, {"type": "text", "text": ""}, pieces)


def _tool_use(index: int, call: ToolCall) -> list[bytes]:
    begun = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    raw = call.raw_arguments or json.dumps(call.arguments)
    pieces = ["", *halves(raw)]
    told = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return _block(index, begun, told)


def _block(index: int, begun: JSON, deltas: list[JSON]) -> list[bytes]:
    start = {"type": "content_block_start", "index": index, "content_block": begun}
    told = [
        {"type": "content_block_delta", "index": index, "delta": delta}
        for delta in deltas
    ]
    stop = {"type": "content_block_stop", "index": index}
    return [frame(event) for event in (start, *told, stop)]


def halves(text: str) -> list[str]:
    """Cut a text in two."""
    middle = (len(text) + 1) // 2
    return [text[:middle], text[middle:]]
