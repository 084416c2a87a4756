"""Turns: an agent's messages come in, a worker takes the turn, a reply goes out.

One turn at a time holds an agent (`agents.turn_id`), from its claim to its end, to its
back-off after a failure, or across a park. Every waking message has a turn of its own,
queued at once, so its id is known to the sender; turns of one agent run in order of
rank and age.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from broker import agents, entries, events, json, leases, tasks, updates
from broker.database import Row, Transaction
from broker.entries import NewEntry
from broker.errors import Conflict, TooManyWaiting
from broker.events import NewEvent
from broker.leases import Worker
from broker.states import Priority, Stream
from broker.times import SECOND_US, now_us

# Back-pressure: an agent may have this many unread inputs.
UNREAD_LIMIT: Final = 1_000
# A failing turn is tried this often in all, with back-off between, before it is a dead
# letter: 2, 4, 8 … seconds, halved at random so that many do not come back at once.
MAX_ATTEMPTS: Final = 4
BACKOFF_SECONDS: Final = 2.0
BACKOFF_LIMIT_SECONDS: Final = 60.0
# When a message cuts a wait short, the awaited task still has this long to win (G34).
GRACE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What somebody says to an agent."""

    text: str
    priority: Priority = Priority.WAKE
    source: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    kind: str = "message"
    stream: Stream = Stream.TASK_INPUT
    subject: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    cause_id: int | None = None
    hop: int = 0
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What became of a message; `turn_id` is None when it woke nobody."""

    event_id: int
    turn_id: str | None
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A claimed turn: what a worker needs to take it."""

    id: str
    epoch: int
    attempts: int
    agent: Row
    inputs: list[Row]
    history: list[Row]
    cause_id: int | None
    is_resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a turn ended well."""

    text: str
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """What a parked turn waits for: any of the tasks to end, or the time to come."""

    step: int
    target_ids: tuple[str, ...]
    deadline_at: int | None
    why: dict[str, Any]


def post(tx: Transaction, agent_id: str, message: Message) -> Posted:
    """Write a message down; when it wakes, queue its turn. A key posts once."""
    agents.require_active(tx, agent_id)
    if message.key and (posted := _posted_before(tx, agent_id, message.key)):
        return posted
    if events.unread_count(tx, agent_id, up_to=UNREAD_LIMIT) >= UNREAD_LIMIT:
        raise TooManyWaiting(f"The inbox of agent {agent_id}", UNREAD_LIMIT)
    request_id = message.request_id or str(uuid.uuid4())
    event_id = _append_input(tx, agent_id, message, request_id)
    if message.source == f"agent/{agent_id}":
        events.mark_own(tx, agent_id, event_id, message.priority)
        return Posted(event_id=event_id, turn_id=None, request_id=request_id)
    turn_id = None
    if message.priority.wakes:
        turn_id = _queue_turn(tx, agent_id, message.priority, event_id)
        _cut_wait_short(tx, agent_id)
    if message.priority is Priority.INTERRUPT:
        _interrupt_running(tx, agent_id)
    events.mark(tx, agent_id, event_id, message.priority, turn_id)
    agents.refresh(tx, agent_id)
    return Posted(event_id=event_id, turn_id=turn_id, request_id=request_id)


def _cut_wait_short(tx: Transaction, agent_id: str) -> None:
    """End the wait of the agent's parked turn soon: somebody wants its attention."""
    due = now_us() + int(GRACE_SECONDS * SECOND_US)
    cut = tx.one(
        "UPDATE waits SET deadline_at = ? WHERE deadline_at > ? AND task_id ="
        " (SELECT turn_id FROM agents WHERE id = ?) RETURNING task_id",
        due,
        due,
        agent_id,
    )
    if cut:
        tx.ring(tasks.DUE_CHANNEL)


