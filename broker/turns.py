"""Turns: an agent's messages come in, a worker takes the turn, a reply goes out.

One turn at a time holds an agent (`agents.turn_id`), from its claim to its end, to its
back-off after a failure, or across a park. Every waking message has a turn of its own,
queued at once, so its id is known to the sender; turns of one agent run in order of
rank and age.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from broker import (
    agents,
    budgets,
    costs,
    entries,
    events,
    frames,
    json,
    leases,
    limits,
    routing,
    tasks,
    together,
    updates,
    waking,
)
from broker.database import Row, Transaction
from broker.entries import NewEntry
from broker.errors import Conflict, TooManyWaiting
from broker.events import NewEvent
from broker.leases import Worker
from broker.states import Priority, Stream
from broker.times import SECOND_US, now_us

# What somebody says, as against what happened: it goes first (G20), and it steers.
MESSAGES: Final = frozenset({"message", "reply"})
# Back-pressure: an agent may have this many unread inputs.
UNREAD_LIMIT: Final = 1_000
# A failing turn is tried this often in all, with back-off between, before it is a dead
# letter: 2, 4, 8 … seconds, halved at random so that many do not come back at once.
MAX_ATTEMPTS: Final = 4
# How much of what does not hurry one turn takes, and how many events are measured at a
# time: a pile of it must neither fill a model's window nor hold up the claim.
QUIET_CHARACTERS: Final = 200_000
QUIET_PAGE: Final = 50
# How many of an agent's newest events are looked at for what its tasks put out.
PROGRESS_EVENTS: Final = 200
# What a retried turn reads where a message stood that it has given back.
GIVEN_AWAY: Final = [
    {"type": "text", "text": "(A message stood here. Another turn has answered it.)"}
]
# A turn whose claim breaks once more than this (its inputs cannot be read, say) is a
# dead letter.
CLAIMS_LIMIT: Final = 3
BACKOFF_SECONDS: Final = 2.0
BACKOFF_LIMIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What somebody says to an agent. `model` answers it in place of the agent's."""

    text: str
    model: str | None = None
    priority: Priority = Priority.WAKE
    source: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    kind: str = "message"
    stream: Stream = Stream.TASK_INPUT
    subject: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    cause_id: int | None = None
    hop: int | None = None
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
    # Somebody interrupted it while nobody ran it.
    is_interrupted: bool = False

    @property
    def model(self) -> str | None:
        """The model that its message asks for, or else the agent's."""
        named: list[str | None] = [
            each["payload"].get("model")
            for each in self.inputs
            if each["id"] == self.cause_id
        ]
        return next(iter(named), None) or self.agent["model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a turn ended well."""

    text: str
    usage: dict[str, Any]
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """What a step of a parked turn waits for: any of the tasks to end, or the time to
    come. A turn may wait in several steps at once."""

    step: int
    target_ids: tuple[str, ...]
    deadline_at: int | None
    why: dict[str, Any]


def post(tx: Transaction, agent_id: str, message: Message) -> Posted:
    """Write a message down; when it wakes, queue its turn. A key posts once."""
    agents.require_active(tx, agent_id)
    if message.key and (posted := _posted_before(tx, agent_id, message.key)):
        return posted
    message = _from_agent(tx, agent_id, message)
    _refuse_flood(tx, agent_id, message.priority)
    request_id = message.request_id or str(uuid.uuid4())
    event_id = _append_input(tx, agent_id, message, request_id)
    if message.source == f"agent/{agent_id}":
        events.mark_read_by(tx, agent_id, event_id, message.priority)
        return Posted(event_id=event_id, turn_id=None, request_id=request_id)
    is_message = message.kind in MESSAGES
    turn_id = waking.wake_agent(
        tx, agent_id, event_id, message.priority, is_message=is_message
    )
    return Posted(event_id=event_id, turn_id=turn_id, request_id=request_id)


def _from_agent(tx: Transaction, agent_id: str, message: Message) -> Message:
    """Give what an agent writes to another its hop; refuse what would be too much."""
    sender = together.agent_of(message.source)
    if sender is None or sender == agent_id:
        return message
    hop = max(message.hop or 0, together.hop_after(tx, message.cause_id))
    together.refuse_too_much(tx, sender, agent_id, message.cause_id, hop)
    return replace(message, hop=hop)


def _refuse_flood(tx: Transaction, agent_id: str, priority: Priority) -> None:
    """Bound what waits. Interrupts, what else hurries and what does not are counted
    apart, so that a flood of news never keeps out the message that would have it read,
    nor a flood of messages what would end it."""
    quiet = (Priority.NORMAL, Priority.LOW)
    ranks = [each.rank for each in (quiet if priority in quiet else (priority,))]
    unread = events.unread_count(
        tx, agent_id, up_to=UNREAD_LIMIT, ranks=(min(ranks), max(ranks))
    )
    if unread >= UNREAD_LIMIT:
        raise TooManyWaiting(f"The inbox of agent {agent_id}", UNREAD_LIMIT)


def _posted_before(tx: Transaction, agent_id: str, key: str) -> Posted | None:
    """What was posted under this key; its own turn, also when another absorbed that."""
    row = tx.one(
        "SELECT events.id, events.payload, own.id AS turn_id FROM events JOIN marks"
        " ON marks.event_id = events.id AND marks.reader = ?"
        " LEFT JOIN tasks AS own ON own.cause_id = events.id"
        " AND (own.id = marks.turn_id OR own.absorbed_by = marks.turn_id)"
        " WHERE events.key = ?",
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
                **({"model": message.model} if message.model else {}),
            },
            source=message.source,
            cause_id=message.cause_id,
            hop=message.hop,
            key=message.key,
        ),
    )[0]


