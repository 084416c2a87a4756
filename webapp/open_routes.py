"""The routes that want no token: liveness, readiness, the API's documentation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from apiflask import APIBlueprint
from flask import Response, render_template, send_from_directory

from broker import __version__, doctor
from broker.database import Row
from webapp import metrics
from webapp.api import schemas
from webapp.auth import auth
from webapp.context import broker
from webapp.document import Answers

open_routes = APIBlueprint("open", __name__)

NOT_READY: Final[Answers] = {
    503: {
        "description": "Something that is needed is missing; the checks say what.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ReadyOut"}}
        },
    }
}
EXPOSITION: Final[Answers] = {
    200: {
        "description": "Prometheus text exposition",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@open_routes.get("/health")
@open_routes.output(schemas.HealthOut)
def health() -> Row:
    """Say that this process answers."""
    return {"status": "ok", "version": __version__}


@open_routes.get("/ready")
@open_routes.output(schemas.ReadyOut)
@open_routes.doc(responses=NOT_READY)
def ready() -> Any:
    """Say whether the whole can do its work, and if not, why."""
    checks = doctor.live_checks(broker())
    is_ready = all(check.status != "fail" for check in checks)
    shown = {
        "status": "ready" if is_ready else "not ready",
        "checks": [check.as_json() for check in checks],
    }
    return shown, 200 if is_ready else 503


@open_routes.get("/metrics")
@open_routes.auth_required(auth)
@open_routes.doc(responses=EXPOSITION)
def read_metrics() -> Response:
    """Read the metrics, in Prometheus form."""
    return Response(metrics.render(broker()), content_type=metrics.CONTENT_TYPE)


@open_routes.get("/")
@open_routes.doc(hide=True)
def dashboard() -> str:
    """Show the dashboard."""
    return render_template("dashboard.html")


@open_routes.get("/docs")
@open_routes.doc(hide=True)
def docs() -> str:
    """Show the API's documentation, from files of this machine."""
    return render_template("docs.html")


@open_routes.get("/docs/assets/<path:name>")
@open_routes.doc(hide=True)
def docs_asset(name: str) -> Response:
    """Serve Swagger UI's files out of the package that carries them."""
    return send_from_directory(_swagger_directory(), name, max_age=86_400)


def _swagger_directory() -> Path:
    spec = find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        raise RuntimeError("flask-openapi3-swagger is missing: run `make install`.")
    return Path(spec.origin).parent / "templates" / "swagger"
