"""Tasks: any durable piece of work, and the verbs that move it from state to state.

Every verb is one compare-and-set UPDATE guarded by state and, for workers, by epoch.
Zero rows is an answer, which becomes the error that says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broker import agents, events, json, leases, updates
from broker.database import Database, Row, Transaction
from broker.errors import Conflict, LeaseLost, NotFound, TooManyWaiting, WrongTransition
from broker.leases import Worker
from broker.states import TASK_TRANSITIONS, TERMINAL, Priority
from broker.times import now_us, rfc3339

# Back-pressure: this many tasks may be queued in all.
QUEUED_LIMIT: Final = 10_000
# The doorbell that workers with running tasks listen on: somebody wants one to stop.
STOP_CHANNEL: Final = "stop"
# The doorbell of the scheduler: a deadline was written down.
DUE_CHANNEL: Final = "due"
# For each final state, as SQL, those that may lead to it.
_SOURCES: Final = {
    str(final): ", ".join(
        f"'{source}'" for source, ends in TASK_TRANSITIONS.items() if final in ends
    )
    for final in TERMINAL
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task before it is queued."""

    type: str
    payload: dict[str, Any]
    id: str | None = None
    agent_id: str | None = None
    parent_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.NORMAL
    cause_id: int | None = None
    key: str | None = None


def create(tx: Transaction, new: NewTask, *, hint: bool = True) -> tuple[Row, bool]:
    """Queue a task; an id that exists gives that task back, and False."""
    if found := _existing(tx, new):
        return found, False
    _refuse_flood(tx)
    now = now_us()
    row = _insert(tx, new, now, hinted_at=now if hint else None)
    if row is None:  # somebody else made it between our look and our insert
        return create(tx, new, hint=hint)
    updates.append(tx, row["id"], "spawn", {"type": new.type})
    if hint:
        tx.hint(new.type, row["id"])
    return row, True


def _existing(tx: Transaction, new: NewTask) -> Row | None:
    if new.key is not None:
        same_key = tx.one("SELECT * FROM tasks WHERE key = ?", new.key)
        if same_key is not None:
            return same_key
    if new.id is None:
        return None
    found = find(tx, agents.check_id(new.id))
    if found is not None and found["type"] != new.type:
        raise Conflict(
            f"Task {found['id']} exists and is of type {found['type']!r}, "
            f"not {new.type!r}. Choose another id."
        )
    return found


def _refuse_flood(tx: Transaction) -> None:
    # A probe at the limit's offset: the index is walked only when there is a backlog.
    full = tx.one(
        "SELECT 1 AS x FROM tasks WHERE status = 'queued' LIMIT 1 OFFSET ?",
        QUEUED_LIMIT - 1,
    )
    if full:
        raise TooManyWaiting("The number of queued tasks", QUEUED_LIMIT)


def _insert(
    tx: Transaction, new: NewTask, now: int, hinted_at: int | None
) -> Row | None:
    while True:
        id = new.id or f"{new.type}-{agents.next_number(tx, new.type)}"
        row = tx.one(
            "INSERT INTO tasks (id, type, status, agent_id, parent_id, payload,"
            " metadata, rank, attempts, crashes, epoch, hinted_at, cause_id, key,"
            " created_at, updated_at)"
            " VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING RETURNING *",
            id,
            new.type,
            new.agent_id,
            new.parent_id,
            json.dump(new.payload),
            json.dump(new.metadata),
            new.priority.rank,
            hinted_at,
            new.cause_id,
            new.key,
            now,
            now,
        )
        if row is not None or new.id is not None:
            return row


def find(tx: Transaction | Database, id: str) -> Row | None:
    """Return the task's row, or None."""
    sql = "SELECT * FROM tasks WHERE id = ?"
    return tx.one(sql, id) if isinstance(tx, Transaction) else tx.read_one(sql, id)


def get(tx: Transaction | Database, id: str) -> Row:
    """Return the task's row; raise NotFound."""
    row = find(tx, id)
    if row is None:
        raise NotFound("task", id)
    return row


def claim(tx: Transaction, id: str, worker: Worker) -> Row | None:
    """Claim one queued task by id; None when it is not there to be claimed."""
    return _claim_where(tx, worker, "id = ?", id)


def claim_next(tx: Transaction, type: str, worker: Worker) -> Row | None:
    """Claim the oldest queued task of a type."""
    skip_locked = " FOR UPDATE SKIP LOCKED" if tx.for_update else ""
    return _claim_where(
        tx,
        worker,
        "seq = (SELECT seq FROM tasks WHERE type = ? AND status = 'queued'"
        " AND (not_before_at IS NULL OR not_before_at <= ?)"
        f" ORDER BY rank, seq LIMIT 1{skip_locked})",
        type,
        now_us(),
    )


