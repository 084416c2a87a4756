"""Running execs: claim, run in the sandbox, write down how it ended.

The output goes into the task's update log as it comes, in batches, and from there to
whoever watches; lines sent to the task go to its stdin. A killed or drained worker
leaves no process behind: the sandbox sees to that, and the scheduler sweeps what it
could not.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from broker import (
    Broker,
    events,
    json,
    leases,
    processes,
    recovery,
    results,
    steps,
    tasks,
    updates,
)
from broker.database import Row, Transaction
from broker.doorbell import FALLBACK_SECONDS, Bell
from broker.errors import LeaseLost
from broker.leases import Worker
from sandbox import Control, Job, Outcome, Output, Policy, PolicyError, Sandbox
from workers.batcher import Batcher
from workers.keeper import Keeper

log = structlog.get_logger(__name__)

# What an exec may use when nothing narrows it.
DEFAULT_POLICY: Final = Policy(wall_seconds=86_400.0)
DEFAULT_TIMEOUT_SECONDS: Final = 300.0
_KEPT_IN_EVENTS: Final = 4_000


@dataclass(slots=True)
class ExecHolder:
    """How the keeper talks to a running exec; `why` remembers what was asked."""

    control: Control
    why: str | None = None
    reason: str | None = None

    def tick(self) -> None:
        """The sandbox keeps the time itself."""

    def lost(self) -> None:
        """The lease is gone: kill, and write nothing."""
        self._end("lost", None)

    def stop(self, verb: str, reason: str | None) -> None:
        """Somebody asked for a stop: code has no boundary to stop at."""
        self._end(verb, reason)

    def drain(self) -> None:
        """Let it run: it may end by itself before the drain does."""

    def drain_now(self) -> None:
        """Kill it; another worker runs it again."""
        self._end("drain", None)

    def _end(self, why: str, reason: str | None) -> None:
        if self.why is None:
            self.why, self.reason = why, reason
            self.control.kill(reason or why)


class OutputLog:
    """Buffers a job's output and writes it to the update log in batches."""

    def __init__(self, broker: Broker, task: Row, batcher: Batcher) -> None:
        self._database = broker.database
        self._task = task
        self._batcher = batcher
        self._lock = threading.Lock()
        # Held from the taking of a batch to its commit: what ends the task waits for
        # the batch that is under way, or it would come too late and be refused.
        self._writing = threading.Lock()
        self._pending: list[Output] = []
        self._flushed_at = 0.0

    def add(self, output: Output) -> None:
        """Take a chunk, from the job's thread."""
        with self._lock:
            self._pending.append(output)
        self._batcher.schedule(self, _flush_each, self._flushed_at)

    def flush(self) -> None:
        """Write what has collected; refused writes are somebody else's by now."""
        self._flushed_at = time.monotonic()
        self._batcher.forget(self)
        with self._writing, contextlib.suppress(LeaseLost):
            with self._lock:
                pending, self._pending = _merged(self._pending), []
            if pending:
                self._write_all(pending)

    def _write_all(self, pending: list[Output]) -> None:
        with self._database.write(durable=False) as tx:
            leases.guard(tx, self._task["id"], self._task["epoch"])
            for output in pending:
                self._write(tx, output)

    def _write(self, tx: Transaction, output: Output) -> None:
        updates.append(tx, self._task["id"], output.stream, {"text": output.text})
        _tell_turn(tx, self._task, output)


def _flush_each(logs: Sequence[OutputLog]) -> None:
    for each in logs:
        each.flush()


def _merged(chunks: list[Output]) -> list[Output]:
    merged: list[Output] = []
    for chunk in chunks:
        if merged and merged[-1].stream == chunk.stream:
            text = merged.pop().text + chunk.text
            merged.append(Output(stream=chunk.stream, text=text))
        else:
            merged.append(chunk)
    return merged


def _tell_turn(tx: Transaction, task: Row, output: Output) -> None:
    """Show output in the stream of the turn whose step this exec is.

    A prompt is no step, and its output nobody's message.
    """
    if task["type"] != "exec" or not task["agent_id"]:
        return
    if not task["parent_id"] or not task["key"]:
        return
    events.emit_turn(
        tx,
        task["agent_id"],
        task["parent_id"],
        "tool_execution_update",
        {
            "step": steps.number_of(task["key"]),
            "task_id": task["id"],
            "stream": output.stream,
            "text": output.text[-_KEPT_IN_EVENTS:],
        },
        cause_id=task["cause_id"],
    )