def notice_wake(tx: Transaction, turn: Turn) -> Row | None:
    """Return the oldest waking event that this turn has not heard of, and note that it
    has now: `{id, stream, priority}`. It stays unread; its own turn will take it."""
    row = _unheard_wake(tx, turn)
    if row is not None:
        # All that wait now, not only the oldest: a crowd ends one wait, not many.
        tx.execute(
            "UPDATE marks SET noticed_by = ? WHERE reader = ? AND rank <= ?"
            " AND read_at IS NULL",
            turn.id,
            turn.agent["id"],
            Priority.WAKE.rank,
        )
    return row


def _unheard_wake(tx: Transaction, turn: Turn) -> Row | None:
    return tx.one(
        "SELECT events.id, events.stream, events.priority FROM marks JOIN events"
        " ON events.id = marks.event_id WHERE marks.reader = ? AND marks.rank <= ?"
        " AND marks.read_at IS NULL AND (marks.turn_id IS NULL OR marks.turn_id <> ?)"
        " AND (marks.noticed_by IS NULL OR marks.noticed_by <> ?)"
        " ORDER BY marks.rank, events.id LIMIT 1",
        turn.agent["id"],
        Priority.WAKE.rank,
        turn.id,
        turn.id,
    )


def _posted_before(tx: Transaction, agent_id: str, key: str) -> Posted | None:
    row = tx.one(
        "SELECT events.id, events.payload, marks.turn_id FROM events JOIN marks"
        " ON marks.event_id = events.id AND marks.reader = ? WHERE events.key = ?",
        agent_id,
        key,
    )
    if row is None:
        return None
    request_id = json.load(row["payload"])["request_id"]
    return Posted(event_id=row["id"], turn_id=row["turn_id"], request_id=request_id)


def _append_input(
    tx: Transaction, agent_id: str, message: Message, request_id: str
) -> int:
    return events.append(
        tx,
        NewEvent(
            stream=message.stream,
            scope=f"agent/{agent_id}",
            subject=message.subject or request_id,
            kind=message.kind,
            priority=message.priority,
            body=message.text,
            payload={
                **message.payload,
                "request_id": request_id,
                "context": message.context,
            },
            source=message.source,
            cause_id=message.cause_id,
            hop=message.hop,
            key=message.key,
        ),
    )[0]


def _queue_turn(
    tx: Transaction, agent_id: str, priority: Priority, event_id: int
) -> str:
    held = tx.one(
        "SELECT 1 AS x FROM agents WHERE id = ? AND turn_id IS NOT NULL", agent_id
    )
    row, _ = tasks.create(
        tx,
        tasks.NewTask(
            type="turn",
            payload={"event_id": event_id},
            agent_id=agent_id,
            priority=priority,
            cause_id=event_id,
        ),
        hint=held is None,  # the end of the turn that holds the agent hints the next
    )
    return str(row["id"])


def claim(tx: Transaction, hinted_id: str, worker: Worker) -> Turn | None:
    """Claim the first turn in the line of the hinted turn's agent, if any is free.

    The hint names a turn, but two hints may be handled in either order; the line may
    not.
    """
    hinted = tasks.find(tx, hinted_id)
    if hinted is None or hinted["agent_id"] is None:
        return None
    agent = tx.one(
        f"SELECT * FROM agents WHERE id = ?{tx.for_update}", hinted["agent_id"]
    )
    if agent is None or agent["archived_at"] is not None:
        return None
    id = agent["turn_id"] or _head_of_line(tx, agent["id"])
    row = tasks.claim(tx, id, worker) if id else None
    return None if row is None else _begin(tx, agent, row)


def _head_of_line(tx: Transaction, agent_id: str) -> str | None:
    row = tx.one(
        "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn'"
        " AND status = 'queued' AND (not_before_at IS NULL OR not_before_at <= ?)"
        " ORDER BY rank, seq LIMIT 1",
        agent_id,
        now_us(),
    )
    return row["id"] if row else None


