"""The first start: an agent to talk to, so that the first `ask` just works."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from broker import agents
from broker.agents import AgentChange
from broker.opening import open_broker
from broker.settings import Settings

FIRST_AGENT: Final = "scout"


def prepare(settings: Settings) -> bool:
    """Make the agent `scout` when there is no agent at all; True when it was made."""
    with closing(open_broker(settings)) as broker, broker.database.write() as tx:
        if tx.one("SELECT 1 AS x FROM agents LIMIT 1"):
            return False
        agents.upsert(tx, FIRST_AGENT, AgentChange())
    return True
