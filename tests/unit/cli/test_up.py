"""`roost up` with real honcho, real signals and a Procfile of small processes."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOST = str(Path(sys.executable).with_name("roost"))
PATIENCE_SECONDS = 30.0
# Says that it is there, then waits for a signal. No shell: one that is told to stop
# while it forks leaves the child behind.
SCRIPT = """\
import os, signal, sys

def drain(*_):
    print("drained", flush=True)
    sys.exit()

signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else drain)
print("here", os.getpid(), flush=True)
while True:
    signal.pause()
"""
WAITS = f"exec {sys.executable} -IS waits.py"


class Up:
    """A running `roost up` (or what runs it), its output and its processes."""

    def __init__(self, process: subprocess.Popen[bytes], out: int) -> None:
        self.process, self.output = process, b""
        self._out = out
        self.pids: set[int] = set()

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until the output has the pattern."""
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self._out], [], [], PATIENCE_SECONDS)
            assert ready, f"no {pattern!r} in:\n{self.text}"
            assert self._read(), f"no {pattern!r} in all of:\n{self.text}"
        return found

    def here(self, count: int) -> None:
        """Wait until that many processes have said that they are there."""
        self.until(r"(?s)" + r".*".join([r"here (\d+)"] * count))
        self.pids |= {int(pid) for pid in re.findall(r"here (\d+)", self.text)}

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_SECONDS)

    @property
    def text(self) -> str:
        return self.output.decode(errors="replace")

    def _read(self) -> bool:
        try:
            piece = os.read(self._out, 65536)
        except OSError:  # EIO: nobody holds the terminal any more
            piece = b""
        self.output += piece
        return bool(piece)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def environ(home: Path, port: int) -> dict[str, str]:
    return {**os.environ, "PORT": str(port)}


@pytest.fixture
def start(home: Path, environ: dict[str, str]) -> Iterator:  # type: ignore[type-arg]
    """Start `roost up`, or another command, with a Procfile."""
    running: list[Up] = []

    def begin(procfile: str, *command: str) -> Up:
        Path("Procfile").write_text(procfile)
        Path("waits.py").write_text(SCRIPT)
        out, theirs = os.pipe()
        process = subprocess.Popen(
            command or (ROOST, "up"), stdout=theirs, stderr=theirs, env=environ
        )
        os.close(theirs)
        running.append(Up(process, out))
        return running[-1]

    yield begin
    for up in running:
        up.process.kill()
        up.process.wait()
        os.close(up._out)


