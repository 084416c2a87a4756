"""What reaches a turn while it is under way.

A message that wakes has a turn of its own, queued behind the one that runs. At its next
tool boundary the running turn may **absorb** it: the message becomes part of its
conversation, and its turn ends with the running one, with the same reply. If the
running turn fails or is stopped, what it absorbed goes its own way again. A message
that does not hurry is looked at when the turn would end (a follow-up).
"""

from __future__ import annotations

from typing import Any, Final

from broker import entries, events, frames, json, leases, routing, steps, tasks, turns
from broker.database import Database, Row, Transaction
from broker.entries import NewEntry
from broker.states import Priority
from broker.times import now_us
from broker.turns import Reply, Turn

# A crowd is read in parts; G65 routes a reply to at most 32.
AT_ONCE: Final = 32
_NO_USAGE: Final = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
}

_WAITING: Final = (
    "SELECT events.*, marks.text AS edited, tasks.id AS own_turn_id FROM marks"
    " JOIN events ON events.id = marks.event_id JOIN tasks ON tasks.id = marks.turn_id"
    " WHERE marks.reader = ? AND marks.rank <= ? AND marks.read_at IS NULL"
    " AND tasks.status = 'queued' AND tasks.started_at IS NULL"
    " AND tasks.absorbed_by IS NULL AND tasks.id <> ?"
)


_QUIET: Final = (
    "SELECT events.*, marks.text AS edited FROM marks JOIN events"
    " ON events.id = marks.event_id WHERE marks.reader = ? AND marks.rank = ?"
    " AND marks.read_at IS NULL AND marks.turn_id IS NULL"
    " AND events.kind = 'message' ORDER BY events.id LIMIT ?"
)


def pending_wake(store: Transaction | Database, turn: Turn) -> Row | None:
    """Return what wants the turn's attention most: `{id, stream, priority, kind}`."""
    run = store.execute if isinstance(store, Transaction) else store.read
    rows = run(
        f"{_waiting_for(turn)} ORDER BY tasks.rank, events.id LIMIT 1",
        turn.agent["id"],
        Priority.WAKE.rank,
        turn.id,
    )
    return rows[0] if rows else None


def _waiting_for(turn: Turn) -> str:
    """What a turn may take; a question that it has no route for waits for its own."""
    return _WAITING + ("" if routing.routes_left(turn.inputs) else routing.UNROUTED)


def has_follow_up(database: Database, turn: Turn) -> bool:
    """Whether a message waits that does not hurry."""
    found = database.read(_QUIET, turn.agent["id"], Priority.NORMAL.rank, 1)
    return bool(found)


def absorb(tx: Transaction, turn: Turn, *, news_only: bool, limit: int) -> list[Row]:
    """Take up to `limit` waking messages into the turn; return their entries.

    An interrupt is never absorbed: it ends the turn, and has the next. With `news_only`
    no message of anybody is taken, only what tasks have to tell.
    """
    leases.guard(tx, turn.id, turn.epoch)
    rows = tx.execute(
        f"{_waiting_for(turn)} AND marks.rank > ?"
        + (" AND events.kind = 'task_update'" if news_only else "")
        + " ORDER BY tasks.rank, events.id LIMIT ?",
        turn.agent["id"],
        Priority.WAKE.rank,
        turn.id,
        Priority.INTERRUPT.rank,
        min(limit, AT_ONCE),
    )
    rows = _routed(turn, rows)
    for row in rows:
        tx.execute(
            "UPDATE tasks SET absorbed_by = ? WHERE id = ?", turn.id, row["own_turn_id"]
        )
        events.take(tx, turn.agent["id"], row["id"], turn.id)
        _emit_start(tx, turn, row["own_turn_id"], row["id"])
    return _append(tx, turn, [events.shape(row) for row in rows])


def _routed(turn: Turn, rows: list[Row]) -> list[Row]:
    """Leave out the questions that the turn has no route for."""
    questions = [row["id"] for row in rows if routing.asks(row)]
    too_many = questions[routing.routes_left(turn.inputs) :]
    return [row for row in rows if row["id"] not in too_many]


def follow_up(tx: Transaction, turn: Turn, *, limit: int) -> list[Row]:
    """Take messages that do not hurry, now that the turn would end; return entries."""
    leases.guard(tx, turn.id, turn.epoch)
    rows = tx.execute(
        _QUIET, turn.agent["id"], Priority.NORMAL.rank, min(limit, AT_ONCE)
    )
    for row in rows:
        events.take(tx, turn.agent["id"], row["id"], turn.id)
    return _append(tx, turn, [events.shape(row) for row in rows])


def _append(tx: Transaction, turn: Turn, taken: list[Row]) -> list[Row]:
    now = now_us()
    new = [
        NewEntry(
            type="wake" if event["kind"] == "task_update" else "user_message",
            role="user",
            content=[{"type": "text", "text": event["body"]}],
            data={
                "event_ids": [event["id"]],
                "steering": True,
                "frame": frames.build(event, [], last_at=None, now=now),
            },
        )
        for event in taken
    ]
    turn.inputs.extend(taken)
    agent = turn.agent
    entries.append(tx, agent["id"], agent["generation"], turn.id, *new)
    return [
        {"type": each.type, "content": each.content, "data": each.data} for each in new
    ]


def _emit_start(tx: Transaction, turn: Turn, absorbed_id: str, cause_id: int) -> None:
    events.emit_turn(
        tx,
        turn.agent["id"],
        absorbed_id,
        "turn_start",
        {"absorbed_by": turn.id},
        cause_id=cause_id,
    )


def complete(tx: Transaction, turn: Turn, reply: Reply) -> None:
    """End a turn well, and with it those that it has absorbed."""
    leases.guard(tx, turn.id, turn.epoch)
    if reply.is_interrupted:
        steps.give_up_model(tx, turn.id)
    _finish_absorbed(tx, turn, reply)
    turns.complete(tx, turn, reply)


def _finish_absorbed(tx: Transaction, turn: Turn, reply: Reply) -> None:
    """End the turns whose messages this one has answered, with its reply."""
    for row in tx.execute(
        "SELECT id, cause_id FROM tasks WHERE absorbed_by = ? AND status = 'queued'"
        " ORDER BY seq",
        turn.id,
    ):
        result: dict[str, Any] = {"text": reply.text, "absorbed_by": turn.id}
        tx.execute(
            "UPDATE tasks SET usage = ?, cost_usd = 0 WHERE id = ?",
            json.dump(_NO_USAGE),
            row["id"],
        )
        _tell_reply(tx, turn, row, reply)
        tasks.end(tx, row["id"], "completed", result=result)


def _tell_reply(tx: Transaction, turn: Turn, absorbed: Row, reply: Reply) -> None:
    """Whoever watches the absorbed turn sees the answer, as of any other."""
    shown: tuple[tuple[str, dict[str, Any]], ...] = (
        ("message_start", {"step": 1, "attempt": 1, "model": None}),
        ("message_update", {"step": 1, "kind": "text", "text": reply.text}),
        (
            "message_end",
            {
                "step": 1,
                "text": reply.text,
                "tool_calls": [],
                "stop_reason": "end",
                "usage": _NO_USAGE,
            },
        ),
    )
    for kind, payload in shown:
        events.emit_turn(
            tx,
            turn.agent["id"],
            absorbed["id"],
            kind,
            payload,
            cause_id=absorbed["cause_id"],
        )
