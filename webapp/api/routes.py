"""The blueprint of /api/v1: every route below it wants a token."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import request

from webapp import idempotency
from webapp.auth import auth
from webapp.problems import ProblemError

api = APIBlueprint("api", __name__, url_prefix="/api/v1")


@api.before_request
@api.auth_required(auth)
def authenticate() -> None:
    """Refuse a request without a right token before anything else."""


@api.before_request
def refuse_unreadable() -> None:
    """Refuse ids that no store can hold, and, also where none is wanted, a body over
    the limit."""
    if any("\0" in str(value) for value in (request.view_args or {}).values()):
        raise ProblemError("bad-id", 400, "An id has no NUL in it.")
    request.get_data()


api.before_request(idempotency.begin)
api.after_request(idempotency.finish)
