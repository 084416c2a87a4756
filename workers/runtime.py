"""What tools may do, on the broker: queue execs, wait, send, delegate, kill.

Each verb carries the key of its step, so a resumed turn that asks again gets the same
task or event back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from agents.control import Abandoned, Parked
from agents.runtime import RuntimeRefused, TaskView, Waited
from broker import Broker, agents, json, leases, tasks, turns, updates
from broker.agents import AgentChange
from broker.database import Row, Transaction
from broker.errors import BrokerError, LeaseLost
from broker.states import Priority
from broker.tasks import NewTask
from broker.times import SECOND_US, now_us
from broker.turns import Message, Turn

# A chain of agents that ask agents ends here, whatever they say to one another.
MAX_HOPS: Final = 16
EXEC_TIMEOUT_SECONDS: Final = 300.0


class TurnRuntime:
    """The runtime of one claimed turn."""

    def __init__(self, broker: Broker, turn: Turn) -> None:
        self._broker = broker
        self._turn = turn
        self._agent_id = str(turn.agent["id"])

    def start_exec(self, key: str, code: str, id: str | None) -> TaskView:
        """Queue an exec as a child of the turn."""
        with self._write() as tx:
            row, _ = tasks.create(
                tx,
                NewTask(
                    type="exec",
                    id=id,
                    payload={"code": code, "timeout_seconds": EXEC_TIMEOUT_SECONDS},
                    agent_id=self._agent_id,
                    parent_id=self._turn.id,
                    priority=Priority.WAKE,
                    cause_id=self._turn.cause_id,
                    key=key,
                ),
            )
        return _view(row)

    def wait_for(self, step: int, task_ids: Sequence[str], seconds: float) -> Waited:
        """Return when the first is over, the time is, or a waking message has come;
        until then, park the turn."""
        with self._write() as tx:
            waited = turns.wait_of(tx, self._turn.id, step)
            wanted = waited["target_ids"] if waited else task_ids
            views = [_view(self._target(tx, id)) for id in wanted]
            over = next((view for view in views if view.is_over), None)
            wake = None if over else turns.notice_wake(tx, self._turn)
        pending = tuple(view.id for view in views if not view.is_over)
        deadline_at = (
            waited["deadline_at"] if waited else now_us() + int(seconds * SECOND_US)
        )
        if over or wake or deadline_at <= now_us():
            if not over and not wake:
                self._tell_timeout(pending, seconds)
            return Waited(task=over or views[0], pending=pending, wake=wake)
        raise Parked(
            step=step,
            target_ids=pending,
            deadline_at=deadline_at,
            why={"kind": "task", "task_ids": list(pending), "step": step},
        )

    def _tell_timeout(self, pending: Sequence[str], seconds: float) -> None:
        with self._write() as tx:
            for id in pending:
                waited = {"timeout_ms": int(seconds * 1000), "turn_id": self._turn.id}
                updates.append(tx, id, "await_timeout", waited)

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        """Post to an agent, or write a line to an exec's input."""
        with self._write() as tx:
            if tasks.find(tx, target_id) is not None:
                return self._send_input(tx, target_id, body)
            posted = turns.post(tx, target_id, self._message(key, body, {}))
        return {"ok": True, "event_id": posted.event_id, "turn_id": posted.turn_id}

    def delegate(self, key: str, agent_id: str, text: str) -> TaskView:
        """Post to an agent, made if it is new, and return the turn that will answer."""
        if agent_id == self._agent_id:
            raise RuntimeRefused("An agent cannot delegate to itself.")
        with self._write() as tx:
            if tx.one("SELECT 1 AS x FROM agents WHERE id = ?", agent_id) is None:
                agents.upsert(tx, agent_id, AgentChange())
            message = self._message(key, text, {"reply": "awaited"})
            posted = turns.post(tx, agent_id, message)
            return _view(tasks.get(tx, str(posted.turn_id)))

    def kill(self, task_id: str, reason: str | None) -> None:
        """Kill a task and its children; one that is over already is dead enough."""
        if task_id == self._turn.id:
            raise RuntimeRefused("A turn cannot kill itself; just answer.")
        with self._write() as tx:
            if not _view(tasks.get(tx, task_id)).is_over:
                tasks.kill(tx, task_id, reason)

    def _message(self, key: str, text: str, context: dict[str, Any]) -> Message:
        hop = max((event["hop"] for event in self._turn.inputs), default=0) + 1
        if hop > MAX_HOPS:
            raise RuntimeRefused(
                f"This chain of agents is {hop} long; the limit is {MAX_HOPS}."
            )
        return Message(
            text=text,
            source=f"agent/{self._agent_id}",
            context=context,
            cause_id=self._turn.cause_id,
            hop=hop,
            key=f"send/{key}",
        )

    def _send_input(self, tx: Transaction, task_id: str, body: str) -> dict[str, Any]:
        row = tasks.get(tx, task_id)
        if row["type"] != "exec" or _view(row).is_over:
            raise RuntimeRefused(
                f"Task {task_id} is a {row['type']} that is {row['status']}; "
                "only an exec that is not over takes input."
            )
        updates.append(tx, task_id, "input", {"text": body})
        return {"ok": True}

    def _target(self, tx: Transaction, id: str) -> Row:
        """A task, or the turn that an agent is taking or will take next."""
        if id in (self._agent_id, self._turn.id):
            raise RuntimeRefused("A turn cannot wait for itself.")
        row = tasks.find(tx, id) or tx.one(
            "SELECT * FROM tasks WHERE agent_id = ? AND type = 'turn'"
            " ORDER BY CASE WHEN status IN ('running', 'waiting') THEN 0"
            " WHEN status = 'queued' THEN 1 ELSE 2 END, seq DESC LIMIT 1",
            id,
        )
        if row is None:
            raise RuntimeRefused(f"There is no task or agent {id!r} to wait for.")
        return row

    @contextmanager
    def _write(self) -> Iterator[Transaction]:
        try:
            with self._broker.database.write() as tx:
                leases.guard(tx, self._turn.id, self._turn.epoch)
                yield tx
        except LeaseLost as error:
            raise Abandoned from error
        except BrokerError as error:
            raise RuntimeRefused(error.detail) from error


def _view(row: Row) -> TaskView:
    return TaskView(
        id=row["id"],
        status=row["status"],
        result=json.load(row["result"]),
        error=json.load(row["error"]),
    )
