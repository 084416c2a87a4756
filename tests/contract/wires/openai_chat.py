"""Chat Completions from the side of OpenAI, OpenRouter and an Ollama."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from openai.types.chat import ChatCompletionChunk
from openai.types.chat import completion_create_params as params
from pydantic import TypeAdapter

from agents.messages import Answer, ToolCall
from agents.models import Model
from agents.models.openai_chat import ChatModel
from agents.models.provider import Access

JSON = dict[str, Any]

MODELS = {
    "openai-chat": "gpt-6-sol",
    "openrouter": "anthropic/claude-sonnet-4.5",
    "ollama": "qwen3:8b",
}
_PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openrouter": "/api/v1/chat/completions",
    "ollama": "/v1/chat/completions",
}
# What a person sets as its address: an Ollama's is that of the server itself.
_ROOTS = {"openai-chat": "/v1", "openrouter": "/api/v1", "ollama": ""}
_KEYS = {
    "openai-chat": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "ollama": None,
}
# The fields that a provider understands beyond OpenAI's.
_OWN_FIELDS = {
    "openai-chat": set(),
    "openrouter": {"reasoning", "session_id", "cache_control"},
    "ollama": {"reasoning"},
}
_FINISHES = {
    "end": "stop",
    "tool_use": "tool_calls",
    "length": "length",
    "refusal": "content_filter",
}


class ChatWire:
    """See `Wire`."""

    provider = "openai-chat"

    @property
    def model_name(self) -> str:
        return MODELS[self.provider]

    def model(self, base_url: str, find_key: Callable[[], str | None]) -> Model:
        access = Access(
            provider=self.provider,
            key_name=_KEYS[self.provider],
            find_key=find_key,
            base_url=base_url + _ROOTS[self.provider],
        )
        return ChatModel(self.model_name, access)

    def frames(self, answer: Answer) -> list[bytes]:
        finish = self.choice({}, _FINISHES[answer.stop_reason])
        usage = {**self.chunk([]), "usage": self._usage(answer)}
        told = [*self.unfinished(answer), frame(finish), frame(usage)]
        return [*told, b"data: [DONE]\n\n"]

    def unfinished(self, answer: Answer) -> list[bytes]:
        deltas: list[JSON] = [{"role": "assistant", "content": ""}]
        deltas += [self._thought(piece) for piece in halves(answer.reasoning)]
        deltas += [{"content": piece} for piece in halves(answer.text)]
        for index, call in enumerate(answer.tool_calls):
            deltas += self._call(index, call)
        return [*self._opening(), *(frame(self.choice(delta)) for delta in deltas)]

    def error_frame(self, message: str) -> bytes:
        if self.provider == "openrouter":
            error = {"code": 502, "message": message}
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            return frame({**self.chunk([]), "choices": [choice], "error": error})
        error = {"message": message, "type": "server_error", "param": None}
        return frame({"error": {**error, "code": None}})

    def error_body(self, status: int, message: str) -> JSON:
        if self.provider == "openrouter":
            return {"error": {"code": status, "message": message, "metadata": {}}}
        type = "invalid_request_error" if status < 429 else "api_error"
        return {
            "error": {"message": message, "type": type, "param": None, "code": None}
        }

    def overflow(self) -> tuple[int, JSON]:
        if self.provider == "openrouter":
            raw = json.dumps(
                {"error": {"message": "prompt is too long: 201000 tokens"}}
            )
            told = self.error_body(400, "Provider returned error")
            told["error"]["metadata"] = {"raw": raw, "provider_name": "Anthropic"}
            return 400, told
        if self.provider == "ollama":
            return 400, self.error_body(
                400, "the input length exceeds the context length"
            )
        told = self.error_body(
            400,
            "This model's maximum context length is 128000 tokens. However, your "
            "messages resulted in 128010 tokens. Please reduce their length.",
        )
        told["error"]["code"] = "context_length_exceeded"
        return 400, told

    def check(self, path: str, headers: Mapping[str, str], body: JSON) -> None:
        assert path == _PATHS[self.provider]
        unknown = set(body) - _known - _OWN_FIELDS[self.provider]
        assert not unknown, unknown
        walk(_types.validate_python(body))
        assert body["stream_options"]["include_usage"] is True
        if self.provider == "openrouter":
            assert headers["http-referer"]
            assert headers["x-openrouter-title"]
        if self.provider == "ollama":
            efforts = ("high", "medium", "low", "none")
            assert body.get("reasoning_effort", "none") in efforts
        check_history(body["messages"])

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers["authorization"].removeprefix("Bearer ")

    def chunk(self, choices: list[JSON]) -> JSON:
        """Return a chunk."""
        told = {
            "id": "chatcmpl-9x",
            "object": "chat.completion.chunk",
            "created": 1763740800,
            "model": self.model_name,
            "choices": choices,
        }
        _chunks.validate_python(told)
        return told

    def choice(self, delta: JSON, finish: str | None = None) -> JSON:
        """Return a chunk with a piece of the answer."""
        return self.chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

    def _opening(self) -> list[bytes]:
        return [b": OPENROUTER PROCESSING\n\n"] if self.provider == "openrouter" else []

    def _thought(self, text: str) -> JSON:
        if self.provider == "openai-chat":
            return {"reasoning_content": text}
        if self.provider == "ollama":
            return {"content": "", "reasoning": text}
        detail = {"type": "reasoning.text", "text": text, "index": 0}
        detail["format"] = "anthropic-claude-v1"
        return {"content": "", "reasoning": text, "reasoning_details": [detail]}

    def _call(self, index: int, call: ToolCall) -> list[JSON]:
        raw = call.raw_arguments or json.dumps(call.arguments)
        first, second = halves(raw)
        named = {"index": index, "id": call.id, "type": "function"}
        begun = {**named, "function": {"name": call.name, "arguments": first}}
        more = {"index": index, "function": {"arguments": second}}
        return [{"tool_calls": [begun]}, {"tool_calls": [more]}]

    def _usage(self, answer: Answer) -> JSON:
        read, written = answer.usage.cache_read_tokens, answer.usage.cache_write_tokens
        prompt = answer.usage.input_tokens + read + written
        usage: JSON = {
            "prompt_tokens": prompt,
            "completion_tokens": answer.usage.output_tokens,
            "total_tokens": prompt + answer.usage.output_tokens,
        }
        details = {"cached_tokens": read, "cache_write_tokens": written}
        return {**usage, "prompt_tokens_details": details}


class OpenRouterWire(ChatWire):
    """See `Wire`."""

    provider = "openrouter"


class OllamaWire(ChatWire):
    """See `Wire`."""

    provider = "ollama"


_types: TypeAdapter[Any] = TypeAdapter(params.CompletionCreateParamsStreaming)
_chunks: TypeAdapter[Any] = TypeAdapter(ChatCompletionChunk)
_known = {
    *params.CompletionCreateParamsBase.__annotations__,
    *params.CompletionCreateParamsStreaming.__annotations__,
}


def walk(value: Any) -> None:
    """Look at everything: what is an Iterable by its type is validated only then."""
    if isinstance(value, Mapping):
        for each in value.values():
            walk(each)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            walk(each)


def check_history(messages: list[JSON]) -> None:
    """Refuse what servers do: a system message that is not the first, users that speak
    twice in a row, a call that the next messages do not answer, once, an answer without
    its call, arguments that are no object, a message that says nothing."""
    roles = [message["role"] for message in messages]
    assert "system" not in roles[1:]
    assert ("user", "user") not in pairwise(roles)
    assert roles[-1] in ("user", "tool"), "the last message asks for an answer"
    open_calls: set[str] = set()
    every_call: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert isinstance(message["content"], str)
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls, "somebody speaks before every call is answered"
        assert message["content"] or message.get("tool_calls"), "it says nothing"
        for call in message.get("tool_calls", ()):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert 0 < len(call["id"]) <= 40
            open_calls.add(call["id"])
            every_call.append(call["id"])
    assert not open_calls
    assert len(set(every_call)) == len(every_call), "ids are unique"


def frame(event: JSON) -> bytes:
    """Return one event of the stream."""
    return f"data: {json.dumps(event)}\n\n".encode()


def halves(text: str) -> list[str]:
    """Cut a text in two; nothing of nothing."""
    middle = (len(text) + 1) // 2
    return [text[:middle], text[middle:]] if text else []
