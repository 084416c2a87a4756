"""One call to a server that speaks one of OpenAI's protocols.

The SDK carries it (connection, authentication, server-sent events, errors); the events
stay the JSON that they are. Its models would cost more per token than the network, drop
what they do not know, and take a malformed event for a well-formed one.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    OpenAIError,
)

from agents.control import Interrupt
from agents.messages import Answer
from agents.models import wire
from agents.models.base import ModelError
from agents.models.listening import Emit, Hearing, hear_out, listen
from agents.models.provider import Access, broken, failure

JSON = dict[str, Any]

# How much of what a server says about an error is passed on.
_SAID_CHARACTERS: Final = 1000

# OpenAI's own words for errors, as the status that would say the same. What is not
# here was the server's fault as far as anybody knows, and is worth another try.
_STATUSES: Final[Mapping[str, int]] = {
    "authentication_error": 401,
    "insufficient_quota": 402,  # it comes as a 429, but no waiting mends it
    "invalid_request_error": 400,
    "permission_error": 403,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "vector_store_timeout": 504,
    **dict.fromkeys(
        [
            "bio_policy",
            "data_residency_mismatch",
            "empty_image_file",
            "failed_to_download_image",
            "image_content_policy_violation",
            "image_file_not_found",
            "image_file_too_large",
            "image_parse_error",
            "image_too_large",
            "image_too_small",
            "invalid_base64_image",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_mode",
            "invalid_image_url",
            "invalid_prompt",
            "misalignment_policy_violation",
            "unsupported_image_media_type",
        ],
        400,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that is ready to be sent."""

    access: Access
    base_url: str
    path: str
    body: JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def converse(call: Call, hearing: Hearing, emit: Emit, interrupt: Interrupt) -> Answer:
    """Make the call and return its answer; what was said so far when interrupted.

    Raises ModelError, and what `emit` raises.
    """
    key = call.access.key()
    # Encoding a long history takes milliseconds, which are no other call's here.
    text = json.dumps(call.body, ensure_ascii=False)
    sent = text.encode(errors="replace")  # half a surrogate pair has no UTF-8

    async def conversation(heard: Emit) -> None:
        client = _client(call.base_url, key)
        async with await _post(client, call, sent) as stream:
            await listen(stream, hearing, heard)

    judge = partial(_judge, call.access.provider)
    return hear_out(conversation, hearing, judge, emit, interrupt)


def told(provider: str, error: JSON) -> ModelError:
    """Judge an error that came inside of a stream."""
    code = str(error.get("code") or error.get("type") or "")
    status = int(code) if code.isdigit() else _STATUSES.get(code)
    return failure(provider, status, _said(error, code or "error"), code=code or None)


async def _post(client: AsyncOpenAI, call: Call, sent: bytes) -> AsyncStream[Any]:
    timeout = httpx2.Timeout(wire.READ_SECONDS, connect=wire.CONNECT_SECONDS)
    return await client.post(
        call.path,
        content=sent,
        cast_to=object,
        stream=True,
        stream_cls=AsyncStream[Any],
        options={
            "headers": dict(call.headers),
            "timeout": timeout,
            "security": {"bearer_auth": True},
        },
    )


_clients: Final[dict[tuple[AbstractEventLoop, str], AsyncOpenAI]] = {}


def _client(base_url: str, key: str) -> AsyncOpenAI:
    """One client for a server, for as long as the process: its connections serve every
    key, so that short-lived keys (P36) cost no new ones. (To open a client takes 0.1 s,
    in which no stream of this process moves; to give it a key takes 0.0002 s.)"""
    place = (asyncio.get_running_loop(), base_url)
    if place not in _clients:
        _clients[place] = AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0)
    return _clients[place].with_options(api_key=key)


def _judge(provider: str, error: Exception) -> ModelError:
    """Say what went wrong between here and a server."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, ModelError):
        return error
    if isinstance(error, APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return broken(provider, cause, is_timeout=True)
    if isinstance(error, APIConnectionError | httpx2.HTTPError | httpx2.StreamError):
        return broken(provider, cause, is_timeout=False)
    if isinstance(error, APIStatusError):
        return _refused(provider, error)
    if isinstance(error, APIError) and isinstance(error.body, dict):
        return told(provider, error.body)
    if isinstance(error, APIError):
        return failure(provider, None, _said(error.body, error.message))
    if isinstance(error, OpenAIError):
        return failure(provider, 400, str(error))
    # JSON that is none, or has another shape than the protocol says.
    return ModelError(
        f"{provider}: it sent something malformed ({error!r}).",
        kind="malformed",
        is_retriable=True,
    )


def _refused(provider: str, error: APIStatusError) -> ModelError:
    status = error.status_code
    if error.code == "insufficient_quota":
        status = _STATUSES["insufficient_quota"]
    said = _said(error.body, error.message)
    return failure(provider, status, said, error.response.headers, code=error.code)


def _said(body: object, otherwise: str) -> str:
    """What a server says about an error, in any of the shapes that exist.

    OpenRouter's own message is "Provider returned error"; what the provider said (that
    the conversation is too long, for one) is the raw text beside it.
    """
    if isinstance(body, str) and body.strip():
        return body.strip()[:_SAID_CHARACTERS]
    if not isinstance(body, dict):
        return otherwise
    metadata = body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    said = str(body.get("message") or otherwise)
    return (f"{said}: {raw}" if raw else said)[:_SAID_CHARACTERS]
