"""The step journal of a turn: written before an effect, and after it.

A step is known by `turn/number`, its key: the same step keeps its key however often it
is resumed, so whatever it touches can tell a repeat. Every function here is fenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker import json, leases
from broker.database import Database, Row, Transaction
from broker.states import STEP_TRANSITIONS
from broker.times import now_us, rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A tool call that a model asked for, before anything is done about it."""

    tool_call_id: str
    name: str
    arguments: dict[str, Any]
    effect: str


def key(turn_id: str, number: int) -> str:
    """Return the stable key of a step."""
    return f"{turn_id}/{number}"


def number_of(key: str) -> int:
    """Return the number in a step's key."""
    return int(key.rpartition("/")[2])


def tool_call_id(tx: Transaction, key: str) -> str | None:
    """Return the model's own id of the call that is this step."""
    turn_id, _, _ = key.rpartition("/")
    row = tx.one(
        "SELECT tool_call_id FROM steps WHERE task_id = ? AND number = ?",
        turn_id,
        number_of(key),
    )
    return row["tool_call_id"] if row else None


def start_model(
    tx: Transaction, turn_id: str, epoch: int, name: str
) -> tuple[int, int]:
    """Journal a model call about to be made; return its number and its attempt.

    A call that an earlier worker left `started` keeps its number: nobody saw its
    answer.
    """
    leases.guard(tx, turn_id, epoch)
    now = now_us()
    open_step = tx.one(
        "UPDATE steps SET attempts = attempts + 1, started_at = ?, status = 'started'"
        " WHERE task_id = ? AND kind = 'model' AND status IN ('started', 'failed')"
        " RETURNING number, attempts",
        now,
        turn_id,
    )
    if open_step is not None:
        return open_step["number"], open_step["attempts"]
    number = _next_number(tx, turn_id)
    tx.execute(
        "INSERT INTO steps (task_id, number, kind, name, status, attempts, created_at,"
        " started_at) VALUES (?, ?, 'model', ?, 'started', 1, ?, ?)",
        turn_id,
        number,
        name,
        now,
        now,
    )
    return number, 1


def succeed_model(
    tx: Transaction,
    turn_id: str,
    epoch: int,
    number: int,
    answer: dict[str, Any],
    usage: dict[str, Any],
    calls: list[PlannedCall],
    *,
    cost_usd: float | None = None,
    model: str | None = None,
) -> None:
    """Journal a model's answer, and plan a step for each tool call in it. `model` is
    who answered, where that is not who was asked."""
    leases.guard(tx, turn_id, epoch)
    now = now_us()
    tx.execute(
        "UPDATE steps SET status = 'succeeded', result = ?, usage = ?, cost_usd = ?,"
        " name = COALESCE(?, name), finished_at = ?"
        " WHERE task_id = ? AND number = ? AND status = 'started'",
        json.dump(answer),
        json.dump(usage),
        cost_usd,
        model,
        now,
        turn_id,
        number,
    )
    for offset, call in enumerate(calls, start=1):
        tx.execute(
            "INSERT INTO steps (task_id, number, kind, name, tool_call_id, effect,"
            " status, request, attempts, created_at)"
            " VALUES (?, ?, 'tool', ?, ?, ?, 'planned', ?, 0, ?)",
            turn_id,
            number + offset,
            call.name,
            call.tool_call_id,
            call.effect,
            json.dump(call.arguments),
            now,
        )


def fail_model(
    tx: Transaction, turn_id: str, epoch: int, number: int, error: dict[str, Any]
) -> None:
    """Journal that a model call failed; a retry of the turn starts it again."""
    leases.guard(tx, turn_id, epoch)
    tx.execute(
        "UPDATE steps SET status = 'failed', result = ?, finished_at = ?"
        " WHERE task_id = ? AND number = ? AND status = 'started'",
        json.dump(error),
        now_us(),
        turn_id,
        number,
    )


