"""The Flask application: routes, errors, the OpenAPI document."""

from __future__ import annotations

from typing import Final

from apiflask import APIFlask
from flask import Response

import webapp.api.agents
import webapp.api.artifacts
import webapp.api.budgets
import webapp.api.events
import webapp.api.forks
import webapp.api.histories
import webapp.api.inbox
import webapp.api.state
import webapp.api.tasks
import webapp.api.why  # noqa: F401 (imported for their routes)
from broker import Broker, __version__
from broker.settings import Settings, ensure_token
from webapp import document, problems
from webapp.api.routes import api
from webapp.body import Request, StrictJSON
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
        # `document` says which errors there are; APIFlask guesses at some of them.
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
        AUTO_404_RESPONSE=False,
        ROOST_TOKEN=ensure_token(settings),
    )
    app.request_class = Request
    app.json = StrictJSON(app)
    app.extensions["roost"] = Context(broker, Live(broker))
    problems.register(app)
    app.register_blueprint(open_routes)
    app.register_blueprint(api)
    app.after_request(_secure)
    app.spec_processor(document.describe)
    return app


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
