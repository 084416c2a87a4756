"""Budgets of agents: their limits, and what is used of them."""

from __future__ import annotations

from broker import agents, budgets
from broker.database import Row
from webapp.api import schemas
from webapp.api.routes import api
from webapp.context import broker


@api.get("/agents/<agent_id>/budgets")
@api.output(schemas.BudgetsOut)
def read_budgets(agent_id: str) -> Row:
    """Read an agent's limits and what is spent, reserved and left of each."""
    agents.get_or_suggest(broker().database, agent_id)
    return budgets.show(broker().database, agent_id)


@api.put("/agents/<agent_id>/budgets")
@api.input(schemas.BudgetsIn, arg_name="body")
@api.output(schemas.BudgetsOut)
def put_budgets(agent_id: str, body: schemas.BudgetsIn) -> Row:
    """Set limits; null takes one away, what is not named stays. A raise lets the turns
    go on that wait for it."""
    agents.get_or_suggest(broker().database, agent_id)
    with broker().database.write() as tx:
        budgets.change(tx, agent_id, body.model_dump(exclude_unset=True))
    return budgets.show(broker().database, agent_id)
