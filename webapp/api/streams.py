"""Server-sent events as responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Response

from webapp.context import context
from webapp.document import Answers
from webapp.live import Cursor

EVENT_STREAM: Final[Answers] = {
    200: {
        "description": "Server-sent events",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(
    begin: Callable[[], Cursor], ends: Callable[[dict[str, Any]], bool] | None = None
) -> Response:
    """Answer with a stream from a cursor on, made once there is a place for it."""
    chunks = context().live.stream(begin, ends)
    return Response(chunks, content_type="text/event-stream", headers=HEADERS)
