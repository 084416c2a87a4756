"""When workers die: give back what they held, offer again what nobody hinted.

The scheduler calls these every second, and at once when it sees a process die.
"""

from __future__ import annotations

from typing import Any, Final

from broker import agents, leases, tasks, updates, waking
from broker.database import Database, Transaction
from broker.leases import stopped_error
from broker.times import SECOND_US, now_us

# A task whose worker dies this often is taken for its cause, and fails.
MAX_CRASHES: Final = 20
# A job whose process is killed once more than this, by nobody of ours, has done it
# itself. An operator or a machine out of memory kills it a first and a second time.
MAX_KILLS: Final = 2
# A hint may lie in a long queue for this long before it is taken for lost.
HINT_PATIENCE_SECONDS: Final = 60.0
# When the queue is empty, a hint older than this was lost.
HINT_SETTLE_SECONDS: Final = 1.0
OFFERS_AT_ONCE: Final = 200


def expire(tx: Transaction, *, owner: str | None = None) -> list[dict[str, Any]]:
    """Give back what lost its worker: every lease that ran out, or all of one owner's.

    Returns the tasks as `{id, type, process, lease_owner}`, so that a caller can sweep
    the operating-system processes that their workers left behind.
    """
    now = now_us()
    condition = "lease_owner = ?" if owner is not None else "lease_expires_at < ?"
    rows = tx.execute(
        "SELECT id, type, agent_id, crashes, epoch, process, lease_owner, stop_verb,"
        f" stop_reason FROM tasks WHERE status = 'running' AND {condition}"
        + tx.for_update,
        owner if owner is not None else now,
    )
    for row in rows:
        if row["stop_verb"] == "cancel":
            _end_stopped(tx, row, now)
        elif row["crashes"] + 1 > MAX_CRASHES:
            _give_up(tx, row, now)
        else:
            _give_back(tx, row, now)
            lost = {"worker": row["lease_owner"]}
            updates.append(tx, row["id"], "worker_lost", lost)
    return rows


def give_back_killed(tx: Transaction, id: str, epoch: int) -> bool:
    """Queue a claimed exec again because something outside has killed its process.

    False, and nothing is written, when that happened too often.
    """
    leases.guard(tx, id, epoch)
    row = tx.execute(
        "SELECT id, type, agent_id, crashes, epoch FROM tasks WHERE id = ?", id
    )[0]
    if row["crashes"] >= MAX_KILLS:
        return False
    _give_back(tx, row, now_us())
    updates.append(tx, id, "process_killed", {})
    return True


def _give_back(tx: Transaction, row: dict[str, Any], now: int) -> None:
    tx.execute(
        "UPDATE tasks SET status = 'queued', lease_owner = NULL, crashes = crashes + 1,"
        " lease_expires_at = NULL, process = NULL, hinted_at = ?, updated_at = ?"
        " WHERE id = ? AND epoch = ?",
        now,
        now,
        row["id"],
        row["epoch"],
    )
    agents.refresh(tx, row["agent_id"])
    tx.hint(row["type"], row["id"])


def _give_up(tx: Transaction, row: dict[str, Any], now: int) -> None:
    error = {
        "type": "worker_lost",
        "message": f"{MAX_CRASHES + 1} workers died while they ran this task.",
    }
    tasks.end(tx, row["id"], "failed", error=error, now=now)


def _end_stopped(tx: Transaction, row: dict[str, Any], now: int) -> None:
    error = stopped_error(row["stop_verb"], row["stop_reason"])
    tasks.end(tx, row["id"], "cancelled", error=error, now=now)


def wake_due(tx: Transaction) -> list[str]:
    """Queue every parked turn whose deadline has come; return their ids."""
    rows = tx.execute(
        "SELECT DISTINCT waits.task_id FROM waits JOIN tasks"
        " ON tasks.id = waits.task_id AND tasks.status = 'waiting'"
        " WHERE waits.deadline_at <= ?",
        now_us(),
    )
    return [row["task_id"] for row in rows if waking.queue_again(tx, row["task_id"])]


def offer_again(tx: Transaction, task_type: str, *, queue_is_empty: bool) -> list[str]:
    """Hint queued tasks whose hint is missing or lost; return their ids.

    A task remembers when it was last hinted, so a backlog does not grow the queue:
    while hints lie in the queue, only those older than the patience are taken for lost.
    """
    now = now_us()
    patience = HINT_SETTLE_SECONDS if queue_is_empty else HINT_PATIENCE_SECONDS
    rows = tx.execute(
        "UPDATE tasks SET hinted_at = ? WHERE seq IN (SELECT seq FROM tasks AS t"
        " WHERE t.type = ? AND t.status = 'queued' AND t.absorbed_by IS NULL"
        " AND (t.not_before_at IS NULL OR t.not_before_at <= ?)"
        " AND (t.hinted_at IS NULL OR t.hinted_at <= ?"
        "  OR (t.not_before_at IS NOT NULL AND t.hinted_at < t.not_before_at))"
        " AND (t.agent_id IS NULL OR t.type <> 'turn' OR NOT EXISTS"
        "  (SELECT 1 FROM agents WHERE agents.id = t.agent_id"
        "   AND (agents.archived_at IS NOT NULL"
        "    OR (agents.turn_id IS NOT NULL AND agents.turn_id <> t.id))))"
        " ORDER BY t.rank, t.seq LIMIT ?) RETURNING id",
        now,
        task_type,
        now,
        now - int(patience * SECOND_US),
        OFFERS_AT_ONCE,
    )
    for row in rows:
        tx.hint(task_type, row["id"])
    return [row["id"] for row in rows]


def next_due_at(database: Database) -> int | None:
    """Return the next instant at which a wait, a back-off or a lease ends, if any."""
    row = database.read_one(
        "SELECT MIN(due) AS due FROM (SELECT MIN(waits.deadline_at) AS due FROM waits"
        " JOIN tasks ON tasks.id = waits.task_id AND tasks.status = 'waiting'"
        " UNION ALL SELECT MIN(not_before_at) AS due"
        " FROM tasks WHERE status = 'queued' AND not_before_at IS NOT NULL"
        " UNION ALL SELECT MIN(lease_expires_at) AS due FROM tasks"
        " WHERE status = 'running') AS dues"
    )
    return None if row is None or row["due"] is None else int(row["due"])
