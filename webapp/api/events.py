"""Events: list, push, follow."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from broker import agents, events, readers, turns
from broker.database import Row
from broker.events import EventFilter, NewEvent, Window
from broker.states import Priority, Stream
from broker.turns import Message
from webapp.api import schemas
from webapp.api.paging import number, page, whole
from webapp.api.routes import api
from webapp.api.streams import EVENT_STREAM, event_stream
from webapp.context import broker
from webapp.idempotency import effect_key
from webapp.live import Cursor
from webapp.problems import FieldErrors


@api.get("/events")
@api.input(schemas.EventQuery, location="query", arg_name="query")
@api.output(schemas.EventPage)
def list_events(query: schemas.EventQuery) -> Row:
    """List events; with `reader`, those that this reader sees, and what it has read."""
    if query.unread is not None and query.reader is None:
        message = "say whose: name a reader"
        raise FieldErrors([{"field": "unread", "message": message}])
    window = _window(query)
    wanted = _filter(query)
    if query.reader is not None:
        reader = readers.get(broker().database, query.reader)
        found = readers.list_page(
            broker().database, reader, wanted, window, unread=query.unread
        )
    else:
        found = events.list_page(broker().database, wanted, window)
    return page(found, query.limit)


def _window(query: schemas.EventQuery) -> Window:
    after = query.after or 0
    if _is_newest_first(query):
        before = number(query.cursor, None)
        return Window(
            after=after, before=before, newest_first=True, limit=query.limit + 1
        )
    return Window(after=number(query.cursor, after), limit=query.limit + 1)


def _is_newest_first(query: schemas.EventQuery) -> bool:
    """G8, but for who goes on from an event: that way is forward."""
    if query.order is not None:
        return query.order == "desc"
    is_one_stream = query.stream not in (None, Stream.TASK_INPUT)
    return is_one_stream and query.after is None


@api.post("/events")
@api.input(schemas.EventIn, arg_name="body")
@api.output(schemas.EventOut, status_code=201)
def push_event(body: schemas.EventIn) -> Any:
    """Push an event; one scoped to an agent becomes its input, and may wake it (but not
    on `history`). Its `source` has read it."""
    with broker().database.write() as tx:
        agent_id = body.scope.removeprefix("agent/")
        is_input = agent_id != body.scope and Stream(body.stream) != Stream.HISTORY
        if agent_id != body.scope:
            agents.require_active(tx, agent_id)
        if body.cause_id is not None and events.find(tx, body.cause_id) is None:
            message = f"there is no event {body.cause_id}"
            raise FieldErrors([{"field": "cause_id", "message": message}])
        if is_input:
            id = turns.post(tx, agent_id, _as_message(body)).event_id
        else:
            id = events.append(tx, _as_event(body))[0]
            if body.source:
                name = readers.name_of(body.source)
                events.mark_read_by(tx, name, id, Priority(body.priority))
    return events.find(broker().database, id), 201


@api.post("/events/<event_id>/ack")
@api.input(schemas.AckIn, arg_name="body")
@api.output(schemas.ReadEventOut)
def ack_event(event_id: str, body: schemas.AckIn) -> Row:
    """Note that one reader has read an event; it stays unread for all others."""
    with broker().database.write() as tx:
        reader = readers.get(tx, body.reader)
        return readers.ack(tx, reader, events.parse_id(event_id))


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
    after = query.after
    if last_seen:
        after = whole("Last-Event-ID", last_seen, "not the id of an event")
    if after is None:
        after = events.newest_id(broker().database)
    cursor = Cursor(_filter(query), after)
    return event_stream(lambda: cursor)


def _filter(query: schemas.EventQuery | schemas.EventStreamQuery) -> EventFilter:
    return EventFilter(stream=query.stream, scope=query.scope, subject=query.subject)
