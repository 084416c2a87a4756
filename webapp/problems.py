"""Errors as RFC 9457 problem documents: `type title status detail`, and `errors[]`."""

from __future__ import annotations

import difflib
from typing import Final

import structlog
from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, json
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from broker.errors import BrokerError, TooManyWaiting
from webapp.api import schemas

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:roost:problem:"


class Problem(BaseModel):
    """What every error answer looks like."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


class ProblemError(Exception):
    """An error that the API itself raises."""

    def __init__(self, slug: str, status: int, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.slug, self.status, self.detail, self.extra = slug, status, detail, extra


class FieldErrors(ProblemError):
    """A request with wrong fields."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        where = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        super().__init__("bad-fields", 400, where, errors=errors)


def problem(
    slug: str,
    status: int,
    detail: str,
    headers: dict[str, str] | None = None,
    **extra: object,
) -> Response:
    """Build the answer."""
    document = {
        "type": TYPE_PREFIX + slug,
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        **extra,
    }
    return Response(
        json.dumps(document), status, headers or {}, content_type=CONTENT_TYPE
    )


def register(app: APIFlask) -> None:
    """Turn every error that can leave the application into a problem."""
    app.register_error_handler(BrokerError, _from_broker)
    app.register_error_handler(ProblemError, _from_api)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_bug)
    app.error_processor(_from_apiflask)


def as_field_errors(error: ValidationError, *within: str) -> FieldErrors:
    """Say of each field what is wrong; for an unknown one, the nearest that exists.
    `within` names the field that was judged, where it was not the whole."""
    known = list(getattr(schemas, error.title).model_fields)
    problems = error.errors(include_url=False, include_input=False)
    return FieldErrors([_field_error(each, known, within) for each in problems])


def _field_error(
    each: ErrorDetails, known: list[str], within: tuple[str, ...]
) -> dict[str, str]:
    field = ".".join(str(part) for part in (*within, *each["loc"])) or "body"
    if each["type"] != "extra_forbidden":
        return {"field": field, "message": each["msg"]}
    close = difflib.get_close_matches(str(each["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return {"field": field, "message": f"unknown field; {hint}"}


def _from_broker(error: BrokerError) -> Response:
    headers = {}
    if isinstance(error, TooManyWaiting):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return problem(error.slug, error.status, error.detail, headers)


def _from_api(error: ProblemError) -> Response:
    return problem(error.slug, error.status, error.detail, None, **error.extra)


def _from_http(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {
        name: value
        for name, value in error.get_headers()
        if name in ("Allow", "Retry-After", "WWW-Authenticate")
    }
    return problem(slug_of(status), status, error.description or "", headers)


def _from_apiflask(error: HTTPError) -> Response:
    """APIFlask's own errors: authentication, and input that its models refuse."""
    if isinstance(error.__cause__, ValidationError):
        return _from_api(as_field_errors(error.__cause__))
    headers = {name: str(value) for name, value in dict(error.headers or {}).items()}
    detail = _DETAILS.get(error.status_code) or str(error.message)
    return problem(slug_of(error.status_code), error.status_code, detail, headers)


def _from_bug(error: Exception) -> Response:
    log.exception("A request failed by a bug of ours.", error=repr(error))
    return problem(
        "internal", 500, "This is a bug in Roost; the server's log says more."
    )


_DETAILS: Final = {
    400: "The body cannot be read: send a JSON object as application/json.",
    401: "Send `Authorization: Bearer <token>`; the token is in $ROOST_HOME/token.",
    404: "Nothing is at this path; /docs lists the routes.",
    413: "The body is larger than this server takes (8 MiB).",
    405: "The route does not take this method; the Allow header lists those it takes.",
}


def slug_of(status: int) -> str:
    """Return how a status of HTTP is named in a problem's type."""
    # Not http.HTTPStatus: Python 3.13 renamed some, and a slug must not change.
    return HTTP_STATUS_CODES[status].lower().replace(" ", "-")
