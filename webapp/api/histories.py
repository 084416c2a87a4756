"""Histories as a whole: export one, record a turn of it, search all."""

from __future__ import annotations

from typing import Final

from flask import Response

from broker import agents, cassettes, search
from broker.database import Row
from webapp import exports
from webapp.api import schemas
from webapp.api.paging import number, page
from webapp.api.routes import api
from webapp.context import broker
from webapp.document import Answers

EXPORT: Final[Answers] = {
    200: {
        "description": "The history, as a file",
        "content": {
            each.media_type: {"schema": {"type": "string"}}
            for each in exports.FORMATS.values()
        },
    }
}


@api.get("/agents/<agent_id>/export")
@api.input(schemas.ExportQuery, location="query", arg_name="query")
@api.doc(responses=EXPORT)
def export_history(agent_id: str, query: schemas.ExportQuery) -> Response:
    """Export an agent's history, all generations, what a fork shares included."""
    agent = agents.get(broker().database, agent_id)
    form = exports.FORMATS[query.format]
    return Response(
        exports.export(broker().database, agent, form),
        content_type=f"{form.media_type}; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{agent_id}{form.suffix}"',
            "Content-Security-Policy": exports.POLICY,
        },
    )


@api.get("/tasks/<task_id>/cassette")
@api.output(schemas.CassetteOut)
def record_turn(task_id: str) -> Row:
    """Read what the model of a turn answered, as `replay/FILE` replays it."""
    return cassettes.record(broker().database, task_id)


@api.get("/search")
@api.input(schemas.SearchQuery, location="query", arg_name="query")
@api.output(schemas.HitPage)
def search_histories(query: schemas.SearchQuery) -> Row:
    """Search the histories of one agent or of all, newest first."""
    found = search.search(
        broker().database,
        query.q,
        agent_id=query.agent,
        type=query.type,
        before=number(query.cursor, None),
        limit=query.limit + 1,
    )
    return page(found, query.limit, "entry_id")
