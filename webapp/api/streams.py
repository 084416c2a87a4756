"""Server-sent events as responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Response

from broker.events import EventFilter
from webapp.context import context
from webapp.document import Answers

EVENT_STREAM: Final[Answers] = {
    200: {
        "description": "Server-sent events",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(
    wanted: EventFilter,
    after: int,
    ends: Callable[[dict[str, Any]], bool] | None = None,
) -> Response:
    """Answer with a stream of the wanted events after a cursor."""
    chunks = context().live.stream(wanted, after, ends)
    return Response(chunks, content_type="text/event-stream", headers=HEADERS)
