"""What gunicorn itself refuses, as problem documents: such a request reaches no Flask.

gunicorn makes this class its worker; nobody else uses it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.http import HTTP_STATUS_CODES

from webapp.problems import CONTENT_TYPE, TYPE_PREFIX, slug_of

# Errors of the same family that are not the client's.
_OURS: Final = (
    errors.ConfigurationProblem,
    errors.InvalidResponseHeader,
    errors.InvalidResponseHeaderName,
)
_STATUSES: Final = {
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.LimitRequestLine: 414,
    errors.UnsupportedTransferCoding: 501,
}
_DETAILS: Final = {
    414: "Path and query are too long: together they may have about 8,000 bytes.",
    431: "The headers are larger than this server takes.",
}
_OTHERWISE: Final = "The request is no HTTP that this server can read."


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's worker with threads; its refusals are problem documents, not HTML."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer a request that cannot be parsed; leave all else to gunicorn."""
        if not isinstance(exc, errors.ParseException) or isinstance(exc, _OURS):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("A request cannot be read: %s", exc)
        try:
            util.write_nonblock(client, _answer(_STATUSES.get(type(exc), 400)))
        except OSError:
            self.log.debug("Nobody was there to read why.")


def _answer(status: int) -> bytes:
    slug = slug_of(status)
    document = {
        "type": TYPE_PREFIX + slug,
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": _DETAILS.get(status, _OTHERWISE),
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {HTTP_STATUS_CODES[status]}\r\nConnection: close\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
