"""Idempotency-Key on every POST of the API.

The key also becomes the key of the event or task that the request makes, so that even a
process that died between the effect and its receipt makes nothing twice.
"""

from __future__ import annotations

import hashlib
from typing import Final

from flask import Response, g, request

from broker import receipts
from webapp.context import broker
from webapp.problems import CONTENT_TYPE, FieldErrors

HEADER: Final = "Idempotency-Key"
KEY_LENGTH: Final = 255
# What is kept of an answer that was a stream: every other answer is a JSON document.
STREAMED: Final = ""
# Answers that say "not now": the same request may be sent again.
_TRANSIENT: Final = frozenset({429, 503})


def key() -> str | None:
    """Return the request's key, checked; None without one."""
    found = request.headers.get(HEADER)
    if found is None or request.method != "POST":
        return None
    if not 0 < len(found) <= KEY_LENGTH:
        message = f"must have 1 to {KEY_LENGTH} characters"
        raise FieldErrors([{"field": HEADER, "message": message}])
    return found


def effect_key() -> str | None:
    """Return the key under which this request's effect happens once.

    It holds the request, so that a key that comes back with another one, after an
    answer that was not kept, is not taken for this.
    """
    found = key()
    return None if found is None else f"request/{_request_hash()}/{found}"


def begin() -> Response | None:
    """Answer a repeated request with the first answer; else note that it runs."""
    found = key()
    if found is None:
        return None
    with broker().database.write() as tx:
        first = receipts.begin(tx, found, _request_hash())
    if first is None:
        g.idempotency_key = found
        return None
    if first.body == STREAMED:
        return None  # its effect happens once, under its key, and is streamed again
    kind = "application/json" if first.status < 400 else CONTENT_TYPE
    answer = Response(first.body, first.status, content_type=kind)
    if first.location:
        answer.headers["Location"] = first.location
    answer.headers["Idempotency-Replayed"] = "true"
    return answer


def finish(response: Response) -> Response:
    """Keep the answer of a first request, unless it says "not now"."""
    found = g.pop("idempotency_key", None)
    if found is None:
        return response
    with broker().database.write() as tx:
        if response.status_code >= 500 or response.status_code in _TRANSIENT:
            receipts.forget(tx, found)
        else:
            receipts.finish(tx, found, _as_answer(response))
    return response


def _as_answer(response: Response) -> receipts.Answer:
    return receipts.Answer(
        status=response.status_code,
        # Reading a stream would use it up.
        body=STREAMED if response.is_streamed else response.get_data(as_text=True),
        location=response.headers.get("Location"),
    )


def _request_hash() -> str:
    head = f"{request.method} {request.full_path}\n".encode()
    return hashlib.sha256(head + request.get_data()).hexdigest()
