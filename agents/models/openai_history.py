"""What both of OpenAI's protocols share of telling and of hearing a conversation."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection
from typing import Any, Final

from agents.messages import Answer, AssistantMessage, Native, ToolCall
from agents.models.base import Request
from agents.models.history import find_image, parse_arguments, sent_arguments

JSON = dict[str, Any]

# What OpenAI accepts as a prompt_cache_key.
CACHE_KEY_CHARACTERS: Final = 64

# The images that OpenAI reads.
IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

# How closely to look at one, in OpenAI's words.
DETAILS: Final = {"low": "low", "medium": "auto", "high": "high"}


def fitting(name: str, characters: int) -> str:
    """Return a name that is short enough, always the same one for the same name."""
    if len(name) <= characters:
        return name
    return hashlib.sha256(name.encode()).hexdigest()[: min(characters, 32)]


def picture(
    block: JSON, request: Request, readable: Collection[str]
) -> tuple[str, bool]:
    """Return an image as a data URL, or what to say instead; and whether it is one."""
    found = find_image(block, request, readable)
    if isinstance(found, str):
        return found, False
    encoded = base64.b64encode(found).decode()
    return f"data:{block['media_type']};base64,{encoded}", True


def as_text(value: Any) -> str:
    """Return what a server calls a text; raise TypeError when it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def own_items(answer: Answer, provider: str, model: str) -> tuple[JSON, ...]:
    """Return an answer's native items if they are this model's; else none.

    Another model of the same provider cannot read them: reasoning is signed or
    encrypted for the one that thought it.
    """
    native = answer.native
    if native is None or (native.provider, native.model) != (provider, model):
        return ()
    return native.items


def as_native(provider: str, model: str, items: list[JSON]) -> Native | None:
    """Return the items as an answer keeps them; None for none."""
    if not items:
        return None
    return Native(provider=provider, model=model, items=tuple(items))


def arguments_text(call: ToolCall) -> str:
    """Return a call's arguments as JSON of an object, as they came where they are one.

    Servers that put them into a template refuse the whole history otherwise.
    """
    raw = call.raw_arguments
    if raw and call.arguments is not None and parse_arguments(raw) == call.arguments:
        return raw
    return json.dumps(sent_arguments(call), ensure_ascii=False)


class FreshIds:
    """Gives every new call an id that no other call of the conversation has.

    Some servers send none, or count from zero in each answer. The ids made here are
    the same ones in every attempt at the same answer.
    """

    def __init__(self, request: Request) -> None:
        self._taken = {
            call.id
            for message in request.messages
            if isinstance(message, AssistantMessage)
            for call in message.answer.tool_calls
        }
        self._place = len(request.messages)
        self._count = 0

    def claim(self, given: str | None) -> str:
        """Return the given id if it is free; else another one."""
        chosen = given or self._made()
        while chosen in self._taken:
            chosen = self._made()
        self._taken.add(chosen)
        return chosen

    def _made(self) -> str:
        self._count += 1
        return f"call_{self._place}_{self._count}"
