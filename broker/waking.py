"""What wakes an agent: an event of a rank that wakes has a turn of its own, queued at
once, and ends the wait of a turn that is parked.

The marks say who has what to read, and which turn takes it.
"""

from __future__ import annotations

from typing import Final

from broker import agents, events, task_rows, together
from broker.database import Row, Transaction
from broker.states import Priority
from broker.task_rows import NewTask
from broker.times import SECOND_US, now_us

# The doorbell that workers with running tasks listen on: somebody wants one to stop.
STOP_CHANNEL: Final = "stop"
# The doorbell of the scheduler: a deadline was written down.
DUE_CHANNEL: Final = "due"
# When a message cuts a wait short, the awaited task still has this long to win (G34).
GRACE_SECONDS: Final = 0.2


def wake_agent(
    tx: Transaction,
    agent_id: str,
    event_id: int,
    priority: Priority,
    *,
    is_message: bool = True,
    is_answer: bool = False,
) -> str | None:
    """Put an event before an agent; when it wakes, queue its turn and return its id.

    A message goes before other news of the same priority (G20). What answers, or ends,
    something that was accepted is never refused, however long the queue is.
    """
    turn_id = None
    if priority.wakes:
        turn_id = _queue_turn(
            tx,
            agent_id,
            event_id,
            priority,
            yields=not is_message,
            is_bounded=not is_answer,
        )
        cut_wait_short(tx, agent_id)
    if priority is Priority.INTERRUPT:
        interrupt_turn(tx, agent_id)
    events.mark(tx, agent_id, event_id, priority, turn_id)
    agents.refresh(tx, agent_id)
    return turn_id


def _queue_turn(
    tx: Transaction,
    agent_id: str,
    event_id: int,
    priority: Priority,
    *,
    yields: bool,
    is_bounded: bool,
) -> str:
    held = tx.one(
        "SELECT 1 AS x FROM agents WHERE id = ? AND turn_id IS NOT NULL", agent_id
    )
    row, _ = task_rows.create(
        tx,
        NewTask(
            type="turn",
            payload={"event_id": event_id},
            agent_id=agent_id,
            priority=priority,
            yields=yields,
            cause_id=event_id,
        ),
        hint=held is None,  # the end of the turn that holds the agent hints the next
        is_bounded=is_bounded,
    )
    return str(row["id"])


def cut_wait_short(tx: Transaction, agent_id: str) -> None:
    """End the wait of the agent's parked turn soon: somebody wants its attention.

    A turn that waits for its prompt (step 0) waits on: it cannot think without one.
    """
    due = now_us() + int(GRACE_SECONDS * SECOND_US)
    cut = tx.one(
        "UPDATE waits SET deadline_at = ? WHERE step > 0"
        " AND (deadline_at IS NULL OR deadline_at > ?)"
        " AND task_id = (SELECT turn_id FROM agents WHERE id = ?) RETURNING task_id",
        due,
        due,
        agent_id,
    )
    if cut:
        tx.ring(DUE_CHANNEL)


def interrupt_turn(tx: Transaction, agent_id: str) -> bool:
    """Tell the turn that holds the agent to end with what it has; False without one.

    A running turn hears it from its keeper, a parked one when it is claimed again.
    """
    row = tx.one(
        "UPDATE tasks SET stop_verb = 'interrupt'"
        " WHERE status IN ('queued', 'running', 'waiting') AND stop_verb IS NULL"
        " AND id = (SELECT turn_id FROM agents WHERE id = ?) RETURNING id, status",
        agent_id,
    )
    if row is None:
        return False
    tx.ring(STOP_CHANNEL)
    if row["status"] == "waiting":
        queue_again(tx, row["id"])
    return True


def queue_again(tx: Transaction, id: str) -> bool:
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


def tell_of_end(tx: Transaction, row: Row, event_id: int) -> None:
    """Wake the agent whose turn started this task in the background, now that it is
    over. A turn that waits for it needs no telling; nor does one that stopped it."""
    if row["status"] == "cancelled" or _is_awaited(tx, row):
        return
    agent = tx.one(
        "SELECT agents.id FROM tasks JOIN agents ON agents.id = tasks.agent_id"
        " WHERE tasks.id = ? AND tasks.type = 'turn' AND agents.id = ?"
        " AND agents.archived_at IS NULL",
        row["parent_id"],
        row["agent_id"],
    )
    if agent is not None and row["type"] != "prompt":
        _wake_with_news(tx, agent["id"], event_id)


def _wake_with_news(tx: Transaction, agent_id: str, event_id: int) -> None:
    """Wake an agent, unless news has woken it too often: then it reads it later."""
    priority = Priority.WAKE
    if together.is_storm(tx, agent_id):
        priority = Priority.NORMAL
        events.quiet(tx, event_id)
        together.report_storm(tx, agent_id, event_id)
    wake_agent(tx, agent_id, event_id, priority, is_message=False, is_answer=True)


def _is_awaited(tx: Transaction, row: Row) -> bool:
    found = tx.one(
        "SELECT 1 AS x FROM tasks WHERE id = ? AND agent_id = ?"
        " AND status IN ('queued', 'running', 'waiting')",
        row["awaited_by"],
        row["agent_id"],
    )
    return found is not None
