"""What adapters share in telling a conversation to a provider, whatever its format."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from agents.messages import Answer, ToolCall
from agents.models.base import Request

# What stands for a result without any text: empty blocks are refused.
NO_OUTPUT: Final = "(no output)"
# A conversation has to begin with the user; this is said where ours does not.
OPENING: Final = "(The conversation before this is not shown.)"

_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9_-]")
_ID_LENGTH: Final = 64


def parse_arguments(raw: str) -> dict[str, Any] | None:
    """Read the arguments of a call; None when they are no JSON object. NaN and Infinity
    are none, though Python's parser takes them."""
    try:
        arguments = json.loads(raw or "{}", parse_constant=_refuse)
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def sent_arguments(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as an object, also when the model wrote none; the wrapping
    is the one of Anthropic's documents."""
    if call.arguments is not None:
        return call.arguments
    return {"INVALID_JSON": call.raw_arguments}


def is_empty(answer: Answer) -> bool:
    """Whether there is nothing in an answer that a provider could be told."""
    return not (answer.text.strip() or answer.tool_calls)


def find_image(
    block: dict[str, Any], request: Request, readable: Collection[str]
) -> bytes | str:
    """Return an image's bytes, or what to say where there are none."""
    name, media_type = block.get("name", "an image"), block["media_type"]
    if media_type not in readable:
        return f"[The image {name} cannot be shown: {media_type} is not read here.]"
    try:
        return request.image_bytes(block["artifact"])
    except LookupError:
        return f"[The image {name} is no longer there.]"


class CallIds:
    """Ids that any provider takes: no strange characters, and none used twice.

    Ids of one provider go to others, and some providers begin anew in every answer.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._now: dict[str, str] = {}

    def open(self, calls: Sequence[ToolCall], *, as_they_are: bool) -> None:
        """Go on to the calls of the next answer."""
        self._now = {
            call.id: call.id if as_they_are else self._unused(call.id) for call in calls
        }
        self._used.update(self._now.values())

    def of(self, call_id: str) -> str:
        """Return the id under which a call of the present answer is told."""
        return self._now[call_id]

    def _unused(self, id: str) -> str:
        safe = _UNSAFE.sub("_", id)[:_ID_LENGTH] or "call"
        taken = self._used | set(self._now.values())
        unused, count = safe, 1
        while unused in taken:
            count += 1
            unused = f"{safe[: _ID_LENGTH - 8]}_{count}"
        return unused