def _claim_where(
    tx: Transaction, worker: Worker, condition: str, *params: object
) -> Row | None:
    now = now_us()
    row = tx.one(
        "UPDATE tasks SET status = 'running', epoch = epoch + 1, lease_owner = ?,"
        " lease_expires_at = ?, started_at = COALESCE(started_at, ?), updated_at = ?,"
        " attempts = CASE WHEN attempts = 0 THEN 1 ELSE attempts END,"
        " waiting_for = NULL, not_before_at = NULL, stop_verb = NULL"
        f" WHERE status = 'queued' AND {condition}"
        " AND (not_before_at IS NULL OR not_before_at <= ?) RETURNING *",
        worker.owner,
        worker.expiry(now),
        now,
        now,
        *params,
        now,
    )
    if row is not None:
        updates.append(tx, row["id"], "started", {"epoch": row["epoch"]})
    return row


def complete(tx: Transaction, id: str, epoch: int, result: Any) -> Row:
    """End a running task well; repeating it under the same epoch changes nothing."""
    return _end_fenced(tx, id, epoch, "completed", result=result)


def fail(tx: Transaction, id: str, epoch: int, error: dict[str, Any]) -> Row:
    """End a running task badly; repeating it under the same epoch changes nothing."""
    return _end_fenced(tx, id, epoch, "failed", error=error)


def _end_fenced(
    tx: Transaction,
    id: str,
    epoch: int,
    status: str,
    *,
    result: Any = None,
    error: dict[str, Any] | None = None,
) -> Row:
    row = get(tx, id)
    if row["status"] == status and row["epoch"] == epoch:
        return row
    if row["status"] in TERMINAL:
        raise WrongTransition(id, row["status"], status)
    leases.guard(tx, id, epoch)
    return end(tx, id, status, result=result, error=error)


def end(
    tx: Transaction,
    id: str,
    status: str,
    *,
    result: Any = None,
    error: dict[str, Any] | None = None,
    now: int | None = None,
    keeps_process: bool = False,
) -> Row:
    """Move a task that is not over to a final state; wake whoever waits for it.

    With `keeps_process` its operating-system process may still run, and stays written
    down until it has been swept.
    """
    row = tx.one(
        "UPDATE tasks SET status = ?, result = ?, error = ?, finished_at = ?,"
        " updated_at = ?, lease_owner = NULL, lease_expires_at = NULL,"
        " process = CASE WHEN ? = 1 THEN process END, waiting_for = NULL,"
        " epoch = epoch + CASE WHEN ? = 'cancelled' THEN 1 ELSE 0 END"
        f" WHERE id = ? AND status IN ({_SOURCES[status]}) RETURNING *",
        status,
        None if status != "completed" else json.dump(result),
        None if error is None else json.dump(error),
        now or now_us(),
        now or now_us(),
        int(keeps_process),
        status,
        id,
    )
    if row is None:
        raise WrongTransition(id, get(tx, id)["status"], status)
    updates.append(tx, id, status, error or {})
    tx.execute("DELETE FROM waits WHERE task_id = ?", id)
    wake_waiters(tx, id)
    if row["type"] == "turn":
        _close_turn(tx, row)
        release_agent(tx, row["agent_id"], id)
    return row


def _close_turn(tx: Transaction, row: Row) -> None:
    """Tell the turn's stream that it is over, however it ended.

    Its inputs count as read, unless it failed: then they stay with the dead letter.
    """
    if row["status"] != "failed":
        events.mark_read(tx, row["id"])
    closing = {"status": row["status"], "usage": json.load(row["usage"])}
    if row["status"] == "completed":
        closing["text"] = json.load(row["result"])["text"]
    else:
        closing["error"] = json.load(row["error"])
    for kind in ("turn_end", "agent_end"):
        events.emit_turn(
            tx, row["agent_id"], row["id"], kind, closing, cause_id=row["cause_id"]
        )


def wake_waiters(tx: Transaction, target_id: str) -> None:
    """Queue every parked turn that waits for this task."""
    for row in tx.execute(
        "SELECT DISTINCT task_id FROM waits WHERE target_id = ?", target_id
    ):
        wake(tx, row["task_id"])


