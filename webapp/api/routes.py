"""The blueprint of /api/v1: every route below it wants a token."""

from __future__ import annotations

from apiflask import APIBlueprint

from webapp import idempotency
from webapp.auth import auth

api = APIBlueprint("api", __name__, url_prefix="/api/v1")


@api.before_request
@api.auth_required(auth)
def authenticate() -> None:
    """Refuse a request without a right token before anything else."""


api.before_request(idempotency.begin)
api.after_request(idempotency.finish)
