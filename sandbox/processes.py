"""Processes of a job: find them, measure them, kill all of them, reap what is left.

Killing follows measured behaviour of bubblewrap 0.8.0 and 0.11.0: a SIGKILL in its
first 8 ms leaves its inner child waiting for ever, whatever --die-with-parent says.
So this process becomes a subreaper, and what a dead job leaves behind turns up among
its own children, where it is recognised, killed and reaped.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# A killed process may need this long to be gone (large memory, slow disk). After it,
# the kernel holds it and waiting on would block the worker.
DEATH_SECONDS = 5.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The fields of /proc/<pid>/stat that are used here."""

    state: str
    session: int
    cpu_seconds: float
    started_at_ticks: int
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job has used so far."""

    cpu_seconds: float = 0.0
    memory_bytes: int = 0


def read_stat(pid: int) -> Stat | None:
    """Read /proc/<pid>/stat; `None` when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold spaces and brackets: split after the last one.
    field = text.rpartition(")")[2].split()
    return Stat(
        state=field[0],
        session=int(field[3]),
        cpu_seconds=(int(field[11]) + int(field[12])) / TICKS_A_SECOND,
        started_at_ticks=int(field[19]),
        resident_bytes=int(field[21]) * PAGE_BYTES,
    )


def children(pid: int) -> Iterator[int]:
    """Yield the children of every thread of a process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = (thread / "children").read_text()
                yield from map(int, text.split())


def tree(pid: int) -> list[int]:
    """List a process and its descendants, parents first."""
    found = [pid]
    for known in found:
        found.extend(child for child in children(known) if child not in found)
    return found


def usage(pid: int) -> Usage:
    """Add up processor time and resident memory of a process and its descendants."""
    stats = [stat for stat in map(read_stat, tree(pid)) if stat]
    return Usage(
        cpu_seconds=sum(stat.cpu_seconds for stat in stats),
        memory_bytes=sum(stat.resident_bytes for stat in stats),
    )


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process, not of pid 1."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot become a subreaper: {os.strerror(code)}")


def kill_group(leader: int) -> None:
    """SIGKILL the group of a leader that has not been reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def wait_for_death(pidfd: int, seconds: float) -> bool:
    """Wait until a process is dead, reaped or not; False when it still lives."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def reap(pid: int) -> tuple[int, Usage]:
    """Kill and reap a child: its exit code (128 + N for signal N) and its usage."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not wait_for_death(pidfd, DEATH_SECONDS):
            return 128 + signal.SIGKILL, Usage()
    finally:
        os.close(pidfd)
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return (
        128 - code if code < 0 else code,
        Usage(
            cpu_seconds=used.ru_utime + used.ru_stime,
            memory_bytes=_own_peak(used.ru_maxrss * 1024),
        ),
    )


def _own_peak(peak_bytes: int) -> int:
    """What is known of a dead child's peak; 0 for nothing.

    Linux keeps the highest resident size over exec, so a child's begins with what its
    parent had when it forked: only beyond ours is it the child's own.
    """
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak_bytes if peak_bytes > ours else 0


def reap_orphans(*, session: int, known: int | None) -> list[Usage]:
    """Kill and reap what a dead leader left to this process.

    An orphan of the job is a child of ours that is in the leader's `session`, or the
    `known` first process of its namespace, which has a session of its own.
    """
    used: dict[int, Usage] = {}
    while orphans := [
        child
        for child in children(os.getpid())
        if child != session
        and child not in used
        and (child == known or _session(child) == session)
    ]:
        for orphan in orphans:
            used[orphan] = Usage()
            # Another part of the worker may have reaped it first.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                used[orphan] = reap(orphan)[1]
    return list(used.values())


def _session(pid: int) -> int | None:
    stat = read_stat(pid)
    return stat.session if stat else None


def sweep(pid: int, started_at_ticks: int) -> bool:
    """Kill what a worker that died has left: a job's leader, its group, its namespace.

    `pid` and `started_at_ticks` are what `Control` told when the job started. Nothing
    is touched when that pid is now another process: a pid is not given again while it
    names a session, so nothing of the job is left then. The leader may be dead (Bun
    ends with its parent) and its session not. True when something was killed.
    """
    leader = read_stat(pid)
    if leader is not None and leader.started_at_ticks != started_at_ticks:
        return False
    found = False
    deadline = time.monotonic() + DEATH_SECONDS
    # Again until nothing is left: what is being killed may be forking.
    while (living := _family(pid, started_at_ticks)) and time.monotonic() < deadline:
        found = True
        kill_group(pid)
        for member in reversed(living):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        for member in living:
            _await_death_of(member, deadline)
    return found


def _family(leader: int, started_at_ticks: int) -> list[int]:
    """List what lives of a job: its leader, all below it, and the leader's session."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    session = [pid for pid in pids if _session(pid) == leader]
    stats = {pid: read_stat(pid) for pid in [*tree(leader), *session]}
    return [
        pid
        for pid, stat in stats.items()
        if stat and stat.state != "Z" and stat.started_at_ticks >= started_at_ticks
    ]


def _await_death_of(pid: int, deadline: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_for_death(pidfd, max(deadline - time.monotonic(), 0.0))
    finally:
        os.close(pidfd)
