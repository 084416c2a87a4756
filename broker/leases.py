"""Leases: the right to work on a task, for a while, under an epoch.

A worker that claims a task gets a lease and a new epoch. It renews the lease; if it
does not, the scheduler gives the task back to the queue. Every write of a worker is
fenced by its epoch, so whoever lost the lease cannot write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broker.database import Database, Transaction
from broker.errors import LeaseLost
from broker.times import SECOND_US, now_us

LEASE_SECONDS: Final = 10.0
RENEW_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Who claims, and for how long at a time."""

    owner: str
    lease_seconds: float = LEASE_SECONDS

    def expiry(self, now: int) -> int:
        """When a lease taken now runs out."""
        return now + int(self.lease_seconds * SECOND_US)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What became of a lease, and whether somebody wants the work to stop."""

    held: bool
    stop_verb: str | None = None
    stop_reason: str | None = None


LOST: Final = Standing(held=False)


def guard(tx: Transaction, task_id: str, epoch: int) -> None:
    """Raise LeaseLost unless this epoch runs the task; first in each fenced write."""
    found = tx.one(
        "SELECT 1 AS held FROM tasks WHERE id = ? AND epoch = ? AND status = 'running'"
        + tx.for_update,
        task_id,
        epoch,
    )
    if found is None:
        raise LeaseLost(task_id, epoch)


def renew(
    database: Database, worker: Worker, held: dict[str, int]
) -> dict[str, Standing]:
    """Renew the leases of `held` (task id → epoch); say how each stands."""
    now = now_us()
    with database.write(durable=False) as tx:
        return {
            task_id: _renew_one(tx, task_id, epoch, worker.expiry(now), now)
            for task_id, epoch in held.items()
        }


def _renew_one(
    tx: Transaction, task_id: str, epoch: int, expires_at: int, now: int
) -> Standing:
    row = tx.one(
        "UPDATE tasks SET lease_expires_at = ?, updated_at = ?"
        " WHERE id = ? AND epoch = ? AND status = 'running'"
        " RETURNING stop_verb, stop_reason",
        expires_at,
        now,
        task_id,
        epoch,
    )
    return LOST if row is None else Standing(held=True, **row)


def standing(database: Database, held: dict[str, int]) -> dict[str, Standing]:
    """Say how leases stand without renewing them."""
    marks = ", ".join("?" * len(held))
    rows = database.read(
        "SELECT id, epoch, stop_verb, stop_reason FROM tasks"
        f" WHERE status = 'running' AND id IN ({marks})",
        *held,
    )
    found = {
        row["id"]: Standing(
            held=True, stop_verb=row["stop_verb"], stop_reason=row["stop_reason"]
        )
        for row in rows
        if row["epoch"] == held[row["id"]]
    }
    return {task_id: found.get(task_id, LOST) for task_id in held}


def stopped_error(verb: str, reason: str | None) -> dict[str, Any]:
    """Say in a task's error that somebody stopped it."""
    if verb == "kill":
        said = reason or "The task was killed."
        return {"type": "killed", "message": said, "reason": reason, "killed": True}
    return {"type": "cancelled", "message": reason or "The task was cancelled."}


def lead(tx: Transaction, role: str, owner: str, seconds: float) -> bool:
    """Take or keep the lead of a role; False when another owner holds it."""
    now = now_us()
    row = tx.one(
        "INSERT INTO leaders (role, owner, expires_at) VALUES (?, ?, ?)"
        " ON CONFLICT (role) DO UPDATE SET owner = excluded.owner,"
        " expires_at = excluded.expires_at"
        " WHERE leaders.owner = excluded.owner OR leaders.expires_at < ?"
        " RETURNING owner",
        role,
        owner,
        now + int(seconds * SECOND_US),
        now,
    )
    return row is not None


def resign(tx: Transaction, owner: str) -> None:
    """Give up every lead of this owner."""
    tx.execute("DELETE FROM leaders WHERE owner = ?", owner)
