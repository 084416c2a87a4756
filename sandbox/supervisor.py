"""One job from its spawn to its outcome: what every level does alike.

The calling thread spawns, watches and reaps; a job never outlives the call. The order
at the end is always the same: kill the group, reap the leader and what it left, drain
the pipes, then say what happened.
"""

import functools
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

from sandbox.channel import Channel
from sandbox.control import Control
from sandbox.launch import Launch, Started, first_of_namespace, spawn
from sandbox.outcome import Failure, FailureType, Limit, Outcome, Output
from sandbox.output import Meter, Stream
from sandbox.policy import Policy
from sandbox.processes import (
    Usage,
    become_subreaper,
    kill_group,
    read_stat,
    reap,
    reap_orphans,
    usage,
)

READ_BYTES = 64 * 1024  # what a pipe holds
# Memory and processor time are looked at this often: a job can overshoot by what it
# uses up in that time.
LOOK_SECONDS = 0.1
# Somebody outside the job's group may hold a pipe open after its end.
DRAIN_SECONDS = 0.5


def supervise(
    launch: Launch,
    policy: Policy,
    *,
    emit: Callable[[Output], None],
    control: Control,
    on_start: Callable[[Control], None],
) -> Outcome:
    """Run a command to its end under a policy and say how it ended."""
    if control.kill_reason is not None:
        error = Failure(type="killed", message=control.kill_reason)
        return Outcome(status="killed", error=error)
    become_subreaper()
    with ExitStack() as held:
        began = time.monotonic()
        try:
            started = spawn(launch, held)
        except OSError as error:
            return failed("setup_failed", f"the job could not be started: {error}")
        run = _Run(started, launch, policy, emit, control, began)
        try:
            run.open(held)
            on_start(control)
            run.watch()
        finally:
            run.end()
        return run.outcome()


def failed(kind: FailureType, message: str) -> Outcome:
    """The outcome of a job that never had a process."""
    return Outcome(status="failed", error=Failure(type=kind, message=message))


def _status(error: Failure | None) -> Literal["completed", "failed", "killed"]:
    if error is None:
        return "completed"
    return "killed" if error.type == "killed" else "failed"


