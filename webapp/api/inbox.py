"""An agent's inbox: list it, edit and withdraw what is in it."""

from __future__ import annotations

from broker import events, inbox
from broker.database import Row
from broker.errors import NotFound
from webapp.api import schemas
from webapp.api.paging import foreign_cursor, number, page
from webapp.api.routes import api
from webapp.context import broker


@api.get("/agents/<agent_id>/inbox")
@api.input(schemas.PageQuery, location="query", arg_name="query")
@api.output(schemas.InboxPage)
def list_inbox(agent_id: str, query: schemas.PageQuery) -> Row:
    """List what the agent has not read, most urgent first."""
    after = number(query.cursor, None)
    try:
        found = inbox.list_page(
            broker().database, agent_id, after=after, limit=query.limit + 1
        )
    except NotFound as error:
        if error.noun != "event":
            raise
        raise foreign_cursor() from error
    return page(found, query.limit)


@api.patch("/agents/<agent_id>/inbox/<event_id>")
@api.input(schemas.EditIn, arg_name="body")
@api.output(schemas.InputOut)
def edit_input(agent_id: str, event_id: str, body: schemas.EditIn) -> Row:
    """Have the agent read another text; not once a turn reads it."""
    with broker().database.write() as tx:
        return inbox.edit(tx, agent_id, events.parse_id(event_id), body.text)


@api.delete("/agents/<agent_id>/inbox/<event_id>")
@api.output(schemas.InputOut)
def withdraw_input(agent_id: str, event_id: str) -> Row:
    """Take an input back; its turn is cancelled. Not once a turn reads it."""
    with broker().database.write() as tx:
        return inbox.withdraw(tx, agent_id, events.parse_id(event_id))


@api.delete("/agents/<agent_id>/inbox")
@api.output(schemas.WithdrawnOut)
def clear_inbox(agent_id: str) -> Row:
    """Take back every message that no turn reads yet; their turns are cancelled. What
    tasks have to tell stays."""
    withdrawn: list[int] = []
    with broker().database.write() as tx:
        found = inbox.withdraw_some(tx, agent_id)
    while found:
        withdrawn += found
        with broker().database.write() as tx:
            found = inbox.withdraw_some(tx, agent_id)
    return {"withdrawn": withdrawn}
