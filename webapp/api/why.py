"""Why something happened."""

from __future__ import annotations

from broker import why
from broker.database import Row
from webapp.api import schemas
from webapp.api.routes import api
from webapp.context import broker


@api.get("/why/<id>")
@api.output(schemas.WhyOut)
def explain(id: str) -> Row:
    """Explain a task or an event: the chain from its root, and what came of it."""
    return why.explain(broker().database, id)
