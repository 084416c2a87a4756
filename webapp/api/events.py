"""Events: list, push, follow."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from broker import events, turns
from broker.database import Row
from broker.events import EventFilter, NewEvent
from broker.states import Priority, Stream
from broker.turns import Message
from webapp.api import schemas
from webapp.api.paging import number, page
from webapp.api.routes import api
from webapp.api.streams import EVENT_STREAM, event_stream
from webapp.context import broker
from webapp.idempotency import effect_key


@api.get("/events")
@api.input(schemas.EventQuery, location="query", arg_name="query")
@api.output(schemas.EventPage)
def list_events(query: schemas.EventQuery) -> Row:
    """List events: oldest first after a cursor, or newest first."""
    wanted = _filter(query)
    limit = query.limit + 1
    if query.order == "desc":
        before = number(query.cursor, None)
        found = events.list_before(
            broker().database, wanted, before=before, limit=limit
        )
        found = [event for event in found if event["id"] > query.after]
    else:
        after = number(query.cursor, query.after) or 0
        found = events.list_after(broker().database, wanted, after=after, limit=limit)
    return page(found, query.limit)


@api.post("/events")
@api.input(schemas.EventIn, arg_name="body")
@api.output(schemas.EventOut, status_code=201)
def push_event(body: schemas.EventIn) -> Any:
    """Push an event; one scoped to an agent becomes its input, and may wake it."""
    with broker().database.write() as tx:
        agent_id = body.scope.removeprefix("agent/")
        if agent_id != body.scope:
            id = turns.post(tx, agent_id, _as_message(body)).event_id
        else:
            id = events.append(tx, _as_event(body))[0]
    return events.find(broker().database, id), 201


def _as_message(body: schemas.EventIn) -> Message:
    return Message(
        text=body.body,
        kind=body.kind,
        stream=Stream(body.stream),
        subject=body.subject,
        priority=Priority(body.priority),
        payload=body.payload,
        source=body.source,
        cause_id=body.cause_id,
        key=effect_key(),
    )


def _as_event(body: schemas.EventIn) -> NewEvent:
    return NewEvent(
        stream=Stream(body.stream),
        scope=body.scope,
        kind=body.kind,
        body=body.body,
        subject=body.subject,
        priority=Priority(body.priority),
        payload=body.payload,
        source=body.source,
        cause_id=body.cause_id,
        key=effect_key(),
    )


@api.get("/events/stream")
@api.input(schemas.EventStreamQuery, location="query", arg_name="query")
@api.doc(responses=EVENT_STREAM)
def follow_events(query: schemas.EventStreamQuery) -> Response:
    """Follow events as server-sent events; `Last-Event-ID` or `after` resumes."""
    last_seen = request.headers.get("Last-Event-ID")
    after = number(last_seen, query.after) if last_seen else query.after
    if after is None:
        after = events.newest_id(broker().database)
    return event_stream(_filter(query), after)


def _filter(query: schemas.EventQuery | schemas.EventStreamQuery) -> EventFilter:
    return EventFilter(stream=query.stream, scope=query.scope, subject=query.subject)