def claim(tx: Transaction, hinted_id: str, worker: Worker) -> Turn | None:
    """Claim the first turn in the line of the hinted turn's agent, if any is free.

    The hint names a turn, but two hints may be handled in either order; the line may
    not.
    """
    agent, id = _first_in_line(tx, hinted_id)
    row = tasks.claim(tx, id, worker) if id else None
    return None if agent is None or row is None else _begin(tx, agent, row)


def claim_failed(tx: Transaction, hinted_id: str, error: dict[str, Any]) -> None:
    """Note that the claim after this hint broke: the turn is left alone for a while,
    and is a dead letter when that has happened too often. Nothing else of its agent
    waits for it."""
    _, id = _first_in_line(tx, hinted_id)
    row = tasks.find(tx, id) if id else None
    if row is None or row["status"] != "queued":
        return
    if row["crashes"] >= CLAIMS_LIMIT:
        tasks.end(tx, row["id"], "failed", error=error)
        return
    now = now_us()
    delay = BACKOFF_SECONDS * 2 ** row["crashes"]
    tx.execute(
        "UPDATE tasks SET crashes = crashes + 1, not_before_at = ?, error = ?,"
        " hinted_at = NULL, updated_at = ? WHERE id = ?",
        now + int(delay * SECOND_US),
        json.dump(error),
        now,
        row["id"],
    )
    tasks.release_agent(tx, row["agent_id"], row["id"])


def _first_in_line(tx: Transaction, hinted_id: str) -> tuple[Row | None, str | None]:
    """The agent that a hint leads to, locked, and its turn that comes first."""
    hinted = tasks.find(tx, hinted_id)
    if hinted is None or hinted["agent_id"] is None:
        return None, None
    agent = tx.one(
        f"SELECT * FROM agents WHERE id = ?{tx.for_update}", hinted["agent_id"]
    )
    if agent is None or agent["archived_at"] is not None:
        return None, None
    return agent, agent["turn_id"] or _head_of_line(tx, agent["id"])