class InputFeed:
    """Passes lines sent to a task on to its stdin, until the job ends."""

    def __init__(self, broker: Broker, bell: Bell, task_id: str, control: Control):
        self._broker, self._bell = broker, bell
        self._task_id, self._control = task_id, control
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin, in a daemon thread."""
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def end(self) -> None:
        """The job is over."""
        self._ended.set()

    def _run(self) -> None:
        after = 0
        while not self._ended.is_set():
            seen = self._bell.generation
            for update in updates.list_after(
                self._broker.database, self._task_id, kind="input", after=after
            ):
                after = update["id"]
                self._control.write_line(_line(update["payload"]))
            self._bell.wait(seen, FALLBACK_SECONDS)


def _line(payload: dict[str, Any]) -> str:
    text = payload.get("text")
    return text if isinstance(text, str) else json.dump(payload)


@dataclass(slots=True, kw_only=True)
class ExecRunner:
    """Runs execs in one `exec` process."""

    broker: Broker
    worker: Worker
    keeper: Keeper
    batcher: Batcher
    sandbox: Sandbox
    home: Path
    bell: Bell

    def run(self, task_id: str) -> None:
        """Handle a hint: claim the exec and run it, or drop the hint."""
        with self.broker.database.write() as tx:
            task = tasks.claim(tx, task_id, self.worker)
        if task is None:
            return
        holder = ExecHolder(Control())
        try:
            with self.keeper.holding(task_id, task["epoch"], holder):
                self._run(task, holder)
        except LeaseLost:
            log.warning("The exec lost its lease.", task_id=task_id)

    def _run(self, task: Row, holder: ExecHolder) -> None:
        payload = json.load(task["payload"])
        try:
            policy = _policy(payload)
        except PolicyError as error:
            self._end(task, "failed", error={"type": "policy", "message": str(error)})
            return
        output = OutputLog(self.broker, task, self.batcher)
        feed = InputFeed(self.broker, self.bell, task["id"], holder.control)
        feed.start()
        try:
            outcome = self._in_sandbox(task, payload, policy, output, holder.control)
        finally:
            feed.end()
        output.flush()
        self._settle(task, outcome, holder)

    def _in_sandbox(
        self,
        task: Row,
        payload: dict[str, Any],
        policy: Policy,
        output: OutputLog,
        control: Control,
    ) -> Outcome:
        if payload.get("stdin"):
            for line in str(payload["stdin"]).splitlines():
                control.write_line(line)
        job = Job(
            id=task["id"],
            code=str(payload.get("code", "")),
            home=self.home,
            bindings=self._bindings(task),
        )
        return self.sandbox.run(
            job,
            policy,
            emit=output.add,
            control=control,
            on_start=self._recorder(task),
        )

    def _bindings(self, task: Row) -> bytes | None:
        """The results of the agent's earlier execs, a line each: see `sandbox.Job`."""
        if task["type"] != "exec" or not task["agent_id"]:
            return None
        found = results.latest(self.broker.database, task["agent_id"])
        lines = (f"{each.number} {each.json or ''}".rstrip() for each in found)
        return "".join(f"{line}\n" for line in lines).encode()

    def _recorder(self, task: Row) -> Callable[[Control], None]:
        """Note which process runs the job, so that an orphan can be swept."""

        def record(control: Control) -> None:
            process = {
                "host": processes.this_host(),
                "pid": control.pid,
                "start_ticks": control.started_at_ticks,
            }
            try:
                with self.broker.database.write() as tx:
                    tasks.record_process(tx, task["id"], task["epoch"], process)
                    updates.append(tx, task["id"], "start", {})
            except LeaseLost:
                control.kill("lost")

        return record

    def _settle(self, task: Row, outcome: Outcome, holder: ExecHolder) -> None:
        if outcome.status == "killed" and holder.why == "lost":
            return
        if outcome.status == "killed" and holder.why == "drain":
            with self.broker.database.write() as tx:
                tasks.hand_over(tx, task["id"], task["epoch"])
        elif outcome.status == "killed":
            error = leases.stopped_error(holder.why or "kill", holder.reason)
            self._end(task, "cancelled", error=error, outcome=outcome)
        elif _is_killed_from_outside(outcome) and self._give_back(task):
            log.warning("An exec was killed; it runs again.", task_id=task["id"])
        elif outcome.status == "failed":
            self._end(task, "failed", error=_as_error(outcome), outcome=outcome)
        else:
            self._end(task, "completed", result=outcome.result, outcome=outcome)

    def _give_back(self, task: Row) -> bool:
        with self.broker.database.write() as tx:
            return recovery.give_back_killed(tx, task["id"], task["epoch"])

    def _end(
        self,
        task: Row,
        status: str,
        *,
        result: object = None,
        error: dict[str, Any] | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        with self.broker.database.write() as tx:
            leases.guard(tx, task["id"], task["epoch"])
            if outcome is not None:
                updates.append(tx, task["id"], "exit", _exit(outcome))
            tasks.end(tx, task["id"], status, result=result, error=error)
        log.info("An exec is over.", task_id=task["id"], status=status)


def _policy(payload: dict[str, Any]) -> Policy:
    """Narrow the default by the task's own policy and timeout; never widen it."""
    timeout = payload.get("timeout_seconds") or DEFAULT_TIMEOUT_SECONDS
    return DEFAULT_POLICY.narrow(
        **{"wall_seconds": timeout, **(payload.get("policy") or {})}
    )


def _is_killed_from_outside(outcome: Outcome) -> bool:
    """Whether a SIGKILL ended it that no limit and nobody here has sent.

    When everything of a home is killed, a job may die before its worker does.
    """
    is_unexplained = outcome.error is not None and outcome.error.type in (
        "exec_failed",
        "setup_failed",
    )
    return is_unexplained and outcome.exit_code == 128 + signal.SIGKILL


def _as_error(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.error
    if failure is None:
        return {"type": "exec_failed", "message": "The code failed."}
    error: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.limit is not None:
        error["limit"] = asdict(failure.limit)
    if outcome.result is not None:
        error["result"] = outcome.result
    return error


def _exit(outcome: Outcome) -> dict[str, Any]:
    return {
        "exit_code": outcome.exit_code,
        "wall_seconds": round(outcome.wall_seconds, 4),
        "cpu_seconds": outcome.cpu_seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "output_truncated": outcome.output_truncated,
    }
