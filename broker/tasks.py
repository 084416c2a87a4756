"""Tasks: any durable piece of work, and the verbs that move it from state to state.

Every verb is one compare-and-set UPDATE guarded by state and, for workers, by epoch.
Zero rows is an answer, which becomes the error that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from broker import (
    agents,
    budgets,
    costs,
    events,
    json,
    leases,
    results,
    routing,
    updates,
    waking,
)
from broker.database import Database, Row, Transaction
from broker.errors import Conflict, LeaseLost, WrongTransition
from broker.events import NewEvent
from broker.leases import Worker
from broker.states import TASK_TRANSITIONS, TERMINAL, Stream
from broker.task_rows import QUEUED_LIMIT, NewTask, create, find, get
from broker.times import now_us, rfc3339
from broker.waking import DUE_CHANNEL, STOP_CHANNEL

__all__ = [
    "DUE_CHANNEL",
    "QUEUED_LIMIT",
    "STOP_CHANNEL",
    "NewTask",
    "create",
    "find",
    "get",
]

# For each final state, as SQL, those that may lead to it.
_SOURCES: Final = {
    str(final): ", ".join(
        f"'{source}'" for source, ends in TASK_TRANSITIONS.items() if final in ends
    )
    for final in TERMINAL
}


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
        " waiting_for = NULL, not_before_at = NULL,"
        # An interrupt that came while nobody ran it still holds.
        " stop_verb = CASE WHEN stop_verb = 'interrupt' THEN stop_verb END"
        f" WHERE status = 'queued' AND absorbed_by IS NULL AND {condition}"
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
    if row["type"] == "exec" and status == "completed" and row["agent_id"]:
        row = results.number(tx, row)
    told = updates.append(tx, id, status, error or {})
    tx.execute("DELETE FROM waits WHERE task_id = ?", id)
    wake_waiters(tx, id)
    if told.event_id is not None and row["parent_id"] is not None:
        waking.tell_of_end(tx, row, told.event_id)
    if row["type"] == "turn":
        budgets.release(tx, id)
        row = costs.close(tx, row)
        _let_absorbed_go(tx, row)
        _close_turn(tx, row)
        release_agent(tx, row["agent_id"], id)
    return row


def _let_absorbed_go(tx: Transaction, row: Row) -> None:
    """Turns whose messages this one had read, and could not answer, take their own
    course again; the message of one that was killed stays here, to be replied to."""
    if row["status"] == "completed":
        return
    tx.execute(
        "UPDATE marks SET turn_id = (SELECT id FROM tasks WHERE absorbed_by = ?"
        " AND cause_id = marks.event_id) WHERE turn_id = ? AND event_id IN"
        " (SELECT cause_id FROM tasks WHERE absorbed_by = ? AND status = 'queued')",
        row["id"],
        row["id"],
        row["id"],
    )
    tx.execute(
        "UPDATE tasks SET absorbed_by = NULL, hinted_at = NULL"
        " WHERE absorbed_by = ? AND status = 'queued'",
        row["id"],
    )


def _close_turn(tx: Transaction, row: Row) -> None:
    """Tell whoever asked, and the turn's stream, that it is over, however it ended.

    Its inputs count as read, unless it failed: then they stay with the dead letter.
    """
    routing.route(tx, row)
    if row["status"] != "failed":
        events.mark_read(tx, row["id"])
    closing = {"status": row["status"], "usage": json.load(row["usage"])}
    if row["status"] == "completed":
        closing["text"] = json.load(row["result"])["text"]
    else:
        closing["error"] = json.load(row["error"])
    if row["started_at"] is not None:
        _frame_end(tx, row)
    for kind in ("turn_end", "agent_end"):
        events.emit_turn(
            tx, row["agent_id"], row["id"], kind, closing, cause_id=row["cause_id"]
        )


def _frame_end(tx: Transaction, row: Row) -> None:
    """Say for all to hear that the agent's run is over, and how (G64)."""
    scope, cause_id = f"agent/{row['agent_id']}", row["cause_id"]
    payload = {"turn_id": row["id"], "status": row["status"]}
    if row["status"] == "failed":
        said = NewEvent(
            stream=Stream.ERRORS,
            scope=scope,
            kind="agent_run_error",
            body=str((json.load(row["error"]) or {}).get("message", "")),
            payload=payload,
            cause_id=cause_id,
        )
    else:
        said = NewEvent(
            stream=Stream.SIGNALS,
            scope=scope,
            kind="agent_run_complete",
            payload=payload,
            cause_id=cause_id,
        )
    events.append(tx, said)


def wake_waiters(tx: Transaction, target_id: str) -> None:
    """Queue every parked turn that waits for this task."""
    for row in tx.execute(
        "SELECT DISTINCT task_id FROM waits WHERE target_id = ?", target_id
    ):
        waking.queue_again(tx, row["task_id"])


def expect(tx: Transaction, ids: Sequence[str], turn_id: str) -> None:
    """Note that a turn waits for the end of these tasks, and needs no message of it.

    Noted is who would be told: a turn of the agent that asked, or that started it.
    """
    for id in ids:
        tx.execute(
            "UPDATE tasks SET awaited_by = ? WHERE id = ? AND EXISTS (SELECT 1"
            " FROM tasks AS waiting WHERE waiting.id = ? AND (waiting.agent_id ="
            " tasks.agent_id OR EXISTS (SELECT 1 FROM events WHERE events.id ="
            " tasks.cause_id AND events.source = 'agent/' || waiting.agent_id)))",
            turn_id,
            id,
            turn_id,
        )


def expect_no_more(tx: Transaction, ids: Sequence[str], turn_id: str) -> None:
    """Note that the turn waits for these no longer, though they go on."""
    for id in ids:
        tx.execute(
            "UPDATE tasks SET awaited_by = NULL WHERE id = ? AND awaited_by = ?",
            id,
            turn_id,
        )


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
        " AND absorbed_by IS NULL AND (not_before_at IS NULL OR not_before_at <= ?)"
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
        _command(tx, child, verb, reason)
        _stop(tx, child["id"], verb, reason)
    tx.ring(STOP_CHANNEL)
    if verb == "cancel" and row["status"] == "running":
        return _ask_to_stop(tx, row, reason)
    if row["process"]:
        tx.ring(DUE_CHANNEL)  # its worker may be dead: the scheduler sweeps, too
    error = leases.stopped_error(verb, reason)
    return end(tx, id, "cancelled", error=error, keeps_process=True)


def _command(tx: Transaction, child: Row, verb: str, reason: str | None) -> None:
    """Say on the bus that a child is to stop, before it is (G28)."""
    events.append(
        tx,
        NewEvent(
            stream=Stream.SIGNALS,
            scope=f"task/{child['id']}",
            subject=child["id"],
            kind="command",
            body=f"Task {verb}",
            payload={"action": verb, "task_id": child["id"], "reason": reason},
            cause_id=child["cause_id"],
        ),
    )


def _ask_to_stop(tx: Transaction, row: Row, reason: str | None) -> Row:
    return tx.execute(
        "UPDATE tasks SET stop_verb = 'cancel', stop_reason = ? WHERE id = ?"
        " RETURNING *",
        reason,
        row["id"],
    )[0]


def _open_children(tx: Transaction, id: str) -> list[Row]:
    return tx.execute(
        "SELECT id, cause_id FROM tasks WHERE parent_id = ?"
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
        " awaited_by = NULL,"  # whoever waited has read that it failed
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
