"""Roost as its Procfile starts it, in a home of its own, for documents to talk to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BIN: Final = Path(sys.executable).parent
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 8.0  # honcho kills after 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started Roost: where, and with what environment one talks to it."""

    directory: Path
    environ: dict[str, str]

    @property
    def home(self) -> Path:
        return self.directory / ".local" / "share" / "roost"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PORT']}"


@pytest.fixture(scope="session")
def start_roost(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Iterator[Running]]:
    """Start the Procfile under honcho; everything has ended when the block has."""

    @contextmanager
    def start(name: str) -> Iterator[Running]:
        directory = tmp_path_factory.mktemp(name)
        running = Running(directory=directory, environ=_environ(directory))
        log = directory / "honcho.log"
        with log.open("w") as output, _honcho(running, output) as honcho:
            try:
                _wait_until_ready(running, honcho, log)
                yield running
            finally:
                _stop(honcho)

    return start


def _environ(directory: Path) -> dict[str, str]:
    """A user who has just logged in, with nothing set but the port."""
    return {
        "HOME": str(directory),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PORT": str(_free_port()),
        "LANG": "C.UTF-8",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _honcho(running: Running, output: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [BIN / "honcho", "-f", ROOT / "Procfile", "-d", running.directory, "start"],
        env=running.environ,
        cwd=running.directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def _wait_until_ready(
    running: Running, honcho: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(running):
        assert honcho.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _is_ready(running: Running) -> bool:
    try:
        with urllib.request.urlopen(f"{running.url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(honcho: subprocess.Popen[bytes]) -> None:
    honcho.send_signal(signal.SIGTERM)
    try:
        honcho.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        honcho.kill()
        raise