def wake(tx: Transaction, id: str) -> bool:
    """Queue a parked task again; False when it is not parked."""
    now = now_us()
    row = tx.one(
        "UPDATE tasks SET status = 'queued', hinted_at = ?, updated_at = ?"
        " WHERE id = ? AND status = 'waiting' RETURNING type, agent_id",
        now,
        now,
        id,
    )
    if row is None:
        return False
    agents.refresh(tx, row["agent_id"])
    tx.hint(row["type"], id)
    return True


def release_agent(tx: Transaction, agent_id: str, turn_id: str) -> None:
    """Let the agent go from a turn; hint the next one of its line."""
    tx.execute(
        "UPDATE agents SET turn_id = NULL WHERE id = ? AND turn_id = ?",
        agent_id,
        turn_id,
    )
    agents.refresh(tx, agent_id)
    now = now_us()
    following = tx.one(
        "UPDATE tasks SET hinted_at = ? WHERE seq = (SELECT seq FROM tasks"
        " WHERE agent_id = ? AND type = 'turn' AND status = 'queued'"
        " AND (not_before_at IS NULL OR not_before_at <= ?)"
        " ORDER BY rank, seq LIMIT 1) RETURNING id",
        now,
        agent_id,
        now,
    )
    if following:
        tx.hint("turn", following["id"])


def cancel(tx: Transaction, id: str, reason: str | None) -> Row:
    """Cancel a task and its children: at once if it does not run, else soon."""
    return _stop(tx, id, "cancel", reason)


def kill(tx: Transaction, id: str, reason: str | None) -> Row:
    """Kill a task and its children now; whoever runs one of them has lost its lease."""
    return _stop(tx, id, "kill", reason)


def _stop(tx: Transaction, id: str, verb: str, reason: str | None) -> Row:
    row = get(tx, id)
    if row["status"] == "cancelled":
        return row
    if row["status"] in TERMINAL:
        raise WrongTransition(id, row["status"], "cancelled")
    for child in _open_children(tx, id):
        _stop(tx, child["id"], verb, reason)
    tx.ring(STOP_CHANNEL)
    if verb == "cancel" and row["status"] == "running":
        return _ask_to_stop(tx, row, reason)
    if row["process"]:
        tx.ring(DUE_CHANNEL)  # its worker may be dead: the scheduler sweeps, too
    error = leases.stopped_error(verb, reason)
    return end(tx, id, "cancelled", error=error, keeps_process=True)


def _ask_to_stop(tx: Transaction, row: Row, reason: str | None) -> Row:
    return tx.execute(
        "UPDATE tasks SET stop_verb = 'cancel', stop_reason = ? WHERE id = ?"
        " RETURNING *",
        reason,
        row["id"],
    )[0]


def _open_children(tx: Transaction, id: str) -> list[Row]:
    return tx.execute(
        "SELECT id FROM tasks WHERE parent_id = ?"
        " AND status IN ('queued', 'running', 'waiting') ORDER BY seq",
        id,
    )


def drop(tx: Transaction, id: str, reason: str | None) -> Row:
    """Take a failed task off the dead-letter list; its inputs count as read."""
    now = now_us()
    row = tx.one(
        "UPDATE tasks SET dropped_at = ?, updated_at = ? WHERE id = ?"
        " AND status = 'failed' AND dropped_at IS NULL RETURNING *",
        now,
        now,
        id,
    )
    if row is None:
        raise Conflict(f"Task {id} is {get(tx, id)['status']}; it is no dead letter.")
    events.mark_read(tx, id)
    updates.append(tx, id, "dropped", {"reason": reason})
    agents.refresh(tx, row["agent_id"])
    return row


def retry(tx: Transaction, id: str, payload: dict[str, Any] | None = None) -> Row:
    """Queue a failed task again, with its attempts counted from the start."""
    now = now_us()
    row = tx.one(
        "UPDATE tasks SET status = 'queued', error = NULL, attempts = 0, crashes = 0,"
        " finished_at = NULL, dropped_at = NULL, not_before_at = NULL, hinted_at = ?,"
        " payload = COALESCE(?, payload), updated_at = ?"
        " WHERE id = ? AND status = 'failed' RETURNING *",
        now,
        None if payload is None else json.dump(payload),
        now,
        id,
    )
    if row is None:
        raise WrongTransition(id, get(tx, id)["status"], "queued")
    updates.append(tx, id, "retried", {})
    agents.refresh(tx, row["agent_id"])
    tx.hint(row["type"], id)
    return row


