"""The Flask application: routes, errors, the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

import flask
from apiflask import APIFlask
from flask import Response

import webapp.api.agents
import webapp.api.events
import webapp.api.state
import webapp.api.tasks
import webapp.api.why  # noqa: F401 (imported for their routes)
from broker import Broker, __version__
from broker.settings import Settings, ensure_token
from webapp import problems
from webapp.api.routes import api
from webapp.context import Context
from webapp.live import Live
from webapp.open_routes import open_routes

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
}


class Request(flask.Request):
    """A request whose empty body is an empty object: `curl -X POST …/kill` will do."""

    def get_json(self, *args: Any, **options: Any) -> Any:
        """Return the JSON body; `{}` where there is none."""
        if not self.get_data(cache=True):
            return {}
        return super().get_json(*args, **options)


def create_app(settings: Settings, broker: Broker) -> APIFlask:
    """Build the application on an open broker."""
    app = APIFlask(
        "webapp", title="Roost", version=__version__, docs_path=None, json_errors=True
    )
    app.config.update(
        OPENAPI_VERSION="3.1.0",
        SPEC_FORMAT="json",
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        VALIDATION_ERROR_STATUS_CODE=400,
        # As a dict: APIFlask would make an instance of a class, which takes fields.
        HTTP_ERROR_SCHEMA=problems.Problem.model_json_schema(),
        VALIDATION_ERROR_SCHEMA=problems.Problem.model_json_schema(),
        ROOST_TOKEN=ensure_token(settings),
    )
    app.request_class = Request
    app.extensions["roost"] = Context(broker, Live(broker))
    problems.register(app)
    app.register_blueprint(open_routes)
    app.register_blueprint(api)
    app.after_request(_secure)
    app.spec_processor(_describe)
    return app


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _describe(spec: dict[Any, Any] | str) -> dict[Any, Any] | str:
    """Say in the document that errors are problem documents."""
    if isinstance(spec, str):
        return spec
    for path in spec["paths"].values():
        for operation in path.values():
            for status, answer in operation.get("responses", {}).items():
                content = answer.get("content", {})
                if int(status) >= 400 and "application/json" in content:
                    answer["content"] = {
                        problems.CONTENT_TYPE: content["application/json"]
                    }
    spec["servers"] = [{"url": "/"}]
    return spec
