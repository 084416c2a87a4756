"""Forks of agents, and labels for entries."""

from __future__ import annotations

from typing import Any

from flask import url_for

from broker import agents, forks
from broker.database import Row
from broker.forks import NewFork
from webapp.api import schemas
from webapp.api.paging import page, text
from webapp.api.routes import api
from webapp.context import broker


@api.post("/agents/<agent_id>/fork")
@api.input(schemas.ForkIn, arg_name="body")
@api.output(schemas.AgentOut, status_code=201)
def fork_agent(agent_id: str, body: schemas.ForkIn) -> Any:
    """Make an agent that shares this one's history up to an entry, and goes on."""
    agents.get_or_suggest(broker().database, agent_id)
    wanted = NewFork(
        entry_id=body.entry_id,
        label=body.label,
        id=body.id,
        name=body.name,
        model=body.model,
        system=body.system,
    )
    with broker().database.write() as tx:
        id = forks.fork(tx, agent_id, wanted)
    location = url_for("api.read_agent", agent_id=id)
    return agents.get(broker().database, id), 201, {"Location": location}


@api.get("/agents/<agent_id>/labels")
@api.input(schemas.PageQuery, location="query", arg_name="query")
@api.output(schemas.LabelPage)
def list_labels(agent_id: str, query: schemas.PageQuery) -> Row:
    """List an agent's labels by name."""
    agents.get_or_suggest(broker().database, agent_id)
    found = forks.list_labels(
        broker().database,
        agent_id,
        after=text(query.cursor) or "",
        limit=query.limit + 1,
    )
    return page(found, query.limit, "name")


@api.get("/agents/<agent_id>/labels/<name>")
@api.output(schemas.LabelOut)
def read_label(agent_id: str, name: str) -> Row:
    """Read a label."""
    agents.get_or_suggest(broker().database, agent_id)
    return forks.get_label(broker().database, agent_id, name)


@api.put("/agents/<agent_id>/labels/<name>")
@api.input(schemas.LabelIn, arg_name="body")
@api.output(schemas.LabelOut)
def put_label(agent_id: str, name: str, body: schemas.LabelIn) -> Row:
    """Name an entry of the agent's history; a label that exists moves."""
    agents.get_or_suggest(broker().database, agent_id)
    with broker().database.write() as tx:
        return forks.put_label(tx, agent_id, name, body.entry_id)


@api.delete("/agents/<agent_id>/labels/<name>")
@api.output(schemas.LabelOut)
def drop_label(agent_id: str, name: str) -> Row:
    """Take a label away; the entry stays."""
    agents.get_or_suggest(broker().database, agent_id)
    with broker().database.write() as tx:
        return forks.drop_label(tx, agent_id, name)