def heartbeat(tx: Transaction, id: str, epoch: int, lease_seconds: float) -> Row:
    """Renew an outside worker's lease; raise LeaseLost when it is gone."""
    now = now_us()
    row = tx.one(
        "UPDATE tasks SET lease_expires_at = ?, updated_at = ?"
        " WHERE id = ? AND epoch = ? AND status = 'running' RETURNING *",
        now + int(lease_seconds * 1_000_000),
        now,
        id,
        epoch,
    )
    if row is None:
        get(tx, id)
        raise LeaseLost(id, epoch)
    return row


def record_process(
    tx: Transaction, id: str, epoch: int, process: dict[str, Any]
) -> None:
    """Note the operating-system process of a running task, for the orphan sweep."""
    leases.guard(tx, id, epoch)
    tx.execute("UPDATE tasks SET process = ? WHERE id = ?", json.dump(process), id)


def held_by(database: Database, owner: str) -> list[Row]:
    """List the tasks that a worker runs, or ran when it died: `{id, process}`."""
    return database.read(
        "SELECT id, process FROM tasks WHERE status = 'running' AND lease_owner = ?",
        owner,
    )


def killed_processes(database: Database) -> list[Row]:
    """List tasks that are over and whose process may still run: `{id, process}`."""
    return database.read(
        "SELECT id, process FROM tasks WHERE process IS NOT NULL"
        " AND finished_at IS NOT NULL"
    )


def forget_process(tx: Transaction, id: str) -> None:
    """Note that the process of a task that is over has been swept."""
    tx.execute(
        "UPDATE tasks SET process = NULL WHERE id = ? AND finished_at IS NOT NULL", id
    )


def claim_many(tx: Transaction, type: str, worker: Worker, limit: int) -> list[Row]:
    """Claim up to `limit` queued tasks of a type, oldest first."""
    claimed: list[Row] = []
    while len(claimed) < limit and (row := claim_next(tx, type, worker)):
        claimed.append(row)
    return claimed


def hand_over(tx: Transaction, id: str, epoch: int) -> None:
    """Give running work back (a drain), for any worker to run again."""
    leases.guard(tx, id, epoch)
    now = now_us()
    row = tx.execute(
        "UPDATE tasks SET status = 'queued', lease_owner = NULL, process = NULL,"
        " lease_expires_at = NULL, hinted_at = ?, updated_at = ? WHERE id = ?"
        " RETURNING type, agent_id",
        now,
        now,
        id,
    )[0]
    updates.append(tx, id, "handed_over", {})
    agents.refresh(tx, row["agent_id"])
    tx.hint(row["type"], id)


def list_page(
    database: Database,
    *,
    type: str | None = None,
    status: str | None = None,
    agent_id: str | None = None,
    parent_id: str | None = None,
    is_dead_letter: bool = False,
    before: int | None = None,
    limit: int = 100,
) -> list[Row]:
    """List tasks, newest first, as rows; the cursor is `seq`."""
    wanted = {"type": type, "status": status, "agent_id": agent_id}
    wanted["parent_id"] = parent_id
    clauses = [f"{name} = ?" for name, value in wanted.items() if value is not None]
    params = [value for value in wanted.values() if value is not None]
    if is_dead_letter:
        clauses.append("status = 'failed' AND dropped_at IS NULL")
    where = " AND ".join(["seq < ?", *clauses])
    return database.read(
        f"SELECT * FROM tasks WHERE {where} ORDER BY seq DESC LIMIT ?",
        before if before is not None else 2**62,
        *params,
        limit,
    )


def shape(row: Row) -> Row:
    """Give a row the shape that the contract promises."""
    return {
        "id": row["id"],
        "type": row["type"],
        "status": row["status"],
        "agent_id": row["agent_id"],
        "parent_id": row["parent_id"],
        "payload": json.load(row["payload"]),
        "result": json.load(row["result"]),
        "error": json.load(row["error"]),
        "attempts": row["attempts"],
        "epoch": row["epoch"],
        "waiting_for": json.load(row["waiting_for"]),
        "cause_id": row["cause_id"],
        "created_at": rfc3339(row["created_at"]),
        "started_at": rfc3339(row["started_at"]),
        "finished_at": rfc3339(row["finished_at"]),
        "not_before_at": rfc3339(row["not_before_at"]),
        "lease_expires_at": rfc3339(row["lease_expires_at"]),
        "dropped_at": rfc3339(row["dropped_at"]),
        "usage": json.load(row["usage"]),
        "cost_usd": row["cost_usd"],
        "metadata": json.load(row["metadata"]),
    }
