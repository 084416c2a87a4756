"""What the OpenAPI document says of errors: which an operation can answer, and how.

Most follow from the operation itself: its method, its path, its body. The rest are in
`_MORE`. A test provokes every error that is named, and another refuses any answer that
is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from werkzeug.http import HTTP_STATUS_CODES

from webapp.problems import CONTENT_TYPE, Problem

# What `@doc(responses=…)` takes, spelt out for mypy.
Answers = dict[int | str, dict[str, str | dict[str, dict[str, Any]]]]

JSON: Final = "application/json"
_API: Final = "/api/v1/"

_MEANINGS: Final = {
    400: "The body, a field or an id cannot be used; `errors[]` names the fields.",
    401: "The token is missing or wrong.",
    404: "Nothing has that id.",
    409: (
        "What is there does not allow it; or the first request with this "
        "Idempotency-Key still runs."
    ),
    413: "The body is larger than this server takes.",
    422: "The Idempotency-Key was used for another request.",
    429: "Too much waits already; nothing was accepted.",
    502: "The turn failed.",
    503: "This process serves as many streams as it can.",
}
_HEADERS: Final = {
    429: {
        "Retry-After": {
            "description": "Try again in so many seconds.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    }
}
# What method, path and body do not tell: 404 for an id in the body, 429 where something
# is queued, 502 and 503 where a turn or a stream is waited for.
_MORE: Final = {
    ("delete", "/api/v1/agents/{agent_id}/inbox/{event_id}"): (409,),
    ("patch", "/api/v1/agents/{agent_id}/inbox/{event_id}"): (409,),
    ("post", "/api/v1/agents/{agent_id}/ask"): (429, 502),
    ("post", "/api/v1/agents/{agent_id}/messages"): (429,),
    ("post", "/api/v1/agents/{agent_id}/stream"): (429, 503),
    ("put", "/api/v1/agents/{agent_id}/labels/{name}"): (409,),
    ("get", "/api/v1/events"): (404,),
    ("post", "/api/v1/events"): (404, 429),
    ("get", "/api/v1/events/stream"): (503,),
    ("post", "/api/v1/tasks"): (404, 429),
}


def describe(spec: dict[Any, Any] | str) -> dict[Any, Any] | str:
    """Complete the document that APIFlask made of the routes."""
    if isinstance(spec, str):
        return spec
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            _share_the_schema(operation["responses"])
            for status in sorted({*_errors(method, path, operation)}):
                operation["responses"][str(status)] = {
                    "$ref": f"#/components/responses/{_name(status)}"
                }
    components = spec["components"]
    components["schemas"]["Problem"] = Problem.model_json_schema()
    components["responses"] = {_name(each): _response(each) for each in _MEANINGS}
    spec["servers"] = [{"url": "/"}]
    return spec


def _errors(method: str, path: str, operation: dict[str, Any]) -> Iterator[int]:
    """Yield the statuses of the problems that an operation can answer with."""
    if operation.get("security"):
        yield 401
    if not path.startswith(_API):
        return
    if method == "post":  # for its Idempotency-Key, if for nothing else
        yield from (400, 409, 413, 422)
    if operation.get("parameters"):
        yield 400
    if "requestBody" in operation:
        yield from (400, 413)
    if "{" in path:
        yield 404
    yield from _MORE.get((method, path), ())


def _share_the_schema(responses: dict[str, Any]) -> None:
    """Give a success of which only the status is known the schema of the other one."""
    media = [
        answer["content"][JSON]
        for status, answer in responses.items()
        if status < "300" and JSON in answer.get("content", {})
    ]
    shared: Any = next((each["schema"] for each in media if each["schema"]), {})
    for each in media:
        each["schema"] = each["schema"] or shared


def _name(status: int) -> str:
    return HTTP_STATUS_CODES[status].replace(" ", "")


def _response(status: int) -> dict[str, Any]:
    return {
        "description": _MEANINGS[status],
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
