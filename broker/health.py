"""Health: what runs and for how long, told now and then to whoever watches.

It is a signal and wakes nobody: docs/decisions/0009-health-is-a-signal.md says why. The
scheduler that leads calls it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from broker import events
from broker.database import Row, Transaction
from broker.events import NewEvent
from broker.states import Priority, Stream
from broker.times import SECOND_US, now_us

# G73: how often it is told. G74: an exec that told nothing for so long is named.
EVERY_SECONDS: Final = 30.0
SILENT_SECONDS: Final = 30.0
# The oldest tasks that one event names; `running` counts them all.
TASKS_SHOWN: Final = 64

_RUNNING: Final = (
    "SELECT id, type, agent_id, started_at, COALESCE((SELECT created_at FROM updates"
    " WHERE updates.task_id = tasks.id ORDER BY updates.id DESC LIMIT 1), started_at)"
    " AS told_at FROM tasks WHERE status = 'running' ORDER BY started_at, seq"
)


def tell(tx: Transaction) -> list[int]:
    """Append a `task_health` event for each agent of which something runs, and for each
    running task of no agent; return their ids."""
    running: dict[str, list[Row]] = defaultdict(list)
    for row in tx.execute(_RUNNING):
        owner = row["agent_id"]
        running[f"agent/{owner}" if owner else f"task/{row['id']}"].append(row)
    now = now_us()
    news = [_as_event(scope, rows, now) for scope, rows in running.items()]
    return events.append(tx, *news) if news else []


def _as_event(scope: str, rows: list[Row], now: int) -> NewEvent:
    shown = [_shown(row, now) for row in rows]
    silent = [
        each["task_id"]
        for each in shown
        if each["task_type"] == "exec" and each["silent_seconds"] >= SILENT_SECONDS
    ]
    return NewEvent(
        stream=Stream.SIGNALS,
        scope=scope,
        kind="task_health",
        priority=Priority.LOW,
        body=_body(len(rows), silent[:TASKS_SHOWN]),
        payload={
            "running": len(rows),
            "tasks": shown[:TASKS_SHOWN],
            "silent": silent[:TASKS_SHOWN],
        },
    )


def _shown(row: Row, now: int) -> dict[str, Any]:
    return {
        "task_id": row["id"],
        "task_type": row["type"],
        "age_seconds": (now - row["started_at"]) // SECOND_US,
        "silent_seconds": (now - row["told_at"]) // SECOND_US,
    }


def _body(running: int, silent: list[str]) -> str:
    said = f"Running: {running}."
    if silent:
        said += (
            f" Silent for {SILENT_SECONDS:.0f} seconds or more: {', '.join(silent)}."
        )
    return said
