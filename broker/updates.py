"""The update log of a task: append-only, read by cursor.

Each update is told on the event bus, too (`task_update` on `task_output`), in the scope
of the agent that the task works for. A turn has a stream of its own, so its updates are
not told twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broker import events, json
from broker.database import Database, Row, Transaction
from broker.events import NewEvent
from broker.states import TERMINAL, Priority, Stream
from broker.times import now_us, rfc3339

# The doorbell that whoever waits for a task's progress listens on.
CHANNEL: Final = "tasks"
# What an event shows of the error or the result that it tells of.
SHOWN_CHARACTERS: Final = 2_000
# And of a piece of output: its end. The whole is in the log.
OUTPUT_CHARACTERS: Final = 200
# What happens to a task, as against what it puts out: `stdout`, `stderr`, and whatever
# an outside worker calls its own.
_LIFE: Final = frozenset(
    {
        *TERMINAL,
        "spawn",
        "started",
        "retry",
        "retried",
        "dropped",
        "handed_over",
        "worker_lost",
        "process_killed",
        "await_timeout",
        "input",
        "start",
        "exit",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What an update became: its id, and that of its event (None for a turn's)."""

    id: int
    event_id: int | None


def append(
    tx: Transaction, task_id: str, kind: str, payload: dict[str, Any]
) -> Appended:
    """Append one update, and tell it."""
    row = tx.execute(
        "INSERT INTO updates (task_id, kind, payload, created_at)"
        " VALUES (?, ?, ?, ?) RETURNING id",
        task_id,
        kind,
        json.dump(payload),
        now_us(),
    )[0]
    tx.ring(CHANNEL)
    return Appended(id=row["id"], event_id=_tell(tx, task_id, row["id"], kind, payload))


def _tell(
    tx: Transaction, task_id: str, update_id: int, kind: str, payload: dict[str, Any]
) -> int | None:
    task = tx.one(
        "SELECT type, agent_id, cause_id, result FROM tasks WHERE id = ?", task_id
    )
    if task is None or task["type"] == "turn":
        return None
    agent_id = task["agent_id"]
    return events.append(
        tx,
        NewEvent(
            stream=Stream.TASK_OUTPUT,
            scope=f"agent/{agent_id}" if agent_id else f"task/{task_id}",
            subject=task_id,
            kind="task_update",
            priority=_priority(kind, payload),
            body=_body(task_id, kind, payload, task["result"]),
            payload={
                "task_id": task_id,
                "task_type": task["type"],
                "task_kind": kind,
                "update_id": update_id,
            },
            cause_id=task["cause_id"],
            # `broker.why` finds in it what came of a task's end.
            key=f"end/{task_id}/{update_id}" if kind in set(TERMINAL) else None,
        ),
    )[0]


def is_output(kind: str) -> bool:
    """Whether an update of this kind is something that a task has put out."""
    return kind not in _LIFE


def _priority(kind: str, payload: dict[str, Any]) -> Priority:
    """An end wakes; all else does not hurry; the payload may say otherwise (G27)."""
    asked = str(payload.get("priority", "")).lower()
    if asked in set(Priority):
        return Priority(asked)
    return Priority.WAKE if kind in set(TERMINAL) else Priority.NORMAL


def _body(task_id: str, kind: str, payload: dict[str, Any], result: str | None) -> str:
    said = f"Task {task_id}: {kind}"
    if kind == "completed" and result:
        return f"{said}. Its result: {_cut(result)}"
    if kind in set(TERMINAL) and payload.get("message"):
        return f"{said}. {_cut(str(payload['message']))}"
    if is_output(kind) and isinstance(payload.get("text"), str):
        return f"{said}. {payload['text'][-OUTPUT_CHARACTERS:]}"
    return said


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} […]"


def list_after(
    database: Database,
    task_id: str,
    *,
    kind: str | None = None,
    after: int = 0,
    limit: int = 200,
) -> list[Row]:
    """List a task's updates with a greater id, oldest first."""
    rows = database.read(
        "SELECT * FROM updates WHERE task_id = ? AND id > ?"
        + (" AND kind = ?" if kind else "")
        + " ORDER BY id LIMIT ?",
        *(task_id, after, kind, limit) if kind else (task_id, after, limit),
    )
    return [
        {
            "id": row["id"],
            "task_id": row["task_id"],
            "kind": row["kind"],
            "payload": json.load(row["payload"]),
            "created_at": rfc3339(row["created_at"]),
        }
        for row in rows
    ]