class _Run:
    """The state of one running job; belongs to the thread that spawned it."""

    def __init__(
        self,
        started: Started,
        launch: Launch,
        policy: Policy,
        emit: Callable[[Output], None],
        control: Control,
        began: float,
    ) -> None:
        self._process = started.process
        self._started = started
        self._launch = launch
        self._policy = policy
        self._control = control
        self._channel = Channel(policy)
        self._meter = Meter(policy.output_bytes)
        self._stdout = Stream("stdout", emit)
        self._stderr = Stream("stderr", emit)
        self._selector = selectors.DefaultSelector()
        self._open_pipes: set[int] = set()
        self._stdin_pending = b""
        self._stdin_ends = False
        self._failure: Failure | None = None
        self._has_exited = False
        self._exit_code: int | None = None
        self._used = Usage()
        self._began = began
        self._ended = began
        self._next_look = began + LOOK_SECONDS

    def open(self, held: ExitStack) -> None:
        """Listen to everything that can happen to the job, and let others reach it."""
        pid = self._process.pid
        held.callback(self._selector.close)
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        held.callback(os.close, wake)
        pidfd = os.pidfd_open(pid)
        held.callback(os.close, pidfd)
        os.set_blocking(self._started.stdin.fileno(), False)
        self._listen(wake, functools.partial(self._woken, wake))
        self._listen(pidfd, self._exited)
        self._listen_to_pipe(self._started.stdout.fileno(), self._printed)
        self._listen_to_pipe(self._started.stderr.fileno(), self._complained)
        self._listen_to_pipe(self._launch.channel.reader.fileno(), self._reported)
        stat = read_stat(pid)
        self._control.attach(
            pid=pid,
            started_at_ticks=stat.started_at_ticks if stat else None,
            wake=functools.partial(os.eventfd_write, wake, 1),
            strike=functools.partial(kill_group, pid),
        )

    def watch(self) -> None:
        """Serve the job until it exits or has to be ended."""
        self._take_stdin()
        while not self._has_to_end():
            until = min(self._deadline(), self._next_look)
            for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
                key.data()
            self._look()

    def end(self) -> None:
        """Kill what is left, in the order that leaves nothing; reap all of it."""
        pid = self._process.pid
        self._control.detach()
        self._measure()
        kill_group(pid)
        self._exit_code, used = reap(pid)
        self._ended = time.monotonic()
        self._process.returncode = self._exit_code  # reaped here, not by Popen
        init = first_of_namespace(self._launch.info)
        orphans = reap_orphans(session=pid, known=init)
        cpu_seconds = sum(part.cpu_seconds for part in [used, *orphans])
        self._keep_most(Usage(cpu_seconds=cpu_seconds, memory_bytes=used.memory_bytes))
        for orphan in orphans:
            self._keep_most(orphan)

    def outcome(self) -> Outcome:
        """Take in what is left in the pipes and say how the job ended."""
        self._drain()
        result, no_result = self._channel.result()
        error = (
            self._failure
            or self._failure_of_kill()
            or self._failure_of_exit()
            or no_result
        )
        return Outcome(
            status=_status(error),
            result=result,
            exit_code=self._exit_code,
            error=error,
            wall_seconds=self._ended - self._began,
            cpu_seconds=self._used.cpu_seconds,
            peak_memory_bytes=self._used.memory_bytes or None,
            output_truncated=self._meter.is_over,
        )

    # What can happen to the job.

    def _listen(self, descriptor: int, happened: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, happened)

    def _listen_to_pipe(self, descriptor: int, came: Callable[[bytes], None]) -> None:
        self._open_pipes.add(descriptor)
        self._listen(descriptor, functools.partial(self._read, descriptor, came))

    def _read(self, descriptor: int, came: Callable[[bytes], None]) -> None:
        data = os.read(descriptor, READ_BYTES)
        if data:
            came(data)
        else:
            self._selector.unregister(descriptor)
            self._open_pipes.discard(descriptor)

    def _printed(self, data: bytes) -> None:
        self._stdout.feed(self._admitted(data))

    def _complained(self, data: bytes) -> None:
        self._stderr.feed(self._admitted(data))

    def _admitted(self, data: bytes) -> bytes:
        admitted = self._meter.admit(data)
        if self._meter.is_over:
            self._fail_on("output_limit", "output_bytes", "printed more than {} bytes")
        return admitted

    def _reported(self, data: bytes) -> None:
        failure = self._channel.feed(data)
        self._failure = self._failure or failure

    def _exited(self) -> None:
        self._has_exited = True

    def _woken(self, wake: int) -> None:
        os.eventfd_read(wake)
        self._take_stdin()

    def _take_stdin(self) -> None:
        data, self._stdin_ends = self._control.take_stdin()
        self._stdin_pending += data
        self._write_stdin()

    def _write_stdin(self) -> None:
        stdin = self._started.stdin
        if stdin.closed:
            return
        was_blocked = stdin in self._selector.get_map()
        try:
            written = os.write(stdin.fileno(), self._stdin_pending)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            written = len(self._stdin_pending)
            self._stdin_ends = True
        self._stdin_pending = self._stdin_pending[written:]
        if was_blocked and not self._stdin_pending:
            self._selector.unregister(stdin)
        elif self._stdin_pending and not was_blocked:
            self._selector.register(stdin, selectors.EVENT_WRITE, self._write_stdin)
        if self._stdin_ends and not self._stdin_pending:
            stdin.close()

    # When it has to end.

    def _has_to_end(self) -> bool:
        reason = self._control.kill_reason
        if reason is not None and not self._has_exited:
            self._failure = Failure(type="killed", message=reason)
        return self._has_exited or self._failure is not None

    def _deadline(self) -> float:
        return self._began + self._policy.wall_seconds

    def _look(self) -> None:
        now = time.monotonic()
        if self._has_exited:
            return
        if now >= self._deadline():
            self._fail_on("timeout", "wall_seconds", "ran longer than {} s")
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look_at_usage(self._measure())

    def _measure(self) -> Usage:
        used = usage(self._process.pid)
        self._keep_most(used)
        return used

    def _look_at_usage(self, used: Usage) -> None:
        if used.memory_bytes > self._policy.memory_bytes:
            self._fail_on("memory_limit", "memory_bytes", "used more than {} bytes")
        if used.cpu_seconds > (self._policy.cpu_seconds or float("inf")):
            self._fail_on("cpu_limit", "cpu_seconds", "used more than {} s of CPU")

    def _keep_most(self, used: Usage) -> None:
        self._used = Usage(
            cpu_seconds=max(self._used.cpu_seconds, used.cpu_seconds),
            memory_bytes=max(self._used.memory_bytes, used.memory_bytes),
        )

    def _fail_on(self, kind: FailureType, field: str, did: str) -> None:
        limit = Limit(name=field, value=getattr(self._policy, field))
        message = f"exec {did.format(f'{limit.value:,}')} ({field}) and was ended"
        failure = Failure(type=kind, message=message, limit=limit)
        self._failure = self._failure or failure

    # What it comes to.

    def _drain(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fd not in self._open_pipes:
                self._selector.unregister(key.fileobj)
        until = time.monotonic() + DRAIN_SECONDS
        while self._open_pipes and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data()
        self._stdout.feed(b"", final=True)
        self._stderr.feed(b"", final=True)

    def _failure_of_kill(self) -> Failure | None:
        """A kill that was over before this thread heard of it: it saw but the exit."""
        reason = self._control.kill_reason
        if reason is None or self._exit_code != 128 + signal.SIGKILL:
            return None
        return Failure(type="killed", message=reason)

    def _failure_of_exit(self) -> Failure | None:
        """A failure by exit code; without a word from the bootstrap nothing ran."""
        code = self._exit_code
        if not self._channel.started:
            message = f"the job's process ended with exit code {code} before its code"
            return Failure(type="setup_failed", message=self._with_stderr(message))
        if code != 0:
            message = self._with_stderr(f"exec failed with exit code {code}")
            return Failure(type="exec_failed", message=message)
        return None

    def _with_stderr(self, message: str) -> str:
        return f"{message}\n{self._stderr.tail}".rstrip()