def _head_of_line(tx: Transaction, agent_id: str) -> str | None:
    row = tx.one(
        "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn'"
        " AND status = 'queued' AND absorbed_by IS NULL"
        " AND (not_before_at IS NULL OR not_before_at <= ?)"
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
    history = entries.rebuild(tx, agent["id"], agent["generation"], row["id"])
    return Turn(
        id=row["id"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        agent=agent,
        inputs=inputs,
        history=_without_given_away(history, row["id"], inputs),
        cause_id=row["cause_id"],
        is_resumed=is_resumed,
        is_interrupted=row["stop_verb"] == "interrupt",
    )


def _without_given_away(
    history: list[Row], turn_id: str, inputs: list[Row]
) -> list[Row]:
    """Leave a note in place of what the turn had taken in and gave back as it failed:
    another has answered it by now. (A gap would put two answers side by side.)"""
    own = {event["id"] for event in inputs}
    return [
        {**entry, "content": GIVEN_AWAY, "data": None}
        if entry["turn_id"] == turn_id and _is_given_away(entry, own)
        else entry
        for entry in history
    ]


def _is_given_away(entry: Row, own: set[int]) -> bool:
    data = entry["data"] or {}
    return bool(data.get("steering")) and own.isdisjoint(data["event_ids"])


def _take_inputs(tx: Transaction, agent: Row, row: Row) -> list[Row]:
    """The turn takes its own message and, oldest first, the unread ones that wake
    nobody, as far as there is room: the others wait for the next turn."""
    characters, after = 0, 0
    while characters < QUIET_CHARACTERS and (page := _quiet(tx, agent["id"], after)):
        for mark in page:
            characters += mark["characters"]
            after = mark["event_id"]
            if characters >= QUIET_CHARACTERS:
                break
        tx.execute(
            "UPDATE marks SET turn_id = ? WHERE reader = ? AND read_at IS NULL"
            " AND turn_id IS NULL AND event_id <= ?",
            row["id"],
            agent["id"],
            after,
        )
    return _inputs(tx, row["id"])


def _quiet(tx: Transaction, agent_id: str, after: int) -> list[Row]:
    # The pluses keep SQLite from walking all that the agent has ever read in order to
    # spare itself the sorting of what it has not.
    return tx.execute(
        "SELECT marks.event_id, LENGTH(events.body) + LENGTH(events.payload)"
        " AS characters FROM marks JOIN events ON events.id = marks.event_id"
        " WHERE marks.reader = ? AND marks.read_at IS NULL AND marks.turn_id IS NULL"
        " AND +marks.event_id > ? ORDER BY +marks.event_id LIMIT ?",
        agent_id,
        after,
        QUIET_PAGE,
    )


def _inputs(tx: Transaction, turn_id: str) -> list[Row]:
    rows = tx.execute(
        "SELECT events.*, marks.text AS edited FROM marks"
        " JOIN events ON events.id = marks.event_id"
        " WHERE marks.turn_id = ? ORDER BY marks.rank, events.id",
        turn_id,
    )
    return [events.shape(row) for row in rows]


def _open(tx: Transaction, agent: Row, row: Row, inputs: list[Row]) -> None:
    waking = next((e for e in inputs if Priority(e["priority"]).wakes), None)
    quiet = [event for event in inputs if event is not waking]
    is_news = waking is not None and waking["kind"] == "task_update"
    last_at = _last_at(tx, agent)
    news = [*_progress(tx, agent, last_at), *quiet]
    frame = frames.build(waking, news, last_at=last_at, now=now_us())
    entries.append(
        tx,
        agent["id"],
        agent["generation"],
        row["id"],
        NewEntry(
            type="wake" if is_news else "user_message",
            role="user",
            content=_as_content(waking, quiet),
            data={"event_ids": [event["id"] for event in inputs], "frame": frame},
        ),
    )
    events.append(
        tx,
        NewEvent(
            stream=Stream.SIGNALS,
            scope=f"agent/{agent['id']}",
            kind="agent_run_start",
            payload={"turn_id": row["id"]},
            cause_id=row["cause_id"],
        ),
    )
    events.emit_turn(
        tx, agent["id"], row["id"], "turn_start", {}, cause_id=row["cause_id"]
    )


def _last_at(tx: Transaction, agent: Row) -> int | None:
    """When the agent last thought, said or did anything."""
    if agent["last_entry_id"] is None:
        return None
    last = tx.one("SELECT created_at FROM entries WHERE id = ?", agent["last_entry_id"])
    return last["created_at"] if last else None


def _progress(tx: Transaction, agent: Row, last_at: int | None) -> list[Row]:
    """What tasks in the background have put out since the agent last did anything: it
    hurries nobody and is nobody's input, but it is news (G60). Only the newest of an
    agent's events are looked at, so a task that floods them costs no more; and only if
    there is such a task, for they lie all over a large database."""
    is_any = tx.one(
        "SELECT 1 AS x FROM tasks WHERE agent_id = ? AND type = 'exec'"
        " AND status IN ('queued', 'running', 'waiting') AND awaited_by IS NULL"
        " LIMIT 1",
        agent["id"],
    )
    if not is_any:
        return []
    rows = tx.execute(
        "SELECT newest.* FROM (SELECT * FROM events WHERE scope = ?"
        " ORDER BY id DESC LIMIT ?) AS newest JOIN tasks ON tasks.id = newest.subject"
        " WHERE newest.kind = 'task_update' AND newest.created_at > ?"
        " AND newest.priority = 'normal' AND tasks.type <> 'turn'"
        " AND tasks.awaited_by IS NULL AND tasks.status = 'running'"
        " ORDER BY newest.id",
        f"agent/{agent['id']}",
        PROGRESS_EVENTS,
        last_at or 0,
    )
    told = [events.shape(row) for row in rows]
    return [e for e in told if updates.is_output(str(e["payload"].get("task_kind")))]


def _as_content(waking: Row | None, quiet: list[Row]) -> list[dict[str, Any]]:
    blocks = [] if waking is None else [{"type": "text", "text": waking["body"]}]
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
        events.emit_turn(
            tx, turn.agent["id"], turn.id, kind, payload, cause_id=turn.cause_id
        )


def complete(tx: Transaction, turn: Turn, reply: Reply) -> None:
    """End the turn: result, reply, inputs read, lease released, next turn hinted.

    It has also used what the summaries took that were made within it.
    """
    leases.guard(tx, turn.id, turn.epoch)
    summaries = costs.summaries_of(tx, turn.id)
    usage = costs.total([reply.usage, *(each["usage"] for each in summaries)])
    tx.execute("UPDATE tasks SET usage = ? WHERE id = ?", json.dump(usage), turn.id)
    result: dict[str, Any] = {"text": reply.text}
    if reply.is_interrupted:
        result["interrupted"] = True
    tasks.complete(tx, turn.id, turn.epoch, result)


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
    budgets.release(tx, turn.id)
    delay = min(BACKOFF_SECONDS * 2 ** (turn.attempts - 1), BACKOFF_LIMIT_SECONDS)
    delay *= random.uniform(0.5, 1.0)
    # A provider that names a delay gets it, up to the same limit.
    asked = float(error.get("retry_after_seconds") or 0.0)
    delay = max(delay, min(asked, BACKOFF_LIMIT_SECONDS))
    now = now_us()
    tx.execute(
        "UPDATE tasks SET status = 'queued', lease_owner = NULL, error = ?,"
        " lease_expires_at = NULL, attempts = attempts + 1, not_before_at = ?,"
        " stop_verb = NULL,"
        " hinted_at = NULL, updated_at = ? WHERE id = ?",
        json.dump(error),
        now + int(delay * SECOND_US),
        now,
        turn.id,
    )
    updates.append(tx, turn.id, "retry", {**error, "delay_seconds": round(delay, 3)})
    _tell_of_retry(tx, turn, error, round(delay, 3))
    tasks.release_agent(tx, turn.agent["id"], turn.id)


def _tell_of_retry(tx: Transaction, turn: Turn, error: Row, delay: float) -> None:
    events.append(
        tx,
        NewEvent(
            stream=Stream.SIGNALS,
            scope=f"agent/{turn.agent['id']}",
            kind="turn_retry",
            body=error["message"],
            payload={
                "turn_id": turn.id,
                "attempt": turn.attempts + 1,
                "attempts_limit": MAX_ATTEMPTS,
                "delay_seconds": delay,
                "type": error["type"],
            },
            cause_id=turn.cause_id,
        ),
    )


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
            status="edited",
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


def stop_current(tx: Transaction, agent_id: str) -> None:
    """Cancel the turn that holds the agent, if one does."""
    row = tx.one("SELECT turn_id FROM agents WHERE id = ?", agent_id)
    if row and row["turn_id"]:
        tasks.cancel(tx, row["turn_id"], "The agent was stopped.")


def interrupt(tx: Transaction, agent_id: str) -> None:
    """Ask the agent's turn to end with what it has, in whatever phase it is."""
    agents.require_active(tx, agent_id)
    if not waking.interrupt_turn(tx, agent_id):
        raise Conflict(f"Agent {agent_id} takes no turn now; nothing to interrupt.")


def park(tx: Transaction, turn: Turn, waits: Sequence[Park], *, heeds: bool) -> bool:
    """Write the wake conditions down and let the thread go.

    False when one of them holds already, or (if it `heeds` them) a message waits that
    wakes: then the turn is queued again instead.
    """
    leases.guard(tx, turn.id, turn.epoch)
    row = tasks.get(tx, turn.id)
    if _is_cancelled(tx, turn):
        return True
    over = row["stop_verb"] is not None or any(_is_over(tx, wait) for wait in waits)
    over = over or (heeds and _wake_waits(tx, turn))
    now = now_us()
    tx.execute("DELETE FROM waits WHERE task_id = ?", turn.id)
    for wait in waits:
        _insert_wait(tx, turn, wait, now)
    tx.execute(
        "UPDATE tasks SET status = ?, lease_owner = NULL, lease_expires_at = NULL,"
        " waiting_for = ?, hinted_at = ?, updated_at = ? WHERE id = ?",
        "queued" if over else "waiting",
        None if over else json.dump(_why(waits)),
        now,
        now,
        turn.id,
    )
    agents.refresh(tx, turn.agent["id"])
    if over:
        tx.hint("turn", turn.id)
    elif any(wait.deadline_at is not None for wait in waits):
        tx.ring(tasks.DUE_CHANNEL)
    return not over


def _wake_waits(tx: Transaction, turn: Turn) -> bool:
    found = tx.one(
        "SELECT 1 AS x FROM marks JOIN tasks ON tasks.id = marks.turn_id"
        " JOIN events ON events.id = marks.event_id"
        " WHERE marks.reader = ? AND marks.rank <= ? AND marks.read_at IS NULL"
        " AND tasks.status = 'queued' AND tasks.started_at IS NULL"
        " AND tasks.absorbed_by IS NULL AND tasks.id <> ?"
        + ("" if routing.routes_left(turn.inputs) else routing.UNROUTED)
        + " LIMIT 1",
        turn.agent["id"],
        Priority.WAKE.rank,
        turn.id,
    )
    return found is not None


def _insert_wait(tx: Transaction, turn: Turn, wait: Park, now: int) -> None:
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


def _why(waits: Sequence[Park]) -> dict[str, Any]:
    """Say what a turn waits for, in one object however many steps wait."""
    first = waits[0].why
    if len(waits) == 1:
        return first
    named = [id for wait in waits for id in wait.why.get("task_ids", ())]
    return {**first, "task_ids": named, "steps": [wait.step for wait in waits]}


def _is_over(tx: Transaction, wait: Park) -> bool:
    if wait.deadline_at is not None and wait.deadline_at <= now_us():
        return True
    if wait.why.get("kind") == budgets.KIND:
        return budgets.has_room(tx, wait.why)
    if wait.why.get("kind") == limits.KIND:
        return False
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
