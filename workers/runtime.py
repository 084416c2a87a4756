"""What tools may do, on the broker: queue execs, wait, send, delegate, kill.

Each verb carries the key of its step, so a resumed turn that asks again gets the same
task or event back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from agents.control import Abandoned, Parked, Stop, Waiting
from agents.runtime import (
    ArtifactPage,
    FoundFile,
    RuntimeRefused,
    TaskView,
    Waited,
)
from broker import (
    Broker,
    agents,
    artifacts,
    json,
    leases,
    results,
    search,
    steering,
    steps,
    tasks,
    together,
    turns,
    updates,
)
from broker.agents import AgentChange
from broker.artifacts import NewArtifact
from broker.database import Row, Transaction
from broker.errors import BrokerError, ChainStopped, LeaseLost
from broker.states import Priority
from broker.tasks import NewTask
from broker.times import SECOND_US, now_us
from broker.together import Origin
from broker.turns import Message, Posted, Turn
from workers.fetch import fetch
from workers.home_files import read_home_file

EXEC_TIMEOUT_SECONDS: Final = 300.0

_OPEN_TURN: Final = (
    "SELECT tasks.* FROM tasks LEFT JOIN events ON events.id = tasks.cause_id"
    " WHERE tasks.agent_id = ? AND tasks.type = 'turn'"
    " AND tasks.status IN ('queued', 'running', 'waiting')"
    " ORDER BY CASE WHEN events.source = ? THEN 0 ELSE 1 END,"
    " CASE WHEN tasks.status = 'queued' THEN 1 ELSE 0 END, tasks.rank, tasks.seq"
    " LIMIT 1"
)
_LAST_TURN: Final = (
    "SELECT * FROM tasks WHERE agent_id = ? AND type = 'turn' ORDER BY seq DESC LIMIT 1"
)


class TurnRuntime:
    """The runtime of one claimed turn."""

    def __init__(self, broker: Broker, turn: Turn, stop: Stop) -> None:
        self._broker = broker
        self._turn = turn
        self._stop = stop
        self._agent_id = str(turn.agent["id"])

    def start_exec(
        self, key: str, code: str, id: str | None, *, waits: bool
    ) -> TaskView:
        """Queue an exec as a child of the turn."""
        with self._write() as tx:
            if not tx.one("SELECT 1 AS x FROM tasks WHERE key = ?", key):
                together.refuse_fan_out(tx, self._turn.id)
            row, _ = tasks.create(
                tx,
                NewTask(
                    type="exec",
                    id=id,
                    metadata={"tool_call_id": steps.tool_call_id(tx, key)},
                    payload={"code": code, "timeout_seconds": EXEC_TIMEOUT_SECONDS},
                    agent_id=self._agent_id,
                    parent_id=self._turn.id,
                    priority=Priority.WAKE,
                    cause_id=self._origin().cause_id,
                    key=key,
                    awaited_by=self._turn.id if waits else None,
                ),
            )
            if row["key"] != key:
                raise RuntimeRefused(
                    f"There is a task {id!r} already, so nothing was run. "
                    "Give another id, or none."
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
            wake = None if over else steering.pending_wake(tx, self._turn)
            pending = tuple(view.id for view in views if not view.is_over)
            deadline_at = (
                waited["deadline_at"] if waited else now_us() + int(seconds * SECOND_US)
            )
            is_interrupted = self._stop.interrupt.is_raised
            is_over_time = deadline_at <= now_us()
            goes_on = not (over or wake or is_interrupted or is_over_time)
            note = tasks.expect if goes_on else tasks.expect_no_more
            note(tx, pending, self._turn.id)
            if not over and not wake and is_over_time:
                self._tell_timeout(tx, pending, seconds)
        if not goes_on:
            return Waited(
                task=over or views[0],
                pending=pending,
                wake=wake,
                is_interrupted=is_interrupted and not over,
            )
        why = {"kind": "task", "task_ids": list(pending), "step": step}
        raise Parked(
            Waiting(step=step, target_ids=pending, deadline_at=deadline_at, why=why)
        )

    def _tell_timeout(
        self, tx: Transaction, pending: Sequence[str], seconds: float
    ) -> None:
        for id in pending:
            waited = {"timeout_ms": int(seconds * 1000), "turn_id": self._turn.id}
            updates.append(tx, id, "await_timeout", waited)

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        """Post to an agent, or write a line to an exec's input."""
        with self._write() as tx:
            if tasks.find(tx, target_id) is not None:
                return self._send_input(tx, target_id, body)
            posted = self._post(tx, target_id, key, body)
        return {"ok": True, "event_id": posted.event_id, "turn_id": posted.turn_id}

    def delegate(self, key: str, agent_id: str, text: str, *, waits: bool) -> TaskView:
        """Post to an agent, made if it is new, and return the turn that will answer."""
        if agent_id == self._agent_id:
            raise RuntimeRefused("An agent cannot delegate to itself.")
        with self._write() as tx:
            if tx.one("SELECT 1 AS x FROM agents WHERE id = ?", agent_id) is None:
                together.refuse_child(tx, self._agent_id)
                agents.upsert(tx, agent_id, AgentChange(), parent_id=self._agent_id)
            posted = self._post(tx, agent_id, key, text)
            turn_id = str(posted.turn_id)
            if waits:
                tasks.expect(tx, [turn_id], self._turn.id)
            return _view(tasks.get(tx, turn_id))

    def kill(self, task_id: str, reason: str | None) -> None:
        """Kill a task and its children; one that is over already is dead enough."""
        if task_id == self._turn.id:
            raise RuntimeRefused("A turn cannot kill itself; just answer.")
        with self._write() as tx:
            task = tasks.get(tx, task_id)
            if not together.may_stop(tx, self._agent_id, task):
                raise RuntimeRefused(
                    f"The task {task_id} is of the agent {task['agent_id']}, which is "
                    "neither yours nor answers you. Ask that agent to stop it."
                )
            if not _view(task).is_over:
                tasks.kill(tx, task_id, reason)

    def _post(self, tx: Transaction, agent_id: str, key: str, text: str) -> Posted:
        origin = self._origin()
        message = Message(
            text=text,
            source=f"agent/{self._agent_id}",
            cause_id=origin.cause_id,
            hop=origin.hop + 1,
            key=f"send/{key}",
        )
        if not tx.one("SELECT 1 AS x FROM events WHERE key = ?", message.key):
            together.refuse_fan_out(tx, self._turn.id)
        return turns.post(tx, agent_id, message)

    def _origin(self) -> Origin:
        return together.origin(self._turn.inputs, self._turn.cause_id)

    def _report(self, error: ChainStopped) -> None:
        """The refusal took its transaction with it, so the report has its own."""
        with self._write() as tx:
            together.report_refused(tx, error, self._agent_id, self._turn.id)

    def _send_input(self, tx: Transaction, task_id: str, body: str) -> dict[str, Any]:
        row = tasks.get(tx, task_id)
        if row["type"] != "exec" or _view(row).is_over:
            raise RuntimeRefused(
                f"Task {task_id} (type {row['type']}) is {row['status']}; "
                "only an exec that is not over takes input."
            )
        updates.append(tx, task_id, "input", {"text": body})
        return {"ok": True}

    def _target(self, tx: Transaction, id: str) -> Row:
        """A task, or for an agent: its turn that answers this agent, else the one that
        it is taking or will take next, else its last."""
        if id in (self._agent_id, self._turn.id):
            raise RuntimeRefused("A turn cannot wait for itself.")
        row = (
            tasks.find(tx, id)
            or tx.one(_OPEN_TURN, id, f"agent/{self._agent_id}")
            or tx.one(_LAST_TURN, id)
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
        except ChainStopped as error:
            self._report(error)
            raise RuntimeRefused(error.detail) from error
        except BrokerError as error:
            raise RuntimeRefused(error.detail) from error

    def read_artifact(self, handle: str, offset: int, limit: int) -> ArtifactPage:
        """Read a piece of a text artifact that this agent may read."""
        found = self._artifact(handle)
        if not artifacts.is_text(found):
            kind = found["media_type"]
            raise RuntimeRefused(f"{handle} is {kind}; only text is read in pieces.")
        page = artifacts.read(self._broker.database, handle, offset, limit)
        return ArtifactPage(
            text=page.text,
            name=found["name"],
            media_type=found["media_type"],
            total_characters=page.total_characters,
            next_offset=page.next_offset,
        )

    def artifact_bytes(self, handle: str) -> bytes:
        """Return the whole content of an artifact that this agent may read."""
        self._artifact(handle)
        return artifacts.read_bytes(self._broker.database, handle)

    def keep_file(self, key: str, name: str, media_type: str, content: bytes) -> str:
        """Keep a file beside the result of the step of this key; return its handle."""
        new = NewArtifact(
            handle=artifacts.part(key, 1),
            agent_id=self._agent_id,
            name=json.clean(name),
            media_type=media_type,
            content=content,
        )
        with self._write() as tx:
            return artifacts.store(tx, new)

    def read_home_file(self, path: str, max_bytes: int) -> FoundFile:
        """Read a file of the home directory, and nothing outside of it."""
        settings = self._broker.settings
        return read_home_file(
            settings.home, path, max_bytes, stores=settings.sqlite_files
        )

    def fetch(self, url: str, max_bytes: int) -> FoundFile:
        """Download from a public address."""
        return fetch(url, max_bytes)

    def recall(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Find what was said in the agent's past, without the turn that asks."""
        return search.recall(
            self._broker.database,
            self._agent_id,
            query,
            but_turn_id=self._turn.id,
            limit=limit,
        )

    def _artifact(self, handle: str) -> Row:
        try:
            return artifacts.get_for(self._broker.database, self._agent_id, handle)
        except BrokerError as error:
            raise RuntimeRefused(error.detail) from error


def _view(row: Row) -> TaskView:
    return TaskView(
        id=row["id"],
        status=row["status"],
        result=json.load(row["result"]),
        error=json.load(row["error"]),
        agent_id=row["agent_id"],
        variable=results.variable_of(row),
    )
