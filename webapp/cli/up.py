"""`roost up`: run the Procfile under honcho, and end all of it together.

The only module of webapp that starts a process. Honcho is told to stop once; it tells
its processes. Nothing outlives `roost up`, however honcho ended.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from webapp.cli import processes
from webapp.cli.options import local_settings

if TYPE_CHECKING:
    from broker.settings import Settings

PROCESS_LINE: Final = re.compile(r"^([A-Za-z0-9_-]+):\s*\S", re.MULTILINE)
STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCHED: Final = (*STOPS, signal.SIGCHLD)
# What honcho ends with when it was told to: by its own count, or before it could count.
STOPPED: Final = (0, 130, 143, -signal.SIGTERM)
# Honcho must have started all before it can stop all (it fails with a KeyError else).
STARTING_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.3  # from a process's start to honcho's having noted it
POLL_SECONDS: Final = 0.05
# Honcho kills what has not ended after 5 s. Twice that: honcho itself is stuck.
DRAIN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is about to be started."""

    procfile: Path
    counts: Mapping[str, int]  # processes of each line, in the file's order
    environ: Mapping[str, str]

    @property
    def arguments(self) -> list[str]:
        """Honcho's command line; .env is read by us, so that the process's own wins."""
        concurrency = ",".join(f"{name}={count}" for name, count in self.counts.items())
        honcho = Path(sys.executable).with_name("honcho")
        options = ["-e", "/dev/null", "-f", str(self.procfile), "-c", concurrency]
        return [str(honcho), "start", *options]


@click.command(epilog="Example: roost up -c agents=4,exec=2")
@click.option(
    "-c",
    "--concurrency",
    metavar="NAME=N,…",
    help="How many processes of each Procfile line; 1 where nothing is said.",
)
def up(concurrency: str | None) -> None:
    """Start everything the Procfile names; Ctrl-C drains, a second one kills."""
    from webapp.cli import ports, terminal

    settings = local_settings()
    plan = _plan(settings, concurrency)
    ports.require_free(settings.host, settings.port)
    if not _is_to_outlive_its_parent():
        processes.end_with(os.getppid())
    processes.adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    with terminal.foreground():
        code = _run(plan)
    raise click.exceptions.Exit(code)


def _plan(settings: Settings, concurrency: str | None) -> Plan:
    from webapp.cli.client import local_url

    procfile = _find_procfile()
    names = PROCESS_LINE.findall(procfile.read_text())
    return Plan(
        procfile=procfile,
        counts=dict.fromkeys(names, 1) | _counts(concurrency, names),
        environ=_environ(settings, local_url(settings)),
    )


def _find_procfile() -> Path:
    import webapp

    beside_us = Path(webapp.__file__).parent.parent / "Procfile"
    for path in (Path.cwd() / "Procfile", beside_us):
        if path.is_file():
            return path
    raise click.ClickException(
        f"There is no Procfile here and none at {beside_us}. "
        "Change to Roost's directory and try again."
    )


def _counts(concurrency: str | None, names: list[str]) -> dict[str, int]:
    counts = {}
    for part in (concurrency or "").split(",") if concurrency else ():
        name, _, number = part.strip().partition("=")
        if name not in names or not number.isdigit():
            raise click.UsageError(
                f"-c {part!r} must be NAME=N, with NAME one of {', '.join(names)}."
            )
        counts[name] = int(number)
    return counts


def _environ(settings: Settings, url: str) -> dict[str, str]:
    """Return honcho's environment; `broker.settings` reads it from below honcho, which
    gives each of its processes another PORT."""
    bin_directory = str(Path(sys.executable).parent)
    return {
        # Through a pipe Python would hold its lines back.
        "PYTHONUNBUFFERED": "1",
        **settings.environ,
        "PATH": f"{bin_directory}:{settings.environ.get('PATH', '/usr/bin:/bin')}",
        "ROOST_HOME": str(settings.home),
        "PORT": str(settings.port),
        "ROOST_URL": url,
    }


def _is_to_outlive_its_parent() -> bool:
    """Say whether somebody has started this with nohup, and so has said it."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _run(plan: Plan) -> int:
    """Run honcho to its end and return the exit code of it all."""
    with subprocess.Popen(
        plan.arguments,
        cwd=plan.procfile.parent,
        env=plan.environ,
        stdin=subprocess.DEVNULL,
        # Away from the terminal: Ctrl-C is ours alone, and passed on once.
        start_new_session=True,
        preexec_fn=partial(_before_honcho, os.getpid()),
    ) as honcho:
        watch = Watch(honcho, sum(plan.counts.values()))
        try:
            watch.until_the_end()
        finally:
            processes.end_the_rest(DRAIN_SECONDS / 2)
    return _verdict(honcho.returncode, stopped=watch.stopped, killed=watch.killed)


def _before_honcho(parent: int) -> None:
    processes.end_with(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


class Watch:
    """Waits for honcho's end and passes on what it is told, one signal at a time.

    The signals of WATCHED must be blocked: they are taken from the queue here, so
    nothing happens in between.
    """

    def __init__(self, honcho: subprocess.Popen[bytes], expected: int) -> None:
        self.stopped = self.killed = False
        self._honcho, self._expected = honcho, expected
        self._interrupts = 0
        self._asked_at = self._ready_at = self._passed_at = 0.0

    def until_the_end(self) -> None:
        """Return when honcho has ended."""
        while self._honcho.poll() is None:
            # Until a stop is asked for there is nothing to do but wait.
            seconds = POLL_SECONDS if self.stopped else 3600.0
            received = signal.sigtimedwait(WATCHED, seconds)
            processes.reap_all_but(self._honcho.pid)
            if received is not None:
                self._take(received.si_signo)
            if self.stopped:
                self._go_on_stopping()

    def _take(self, signum: int) -> None:
        if signum not in STOPS or (
            signum == signal.SIGHUP and _is_to_outlive_its_parent()
        ):
            return
        self._interrupts += signum == signal.SIGINT
        if not self.stopped:
            self.stopped, self._asked_at = True, time.monotonic()
            _say("Stopping: running turns reach their next step. Ctrl-C again kills.")
        elif self._interrupts > 1:
            self._kill("Killed.")

    def _go_on_stopping(self) -> None:
        now = time.monotonic()
        if not self._passed_at:
            if self._may_be_told(now):
                self._honcho.terminate()
                self._passed_at = now
        elif now - self._passed_at > DRAIN_SECONDS:
            self._kill(f"Not everything stopped within {DRAIN_SECONDS:.0f} s: killed.")

    def _may_be_told(self, now: float) -> bool:
        """Say whether honcho knows all its processes by now, or never will."""
        runners = processes.children(self._honcho.pid)
        started = sum(1 for runner in runners if processes.children(runner))
        if started < self._expected:
            return now - self._asked_at > STARTING_SECONDS
        self._ready_at = self._ready_at or now
        return now - self._ready_at > SETTLE_SECONDS

    def _kill(self, why: str) -> None:
        _say(why)
        self.killed = True
        processes.kill_descendants()


def _verdict(code: int, *, stopped: bool, killed: bool) -> int:
    if killed:
        return 128 + signal.SIGKILL
    if stopped and code in STOPPED:
        return 0
    _say(
        f"Roost stopped, code {code}: one of its processes ended; see the lines above."
    )
    return code if code >= 0 else 128 - code


def _say(sentence: str) -> None:
    click.echo(f"roost: {sentence}", err=True)