def _begin(tx: Transaction, agent: Row, row: Row) -> Turn:
    tx.execute("UPDATE agents SET turn_id = ? WHERE id = ?", row["id"], agent["id"])
    agents.refresh(tx, agent["id"])
    is_resumed = bool(
        tx.one("SELECT 1 AS x FROM entries WHERE turn_id = ? LIMIT 1", row["id"])
    )
    inputs = _inputs(tx, row["id"]) if is_resumed else _take_inputs(tx, agent, row)
    if not is_resumed:
        _open(tx, agent, row, inputs)
    return Turn(
        id=row["id"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        agent=agent,
        inputs=inputs,
        history=entries.rebuild(tx, agent["id"], agent["generation"], row["id"]),
        cause_id=row["cause_id"],
        is_resumed=is_resumed,
    )


def _take_inputs(tx: Transaction, agent: Row, row: Row) -> list[Row]:
    """The turn takes its own message and every unread one that wakes nobody."""
    tx.execute(
        "UPDATE marks SET turn_id = ? WHERE reader = ? AND read_at IS NULL"
        " AND turn_id IS NULL",
        row["id"],
        agent["id"],
    )
    return _inputs(tx, row["id"])


def _inputs(tx: Transaction, turn_id: str) -> list[Row]:
    rows = tx.execute(
        "SELECT events.* FROM marks JOIN events ON events.id = marks.event_id"
        " WHERE marks.turn_id = ? ORDER BY marks.rank, events.id",
        turn_id,
    )
    return [events.shape(row) for row in rows]


def _open(tx: Transaction, agent: Row, row: Row, inputs: list[Row]) -> None:
    entries.append(
        tx,
        agent["id"],
        agent["generation"],
        row["id"],
        NewEntry(
            type="user_message",
            role="user",
            content=_as_content(inputs),
            data={"event_ids": [event["id"] for event in inputs]},
        ),
    )
    events.emit_turn(
        tx, agent["id"], row["id"], "turn_start", {}, cause_id=row["cause_id"]
    )


def _as_content(inputs: list[Row]) -> list[dict[str, Any]]:
    waking = [event for event in inputs if Priority(event["priority"]).wakes]
    quiet = [event for event in inputs if not Priority(event["priority"]).wakes]
    blocks = [{"type": "text", "text": event["body"]} for event in waking]
    if quiet:
        lines = "\n".join(f"- {event['body']}" for event in quiet)
        note = f"Since your last turn, without hurry:\n{lines}"
        blocks.append({"type": "text", "text": note})
    return blocks


def emit_fenced(
    tx: Transaction, turn: Turn, emissions: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    """Append events of a turn that this worker still holds."""
    leases.guard(tx, turn.id, turn.epoch)
    for kind, payload in emissions:
        events.emit_turn(tx, turn.agent["id"], turn.id, kind, payload)


def complete(tx: Transaction, turn: Turn, reply: Reply) -> None:
    """End the turn: result, reply, inputs read, lease released, next turn hinted."""
    leases.guard(tx, turn.id, turn.epoch)
    tx.execute(
        "UPDATE tasks SET usage = ? WHERE id = ?", json.dump(reply.usage), turn.id
    )
    _route(tx, turn, reply)
    tasks.complete(tx, turn.id, turn.epoch, {"text": reply.text})


def _route(tx: Transaction, turn: Turn, reply: Reply) -> None:
    """Send the reply to the agent that asked, unless it awaits the turn itself.

    The answer to an answer goes nowhere: that is how two polite agents would never
    stop.
    """
    for event in turn.inputs:
        source = event["source"] or ""
        awaited = event["payload"].get("context", {}).get("reply") == "awaited"
        if event["kind"] == "message" and source.startswith("agent/") and not awaited:
            _route_to(tx, turn, reply, event)


def _route_to(tx: Transaction, turn: Turn, reply: Reply, event: Row) -> None:
    asker = str(event["source"]).removeprefix("agent/")
    row = tx.one("SELECT archived_at FROM agents WHERE id = ?", asker)
    if row is None or row["archived_at"] is not None:
        return
    post(
        tx,
        asker,
        Message(
            text=reply.text,
            kind="reply",
            source=f"agent/{turn.agent['id']}",
            request_id=event["payload"].get("request_id"),
            cause_id=event["id"],
            hop=event["hop"] + 1,
            key=f"reply/{turn.id}/{event['id']}",
        ),
    )


def fail(
    tx: Transaction, turn: Turn, error: dict[str, Any], *, retriable: bool
) -> bool:
    """Try the turn again later (True), or make it a dead letter."""
    leases.guard(tx, turn.id, turn.epoch)
    if _is_cancelled(tx, turn):
        return False
    if retriable and turn.attempts < MAX_ATTEMPTS:
        _back_off(tx, turn, error)
        return True
    _append_error(tx, turn, error)
    tasks.fail(tx, turn.id, turn.epoch, error)
    return False


def _back_off(tx: Transaction, turn: Turn, error: dict[str, Any]) -> None:
    delay = min(BACKOFF_SECONDS * 2 ** (turn.attempts - 1), BACKOFF_LIMIT_SECONDS)
    delay *= random.uniform(0.5, 1.0)
    # A provider that names a delay gets it, up to the same limit.
    asked = float(error.get("retry_after_seconds") or 0.0)
    delay = max(delay, min(asked, BACKOFF_LIMIT_SECONDS))
    now = now_us()
    tx.execute(
        "UPDATE tasks SET status = 'queued', lease_owner = NULL, error = ?,"
        " lease_expires_at = NULL, attempts = attempts + 1, not_before_at = ?,"
        " hinted_at = NULL, updated_at = ? WHERE id = ?",
        json.dump(error),
        now + int(delay * SECOND_US),
        now,
        turn.id,
    )
    updates.append(tx, turn.id, "retry", {**error, "delay_seconds": round(delay, 3)})
    tasks.release_agent(tx, turn.agent["id"], turn.id)


def _append_error(tx: Transaction, turn: Turn, error: dict[str, Any]) -> None:
    entries.append(
        tx,
        turn.agent["id"],
        turn.agent["generation"],
        turn.id,
        NewEntry(
            type="error",
            role=None,
            content=[{"type": "text", "text": error["message"]}],
            status="failed",
            data=error,
        ),
    )


def edit_and_retry(tx: Transaction, turn_id: str, text: str) -> Row:
    """Retry a dead letter with another text: its message is what was wrong.

    The event stays as it was sent. The turn gets a second message, and begins there.
    """
    row = tasks.retry(tx, turn_id)
    agent = agents.require_active(tx, row["agent_id"])
    entries.append(
        tx,
        agent["id"],
        agent["generation"],
        turn_id,
        NewEntry(
            type="user_message",
            role="user",
            content=[{"type": "text", "text": text}],
            data={"edited": True},
        ),
    )
    return row


def cancel(tx: Transaction, turn: Turn, reason: str | None) -> None:
    """End a turn that somebody asked to stop."""
    leases.guard(tx, turn.id, turn.epoch)
    error = leases.stopped_error("cancel", reason)
    tasks.end(tx, turn.id, "cancelled", error=error)


def _is_cancelled(tx: Transaction, turn: Turn) -> bool:
    """Cancel a turn that was asked to stop just before it left its worker."""
    row = tasks.get(tx, turn.id)
    if row["stop_verb"] != "cancel":
        return False
    cancel(tx, turn, row["stop_reason"])
    return True


def forget_wait(tx: Transaction, turn_id: str, step: int) -> None:
    """Forget what a step waited for: it is over."""
    tx.execute("DELETE FROM waits WHERE task_id = ? AND step = ?", turn_id, step)


def compact(tx: Transaction, agent_id: str, reason: str | None) -> int:
    """Begin a new generation with an empty conversation; return its number.

    The entries of the old one stay, readable under their generation. A turn that runs
    ends in the generation in which it began.
    """
    agent = agents.require_active(tx, agent_id)
    generation = int(agent["generation"]) + 1
    tx.execute("UPDATE agents SET generation = ? WHERE id = ?", generation, agent_id)
    entries.append(
        tx,
        agent_id,
        generation,
        None,
        NewEntry(
            type="context_compaction",
            role=None,
            content=[{"type": "text", "text": reason or "asked for"}],
            data={"reason": reason},
        ),
    )
    agents.refresh(tx, agent_id)
    return generation


def stop_current(tx: Transaction, agent_id: str) -> None:
    """Cancel the turn that holds the agent, if one does."""
    row = tx.one("SELECT turn_id FROM agents WHERE id = ?", agent_id)
    if row and row["turn_id"]:
        tasks.cancel(tx, row["turn_id"], "The agent was stopped.")


def interrupt(tx: Transaction, agent_id: str) -> None:
    """Ask the worker of the agent's turn to cut its model call short."""
    agents.require_active(tx, agent_id)
    if not _interrupt_running(tx, agent_id):
        raise Conflict(f"Agent {agent_id} takes no turn now; nothing to interrupt.")


def _interrupt_running(tx: Transaction, agent_id: str) -> bool:
    """Tell the worker that takes the agent's turn, if one does."""
    row = tx.one(
        "UPDATE tasks SET stop_verb = 'interrupt' WHERE status = 'running'"
        " AND stop_verb IS NULL"
        " AND id = (SELECT turn_id FROM agents WHERE id = ?) RETURNING id",
        agent_id,
    )
    if row is not None:
        tx.ring(tasks.STOP_CHANNEL)
    return row is not None


def park(tx: Transaction, turn: Turn, wait: Park) -> bool:
    """Write the wake conditions down and let the thread go.

    False when a condition holds already: then the turn is queued again instead.
    """
    leases.guard(tx, turn.id, turn.epoch)
    if _is_cancelled(tx, turn):
        return True
    over = _is_over(tx, wait) or _unheard_wake(tx, turn) is not None
    now = now_us()
    tx.execute("DELETE FROM waits WHERE task_id = ? AND step = ?", turn.id, wait.step)
    for target_id in wait.target_ids or (None,):
        tx.execute(
            "INSERT INTO waits (task_id, step, target_id, deadline_at, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            turn.id,
            wait.step,
            target_id,
            wait.deadline_at,
            now,
        )
    tx.execute(
        "UPDATE tasks SET status = ?, lease_owner = NULL, lease_expires_at = NULL,"
        " waiting_for = ?, hinted_at = ?, updated_at = ? WHERE id = ?",
        "queued" if over else "waiting",
        None if over else json.dump(wait.why),
        now,
        now,
        turn.id,
    )
    agents.refresh(tx, turn.agent["id"])
    if over:
        tx.hint("turn", turn.id)
    elif wait.deadline_at is not None:
        tx.ring(tasks.DUE_CHANNEL)
    return not over


def _is_over(tx: Transaction, wait: Park) -> bool:
    if wait.deadline_at is not None and wait.deadline_at <= now_us():
        return True
    for target_id in wait.target_ids:
        row = tx.one(
            f"SELECT finished_at FROM tasks WHERE id = ?{tx.for_update}", target_id
        )
        if row is None or row["finished_at"] is not None:
            return True
    return False


def wait_of(tx: Transaction, turn_id: str, step: int) -> Row | None:
    """Return what a step wrote down when it parked: `{target_ids, deadline_at}`."""
    rows = tx.execute(
        "SELECT target_id, deadline_at FROM waits WHERE task_id = ? AND step = ?",
        turn_id,
        step,
    )
    if not rows:
        return None
    targets = [row["target_id"] for row in rows]
    return {"target_ids": targets, "deadline_at": rows[0]["deadline_at"]}