def are_gone(pids: set[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


TWO = f"web: {WAITS}\nagents: {WAITS}\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_drains_everything_and_exits_0(start, signum) -> None:
    up = start(TWO)
    up.here(2)
    up.process.send_signal(signum)
    assert up.end() == 0
    assert up.text.count("sending SIGTERM") == 2
    assert up.text.count("drained") == 2
    assert are_gone(up.pids)


def test_a_stop_right_after_the_start_is_heard(start) -> None:
    up = start(TWO)
    up.until("web.1 started")
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert "Traceback" not in up.text


def test_concurrency_is_passed_on(start) -> None:
    up = start(TWO, ROOST, "up", "-c", "agents=2,web=0")
    up.until("agents.1 started")
    up.until("agents.2 started")
    up.process.send_signal(signal.SIGTERM)
    assert up.end() == 0
    assert "web.1" not in up.text


@pytest.mark.parametrize("said", ["agents", "agents=x", "nobody=2"])
def test_concurrency_that_means_nothing_is_a_usage_error(start, said) -> None:
    up = start(TWO, ROOST, "up", "-c", said)
    assert up.end() == 2
    assert "one of web, agents" in up.text


def test_every_process_reads_the_port_that_was_set(start, environ, port) -> None:
    read = "from broker.settings import load; print('port', load().port)"
    lines = f'release: {WAITS}\nweb: exec {sys.executable} -c "{read}"\n'
    up = start(lines)
    up.until(rf"port {port}\b")
    assert up.end() == 0


def test_release_prints_the_link_and_waits_beside_the_others(start, port) -> None:
    up = start(f"release: exec roost release\nweb: {WAITS}\n")
    up.here(1)
    up.until(rf"Roost: http://127\.0\.0\.1:{port}/#token=\S+")
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert "release.1 stopped (rc=0)" in up.text


def test_the_process_s_own_environment_wins_over_dotenv(start, environ) -> None:
    Path(".env").write_text('GREETING="from a file"\nANSWER="4 and 2"\n')
    environ["GREETING"] = "from outside"
    up = start('web: echo "<$GREETING> <$ANSWER>"\n')
    up.until("<from outside> <4 and 2>")
    assert up.end() == 0


def test_this_environment_s_programs_come_first(start, environ) -> None:
    environ["PATH"] = "/usr/bin:/bin"
    up = start("web: command -v roost huey_consumer\n")
    up.until(re.escape(ROOST))
    assert up.end() == 0


def test_a_process_that_ends_by_itself_ends_all_with_its_code(start) -> None:
    up = start(f"web: {WAITS}\nagents: exit 3\n")
    assert up.end() == 3
    assert "roost: Roost stopped, code 3" in up.text


def test_a_second_ctrl_c_kills_everything(start) -> None:
    stubborn = f"{WAITS} stubborn"
    up = start(f"web: {stubborn}\nagents: {stubborn}\n")
    up.here(2)
    up.process.send_signal(signal.SIGINT)
    up.until("sending SIGTERM to agents")
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 137
    assert "roost: Killed." in up.text
    assert are_gone(up.pids)


def test_a_second_sigterm_does_not_kill(start) -> None:
    up = start(TWO)
    up.here(2)
    up.process.send_signal(signal.SIGTERM)
    up.until("Stopping")
    up.process.send_signal(signal.SIGTERM)
    assert up.end() == 0
    assert up.text.count("drained") == 2


def test_when_honcho_is_killed_its_processes_are_stopped(start) -> None:
    up = start(TWO)
    up.here(2)
    honcho = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children")
    os.kill(int(honcho.read_text()), signal.SIGKILL)
    assert up.end() == 137
    assert are_gone(up.pids)


def test_when_roost_up_is_killed_its_processes_drain(start) -> None:
    up = start(TWO)
    up.here(2)
    up.process.kill()
    up.until("(?s)drained.*drained")
    assert up.end() == -signal.SIGKILL


def test_when_its_parent_dies_everything_drains(start) -> None:
    up = start(TWO, "sh", "-c", f"{ROOST} up; true")
    up.here(2)
    up.process.kill()
    up.until("(?s)drained.*drained")
    up.end()
    assert are_gone(up.pids)


def test_a_taken_port_is_told_with_who_has_it(start, environ) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environ["PORT"] = str(port)
        up = start(TWO)
        assert up.end() == 1
    assert f"Port {port} is taken by " in up.text
    assert f"(process {os.getpid()})" in up.text
    assert f"PORT={port + 1} roost up" in up.text


def test_a_host_that_is_not_here_is_told(start, environ) -> None:
    environ["ROOST_HOST"] = "192.0.2.1"
    up = start(TWO)
    assert up.end() == 1
    assert "ROOST_HOST=192.0.2.1 is no address of this machine" in up.text


def test_ctrl_c_at_make_start_ends_make_with_0(start, environ) -> None:
    Path("Procfile").write_text(TWO)
    Path("waits.py").write_text(SCRIPT)
    Path("Makefile").write_text(f"start:\n\t@exec {ROOST} up\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("make", ["make", "start"], environ)
    up = Up(subprocess.Popen(["true"]), terminal)
    up.here(2)
    os.write(terminal, b"\x1a")  # Ctrl-Z must not leave the terminal to the stopped
    os.write(terminal, b"\x03")
    up.end()
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, up.text
    assert up.text.count("drained") == 2
    assert are_gone(up.pids)
