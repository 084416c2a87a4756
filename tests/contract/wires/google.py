"""Google's `streamGenerateContent` from its own side, as its documents stream it.

Arguments of a call are not cut into pieces: the Gemini API sends each call whole.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from google.genai import types

from agents.messages import Answer, ToolCall
from agents.models import Model
from agents.models.google import GoogleModel
from agents.models.provider import Access

JSON = dict[str, Any]

MODEL = "gemini-3.8-flash"
SIGNATURE = base64.b64encode(b"\xfb\xff\xfesigned").decode()
_STOPS = {
    "end": "STOP",
    "tool_use": "STOP",
    "length": "MAX_TOKENS",
    "refusal": "SAFETY",
}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_FIELDS = {"contents", "systemInstruction", "tools", "generationConfig", "toolConfig"}


class GoogleWire:
    """See `Wire`."""

    provider = "google"

    def model(self, base_url: str, find_key: Callable[[], str | None]) -> Model:
        access = Access(
            provider=self.provider,
            key_name="GEMINI_API_KEY",
            find_key=find_key,
            base_url=base_url,
        )
        return GoogleModel(MODEL, access)

    def frames(self, answer: Answer) -> list[bytes]:
        last: JSON = {"finishReason": _STOPS[answer.stop_reason], "index": 0}
        if answer.stop_reason != "refusal":
            last["content"] = {"role": "model", "parts": [{"text": ""}]}
        told = self.unfinished(answer)
        return [*told, frame({**_chunk(answer), "candidates": [last]})]

    def unfinished(self, answer: Answer) -> list[bytes]:
        parts: list[JSON] = []
        for piece in halves(answer.reasoning):
            parts.append({"text": piece, "thought": True})
        for piece in halves(answer.text):
            parts.append({"text": piece})
        for index, call in enumerate(answer.tool_calls):
            parts.append(_function_call(call, is_signed=index == 0))
        return [frame(_part_chunk(answer, part)) for part in parts]

    def error_frame(self, message: str) -> bytes:
        return frame(self.error_body(503, message))

    def error_body(self, status: int, message: str) -> JSON:
        told = _STATUSES.get(status, "UNKNOWN")
        return {"error": {"code": status, "message": message, "status": told}}

    def overflow(self) -> tuple[int, JSON]:
        told = (
            "The input token count (1048600) exceeds the maximum number of tokens "
            "allowed (1048576)."
        )
        return 400, self.error_body(400, told)

    def check(self, path: str, headers: Mapping[str, str], body: JSON) -> None:
        assert path == f"/v1/models/{MODEL}:streamGenerateContent?alt=sse"
        assert set(body) <= _FIELDS, set(body) - _FIELDS
        settings = body.get("generationConfig", {})
        types.GenerationConfig.model_validate_json(json.dumps(settings))
        assert not {"temperature", "topP", "topK"} & set(settings)
        for tool in body.get("tools", ()):
            types.Tool.model_validate_json(json.dumps(tool))
        for content in (body.get("systemInstruction"), *body["contents"]):
            if content is not None:
                types.Content.model_validate_json(json.dumps(content))
        check_history(body["contents"])

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers["x-goog-api-key"]


def check_history(contents: list[JSON]) -> None:
    """Refuse what the API does: another beginning than the user's, calls that the next
    turn does not answer one by one, a step whose first call has no signature."""
    assert contents[0]["role"] == "user"
    assert contents[-1]["role"] == "user"
    open_calls: list[JSON] = []
    last = ("", False)
    for content in contents:
        parts = content["parts"]
        assert content["role"] in ("user", "model")
        assert parts, "a turn without parts"
        answers = [p["functionResponse"] for p in parts if "functionResponse" in p]
        assert [_name(each) for each in answers] == [_name(c) for c in open_calls]
        assert not answers or len(answers) == len(parts), "results are by themselves"
        this = (content["role"], bool(answers))
        assert this != last, f"{this} twice in a row"
        last = this
        calls = [part for part in parts if "functionCall" in part]
        assert not calls or calls[0].get("thoughtSignature"), "the first is not signed"
        assert not calls or content["role"] == "model"
        open_calls = [part["functionCall"] for part in calls]


def _name(each: JSON) -> tuple[str, str | None]:
    return each["name"], each.get("id")


def frame(chunk: JSON) -> bytes:
    """Return one chunk of the stream."""
    return f"data: {json.dumps(chunk)}\r\n\r\n".encode()


def _part_chunk(answer: Answer, part: JSON) -> JSON:
    content = {"role": "model", "parts": [part]}
    return {**_chunk(answer), "candidates": [{"content": content, "index": 0}]}


def _chunk(answer: Answer) -> JSON:
    usage = answer.usage
    prompt = usage.input_tokens + usage.cache_read_tokens
    thoughts = usage.output_tokens // 2 if answer.reasoning else 0
    counts = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + usage.output_tokens,
    }
    return {
        "usageMetadata": counts,
        "modelVersion": MODEL,
        "responseId": "YcmTaIqIDY6Q1dkP",
    }


def _function_call(call: ToolCall, *, is_signed: bool) -> JSON:
    made = {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
    return {**made, "thoughtSignature": SIGNATURE} if is_signed else made


def halves(text: str) -> list[str]:
    """Cut a text in two; nothing is no piece."""
    middle = (len(text) + 1) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]