def give_up_model(tx: Transaction, turn_id: str) -> None:
    """Journal that nobody waits for a model call any more: its worker died, and then
    the turn was interrupted."""
    tx.execute(
        "UPDATE steps SET status = 'failed', result = ?, finished_at = ?"
        " WHERE task_id = ? AND kind = 'model' AND status = 'started'",
        json.dump({"type": "interrupted", "message": "The turn was interrupted."}),
        now_us(),
        turn_id,
    )


def open_calls(tx: Transaction, turn_id: str, call_ids: Sequence[str]) -> list[Row]:
    """Say how far calls without a result in the history have come:
    `{tool_call_id, status, result}`; of calls with one id, the newest comes last."""
    marks = ", ".join("?" * len(call_ids))
    rows = tx.execute(
        "SELECT tool_call_id, status, result FROM steps WHERE task_id = ?"
        f" AND tool_call_id IN ({marks}) ORDER BY number",
        turn_id,
        *call_ids,
    )
    return [{**row, "result": json.load(row["result"])} for row in rows]


def number_of_call(tx: Transaction, turn_id: str, tool_call_id: str) -> int:
    """Return the number of a planned call's step."""
    row = tx.execute(
        "SELECT number FROM steps WHERE task_id = ? AND tool_call_id = ?"
        " ORDER BY number DESC LIMIT 1",
        turn_id,
        tool_call_id,
    )[0]
    return int(row["number"])


def start_tool(
    tx: Transaction, turn_id: str, epoch: int, tool_call_id: str
) -> tuple[int, bool]:
    """Journal a tool call about to be made; return its number, and whether an earlier
    worker had started it and left no result."""
    leases.guard(tx, turn_id, epoch)
    row = tx.execute(
        "UPDATE steps SET status = 'started', attempts = attempts + 1,"
        " started_at = COALESCE(started_at, ?)"
        " WHERE task_id = ? AND tool_call_id = ? AND status IN ('planned', 'started')"
        " RETURNING number, attempts",
        now_us(),
        turn_id,
        tool_call_id,
    )[0]
    return row["number"], row["attempts"] > 1


def finish_tool(
    tx: Transaction,
    turn_id: str,
    epoch: int,
    number: int,
    status: str,
    result: dict[str, Any],
) -> None:
    """Journal a tool's result: succeeded, failed or uncertain."""
    leases.guard(tx, turn_id, epoch)
    sources = [f"'{each}'" for each, ends in STEP_TRANSITIONS.items() if status in ends]
    tx.execute(
        "UPDATE steps SET status = ?, result = ?, finished_at = ?"
        f" WHERE task_id = ? AND number = ? AND status IN ({', '.join(sources)})",
        status,
        json.dump(result),
        now_us(),
        turn_id,
        number,
    )
    tx.execute("DELETE FROM waits WHERE task_id = ? AND step = ?", turn_id, number)


def list_of(database: Database, turn_id: str) -> list[Row]:
    """List a turn's steps in order, as the API shows them."""
    rows = database.read(
        "SELECT * FROM steps WHERE task_id = ? ORDER BY number", turn_id
    )
    return [
        {
            "key": key(turn_id, row["number"]),
            "number": row["number"],
            "kind": row["kind"],
            "name": row["name"],
            "tool_call_id": row["tool_call_id"],
            "effect": row["effect"],
            "status": row["status"],
            "request": json.load(row["request"]),
            "result": json.load(row["result"]),
            "usage": json.load(row["usage"]),
            "cost_usd": row["cost_usd"],
            "attempts": row["attempts"],
            "started_at": rfc3339(row["started_at"]),
            "finished_at": rfc3339(row["finished_at"]),
        }
        for row in rows
    ]


def _next_number(tx: Transaction, turn_id: str) -> int:
    row = tx.execute(
        "SELECT COALESCE(MAX(number), 0) + 1 AS number FROM steps WHERE task_id = ?",
        turn_id,
    )[0]
    return int(row["number"])
