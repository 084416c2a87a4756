"""A supervisor of the tests' own: it starts lines of the Procfile, one by one.

honcho ends everything when one process ends, so what kills processes and starts them
again cannot run under it. Processes end with the thread that started them (the product
asks the kernel for that), so start them from a thread that stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
START_SECONDS: Final = 60.0  # a machine that is busy with other tests starts slowly
STOP_SECONDS: Final = 10.0
TOKEN: Final = "chaos"


@dataclass(slots=True)
class Supervisor:
    """Starts the lines of the Procfile, kills them, and starts them again."""

    home: Path
    port: int
    environ: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def start(self, counts: dict[str, int]) -> None:
        """Release, then start so many processes of each line."""
        assert self._run("release").wait(START_SECONDS) == 0
        for name, count in counts.items():
            for number in range(count):
                self.start_one(f"{name}.{number}")

    def start_one(self, name: str) -> None:
        """Start the process of this name, `line.number`."""
        self.running[name] = self._run(name.partition(".")[0])

    def kill(self, name: str) -> None:
        """SIGKILL a process, and wait until it is dead."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def _run(self, name: str) -> subprocess.Popen[bytes]:
        lines = (ROOT / "Procfile").read_text().splitlines()
        command = next(c for n, _, c in (x.partition(": ") for x in lines) if n == name)
        with (self.home.parent / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=ROOT,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _environ(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ROOST_", "HONCHO_"))
        }
        return kept | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "ROOST_HOME": str(self.home),
            "ROOST_HOST": "127.0.0.1",
            "ROOST_TOKEN": TOKEN,
            "ROOST_DATABASE_URL": "",
            "ROOST_QUEUE_URL": "",
            **self.environ,
        }

    def revive(self) -> None:
        """Start again what has ended."""
        for name, process in [*self.running.items()]:
            code = process.poll()
            if code is not None:
                if code != -signal.SIGKILL:
                    self.ended.append(f"{name} ended with {code}")
                self.start_one(name)

    def stop(self) -> dict[str, int | None]:
        """SIGTERM everything; say how each ended (None: it did not)."""
        for process in self.running.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        return {name: _ended(p, deadline) for name, p in self.running.items()}


def _ended(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    try:
        return process.wait(max(deadline - time.monotonic(), 0.01))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
