"""Blockers: what a task that is not over waits for, and what would let it go on."""

from __future__ import annotations

from broker import budgets, json, limits, steps
from broker.database import Database, Row
from broker.times import SECOND_US, now_us, rfc3339

# A turn that waits for its prompt has no step yet, and heeds no message.
PROMPT_STEP = 0


def said_of(database: Database, row: Row) -> str | None:
    """Say what would let a task go on; None when it is over, or nothing has to."""
    if row["status"] == "waiting":
        why = json.load(row["waiting_for"]) or {}
        if why.get("kind") == budgets.KIND:
            return budgets.said_of(database, why)
        if why.get("kind") == limits.KIND:
            return limits.said_of(why)
        return _said_of_waits(waits_of(database, row))
    return _said_of_line(database, row) if row["status"] == "queued" else None


def waits_of(database: Database, row: Row) -> list[Row]:
    """Return what each step of a parked turn waits for, in order:
    `{step, key, name, targets: [{id, status}], seconds_left}`; a budget is waited for
    before any step has begun."""
    found: dict[int, Row] = {}
    for each in database.read(
        "SELECT waits.step, waits.target_id, waits.deadline_at, steps.name,"
        " tasks.status FROM waits LEFT JOIN tasks ON tasks.id = waits.target_id"
        " LEFT JOIN steps ON steps.task_id = waits.task_id"
        " AND steps.number = waits.step WHERE waits.task_id = ? AND waits.step >= 0"
        " ORDER BY waits.step, tasks.seq",
        row["id"],
    ):
        number = each["step"]
        wait = found.setdefault(
            number,
            {
                "step": number,
                "key": steps.key(row["id"], number),
                "name": each["name"],
                "targets": [],
                "seconds_left": _seconds_left(each["deadline_at"]),
            },
        )
        if each["target_id"] is not None:
            target = {"id": each["target_id"], "status": each["status"]}
            wait["targets"].append(target)
    return list(found.values())


def _said_of_waits(waits: list[Row]) -> str:
    said = "; or ".join(_said_of_wait(wait, alone=len(waits) == 1) for wait in waits)
    heeds = all(wait["step"] != PROMPT_STEP for wait in waits)
    return f"{said or 'a time'}{', or a waking message' if heeds else ''}"


def _said_of_wait(wait: Row, *, alone: bool) -> str:
    named = [f"{each['id']} ({each['status']})" for each in wait["targets"]]
    left = wait["seconds_left"]
    until = "" if left is None else f", at the latest in {left} s"
    step = "" if alone else f" (step {wait['step']})"
    return f"the end of {' or '.join(named) or 'a time'}{until}{step}"


def _said_of_line(database: Database, row: Row) -> str:
    if row["absorbed_by"] is not None:
        return f"the end of {row['absorbed_by']}, which has read its message"
    if row["not_before_at"] is not None:
        error = (json.load(row["error"]) or {}).get("message", "a failure")
        return f"its back-off ({rfc3339(row['not_before_at'])}) after: {error}"
    # Turns of one agent stand in line; its execs do not.
    line = _said_of_turn(database, row) if row["type"] == "turn" else None
    return line or "a worker that is free"


def _said_of_turn(database: Database, row: Row) -> str | None:
    agent = database.read_one(
        "SELECT turn_id, archived_at FROM agents WHERE id = ?", row["agent_id"]
    )
    if agent is None or agent["turn_id"] == row["id"]:
        return None
    if agent["archived_at"] is not None:
        return f"the start of agent {row['agent_id']}, which is stopped"
    if agent["turn_id"] is not None:
        return f"the end of {agent['turn_id']}, which the agent takes now"
    head = database.read_one(
        "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn'"
        " AND status = 'queued' AND absorbed_by IS NULL"
        " AND (not_before_at IS NULL OR not_before_at <= ?)"
        " ORDER BY rank, seq LIMIT 1",
        row["agent_id"],
        now_us(),
    )
    if head is None or head["id"] == row["id"]:
        return None
    return f"the end of {head['id']}, which is before it in the line"


def _seconds_left(deadline_at: int | None) -> float | None:
    if deadline_at is None:
        return None
    return round(max(deadline_at - now_us(), 0) / SECOND_US, 1)
