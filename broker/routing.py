"""Routing: when a turn is over, whoever asked hears of it, once.

An agent that waits for the turn itself reads its result there. Any other agent that
asked gets a `reply`. The answer to an answer goes nowhere: that is how two polite
agents would never stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from broker import events, json, together, waking
from broker.database import Row, Transaction
from broker.events import NewEvent
from broker.states import Priority, Stream

# To how many messages one turn replies (G65). It never takes more that wake; of those
# that do not hurry, what is beyond has no reply.
ROUTES_LIMIT: Final = 32
# A condition on events and their marks: what a turn may take that has no route left.
UNROUTED: Final = (
    " AND (events.kind <> 'message' OR marks.rank = 0"
    " OR COALESCE(events.source, '') NOT LIKE 'agent/%')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the askers of one turn are told."""

    text: str
    key: str
    priority: Priority = Priority.WAKE
    payload: dict[str, Any]


def asks(event: Row) -> bool:
    """Whether an event is a question of an agent, to be replied to."""
    return event["kind"] == "message" and together.agent_of(event["source"]) is not None


def routes_left(inputs: Iterable[Row]) -> int:
    """Return how many more questions a turn with these inputs may take."""
    return max(ROUTES_LIMIT - sum(asks(event) for event in inputs), 0)


def route(tx: Transaction, turn: Row) -> None:
    """Tell each agent that asked how the turn came out, unless it awaits the turn.

    Call it once, when the turn (its row) has just reached a final state.
    """
    answer = _answer_of(turn)
    for event in tx.execute(
        "SELECT events.* FROM marks JOIN events ON events.id = marks.event_id"
        " WHERE marks.turn_id = ? AND marks.reader = ? AND events.kind = 'message'"
        " AND events.source LIKE 'agent/%' ORDER BY marks.rank, events.id LIMIT ?",
        turn["id"],
        turn["agent_id"],
        ROUTES_LIMIT,
    ):
        if not _is_awaited(tx, turn, event):
            _send(tx, turn, event, answer)


def _answer_of(turn: Row) -> _Answer:
    if turn["status"] == "completed":
        text = json.load(turn["result"])["text"]
        return _Answer(text=text, key=f"reply/{turn['id']}", payload={})
    # After a retry it may fail again, under another epoch.
    message = (json.load(turn["error"]) or {}).get("message", "it was stopped")
    return _Answer(
        text=f"I could not answer: {message}",
        key=f"failed/{turn['id']}/{turn['epoch']}",
        # Somebody stopped it on purpose: that need not wake anybody.
        priority=Priority.WAKE if turn["status"] == "failed" else Priority.NORMAL,
        payload={"failed": True},
    )


def _is_awaited(tx: Transaction, turn: Row, event: Row) -> bool:
    """Whether the asker waits for the turn of this message (or for the one that
    absorbed it), and so needs no message."""
    found = tx.one(
        "SELECT 1 AS x FROM tasks AS own JOIN tasks AS waiting"
        " ON waiting.id = own.awaited_by WHERE own.cause_id = ?"
        " AND (own.id = ? OR own.absorbed_by = ?) AND waiting.agent_id = ?"
        " AND waiting.status IN ('queued', 'running', 'waiting')",
        event["id"],
        turn["id"],
        turn["id"],
        together.agent_of(event["source"]),
    )
    return found is not None


def _send(tx: Transaction, turn: Row, event: Row, answer: _Answer) -> None:
    """Reply to one message; an asker that was stopped is skipped."""
    asker = str(together.agent_of(event["source"]))
    row = tx.one(f"SELECT archived_at FROM agents WHERE id = ?{tx.for_update}", asker)
    if row is None or row["archived_at"] is not None:
        return
    hop = event["hop"] + 1
    loop = together.find_loop(tx, turn["agent_id"], asker, event["id"], hop)
    is_storm = loop is None and together.is_storm(tx, asker)
    priority = Priority.NORMAL if loop or is_storm else answer.priority
    request_id = json.load(event["payload"]).get("request_id")
    id = events.append(
        tx,
        NewEvent(
            stream=Stream.TASK_INPUT,
            scope=f"agent/{asker}",
            subject=request_id,
            kind="reply",
            priority=priority,
            body=answer.text,
            payload={**answer.payload, "request_id": request_id, "context": {}},
            source=f"agent/{turn['agent_id']}",
            cause_id=event["id"],
            hop=hop,
            key=f"{answer.key}/{event['id']}",
        ),
    )[0]
    if loop:
        together.report_quieted(tx, loop, asker, id, turn["id"])
    elif is_storm:
        together.report_storm(tx, asker, id)
    waking.wake_agent(tx, asker, id, priority, is_answer=True)
