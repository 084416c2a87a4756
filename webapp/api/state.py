"""The dashboard's snapshot."""

from __future__ import annotations

from broker import agents, breakers, events, processes, tasks
from broker.database import Row
from broker.times import now_us, rfc3339
from webapp.api import schemas
from webapp.api.routes import api
from webapp.context import broker

AGENTS_SHOWN = 200
TASKS_SHOWN = 100


@api.get("/state")
@api.output(schemas.StateOut)
def read_state() -> Row:
    """Read agents, the newest tasks, processes, queues, providers that have failed and
    the database's size."""
    here = broker()
    # The cursor comes first: what follows it is in the snapshot or in the stream.
    newest = events.newest_id(here.database)
    return {
        "generated_at": rfc3339(now_us()),
        "newest_event_id": newest,
        "agents": agents.list_page(here.database, limit=AGENTS_SHOWN),
        "tasks": [
            tasks.shape(row)
            for row in tasks.list_page(here.database, limit=TASKS_SHOWN)
        ],
        "processes": processes.list_all(here.database),
        "queues": {
            "turns": here.turns.storage.queue_size(),
            "execs": here.execs.storage.queue_size(),
        },
        "circuits": breakers.list_open(here.database),
        "database": {
            f"{part}_bytes": size for part, size in here.database.sizes().items()
        },
    }
