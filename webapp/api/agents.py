"""Agents: make, read, change, stop; say something, ask, watch; their history."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from broker import agents, entries, generations, json, turns
from broker.agents import AgentChange
from broker.database import Row
from broker.events import EventFilter
from broker.states import Priority
from broker.turns import Message, Posted
from webapp.api import schemas
from webapp.api.paging import number, page, text
from webapp.api.routes import api
from webapp.api.streams import EVENT_STREAM, event_stream
from webapp.context import broker, context
from webapp.idempotency import effect_key
from webapp.live import Cursor
from webapp.problems import ProblemError


@api.post("/agents")
@api.input(schemas.AgentIn, arg_name="body")
@api.output(schemas.AgentOut, status_code=201)
@api.doc(responses={200: "The agent existed and was changed"})
def create_agent(body: schemas.AgentIn) -> Any:
    """Make an agent, or change the one that has this id."""
    with broker().database.write() as tx:
        id, was_made = agents.upsert(tx, body.id, _change(body))
    location = url_for("api.read_agent", agent_id=id)
    shown = agents.get(broker().database, id)
    return shown, 201 if was_made else 200, {"Location": location}


@api.get("/agents")
@api.input(schemas.PageQuery, location="query", arg_name="query")
@api.output(schemas.AgentPage)
def list_agents(query: schemas.PageQuery) -> Row:
    """List agents by id."""
    found = agents.list_page(
        broker().database, after=text(query.cursor) or "", limit=query.limit + 1
    )
    return page(found, query.limit)


@api.get("/agents/<agent_id>")
@api.output(schemas.AgentOut)
def read_agent(agent_id: str) -> Row:
    """Read an agent."""
    return agents.get(broker().database, agent_id)


@api.patch("/agents/<agent_id>")
@api.input(schemas.AgentPatch, arg_name="body")
@api.output(schemas.AgentOut)
def change_agent(agent_id: str, body: schemas.AgentPatch) -> Row:
    """Change what is named; the rest stays."""
    with broker().database.write() as tx:
        agents.update(tx, agent_id, _change(body))
    return agents.get(broker().database, agent_id)


@api.delete("/agents/<agent_id>")
@api.output(schemas.AgentOut)
def stop_agent(agent_id: str) -> Row:
    """Stop and archive an agent: its turn is cancelled, what waits stays waiting."""
    with broker().database.write() as tx:
        agents.archive(tx, agent_id)
        turns.stop_current(tx, agent_id)
    return agents.get(broker().database, agent_id)


@api.post("/agents/<agent_id>/messages")
@api.input(schemas.MessageIn, arg_name="body")
@api.output(schemas.PostedOut, status_code=202)
def send_message(agent_id: str, body: schemas.MessageIn) -> Any:
    """Say something; a waking priority queues a turn, whose id is returned."""
    posted = _post(
        agent_id,
        Message(
            text=body.text,
            priority=Priority(body.priority),
            source=body.source,
            context=body.context,
            request_id=body.request_id,
            model=body.model,
            key=effect_key(),
        ),
    )
    shown = {
        "event_id": posted.event_id,
        "turn_id": posted.turn_id,
        "request_id": posted.request_id,
    }
    return shown, 202, {"Location": _location(posted, agent_id)}


@api.post("/agents/<agent_id>/ask")
@api.input(schemas.AskIn, arg_name="body")
@api.output(schemas.AskOut)
@api.doc(responses={202: "The wait ended before the reply came"})
def ask(agent_id: str, body: schemas.AskIn) -> Any:
    """Say something and wait for the reply."""
    posted = _post(agent_id, _said(body))
    turn_id = str(posted.turn_id)
    turn = context().live.wait_for_end(turn_id, body.wait_seconds)
    if turn is None:
        return {"turn_id": turn_id}, 202, {"Location": _location(posted, agent_id)}
    if turn["status"] != "completed":
        raise _turn_problem(turn)
    return {
        "text": json.load(turn["result"])["text"],
        "turn_id": turn_id,
        "usage": json.load(turn["usage"]),
    }


@api.post("/agents/<agent_id>/stream")
@api.input(schemas.StreamIn, arg_name="body")
@api.doc(responses=EVENT_STREAM)
def stream_turn(agent_id: str, body: schemas.StreamIn) -> Response:
    """Say something and watch the turn, to its end, as server-sent events."""
    message = _said(body)

    def begin() -> Cursor:
        posted = _post(agent_id, message)
        wanted = EventFilter(scope=f"agent/{agent_id}", subject=posted.turn_id)
        return Cursor(wanted, posted.event_id)

    return event_stream(begin, lambda event: event["kind"] == "agent_end")


def _said(body: schemas.AskIn | schemas.StreamIn) -> Message:
    return Message(text=body.text, source="api", model=body.model, key=effect_key())


@api.post("/agents/<agent_id>/interrupt")
@api.output(schemas.OkOut)
def interrupt(agent_id: str) -> Row:
    """Stop the model call of the agent's turn now, keeping what it said so far."""
    with broker().database.write() as tx:
        turns.interrupt(tx, agent_id)
    return {"ok": True}


@api.post("/agents/<agent_id>/compact")
@api.input(schemas.StopIn, arg_name="body")
@api.output(schemas.CompactOut, status_code=202)
def compact(agent_id: str, body: schemas.StopIn) -> Any:
    """Begin a new generation, headed by a summary; the old one stays readable."""
    with broker().database.write() as tx:
        generation = generations.compact(tx, agent_id, body.reason)
    location = url_for("api.read_history", agent_id=agent_id)
    shown = {"status": "compacted", "agent_id": agent_id, "generation": generation}
    return shown, 202, {"Location": location}


@api.get("/agents/<agent_id>/history")
@api.input(schemas.HistoryQuery, location="query", arg_name="query")
@api.output(schemas.EntryPage)
def read_history(agent_id: str, query: schemas.HistoryQuery) -> Row:
    """Read an agent's entries, oldest first."""
    agents.get(broker().database, agent_id)
    found = entries.list_after(
        broker().database,
        agent_id,
        after=number(query.cursor, query.after),
        generation=query.generation,
        limit=query.limit + 1,
    )
    return page(found, query.limit)


def _change(body: schemas.AgentIn | schemas.AgentPatch) -> AgentChange:
    return AgentChange(
        name=body.name,
        system=body.system,
        model=body.model,
        tools=body.tools,
        metadata=body.metadata,
    )


def _post(agent_id: str, message: Message) -> Posted:
    agents.get_or_suggest(broker().database, agent_id)
    with broker().database.write() as tx:
        return turns.post(tx, agent_id, message)


def _location(posted: Posted, agent_id: str) -> str:
    if posted.turn_id is None:
        return url_for("api.read_agent", agent_id=agent_id)
    return url_for("api.read_task", task_id=posted.turn_id)


def _turn_problem(turn: Row) -> ProblemError:
    error = json.load(turn["error"]) or {}
    return ProblemError(
        f"turn-{turn['status']}",
        409 if turn["status"] == "cancelled" else 502,
        f"Turn {turn['id']} is {turn['status']}: {error.get('message')}",
        turn_id=turn["id"],
    )
