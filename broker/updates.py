"""The update log of a task: append-only, read by cursor."""

from __future__ import annotations

from typing import Any, Final

from broker import json
from broker.database import Database, Row, Transaction
from broker.times import now_us, rfc3339

# The doorbell that whoever waits for a task's progress listens on.
CHANNEL: Final = "tasks"


def append(tx: Transaction, task_id: str, kind: str, payload: dict[str, Any]) -> int:
    """Append one update; return its id."""
    row = tx.execute(
        "INSERT INTO updates (task_id, kind, payload, created_at)"
        " VALUES (?, ?, ?, ?) RETURNING id",
        task_id,
        kind,
        json.dump(payload),
        now_us(),
    )[0]
    tx.ring(CHANNEL)
    return int(row["id"])


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
