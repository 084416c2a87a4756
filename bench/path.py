"""How long a message takes to its reply over HTTP, without a tool and with one exec,
beside the floors it stands on: a request that does nothing, a synced write, Bun alone,
the sandbox alone. The model is scripted and answers at once.

Two Roosts run at once, each as its Procfile starts it, one with each durability.
Nothing outlives the run and nothing is written outside a temporary directory.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent))

import requests
from measure import (
    BIN,
    ROOT,
    children,
    idle_percent,
    median,
    percentile,
    print_table,
    shuffled,
    started,
    wait_until,
)

import sandbox

ROUNDS: Final = 7
SAMPLES: Final = 10
IDLE_SECONDS: Final = 10.0
GAP_SECONDS: Final = 0.01
CODE: Final = "globalThis.result = 1;"
SCRIPT: Final = [
    {"when": {"contains": "say"}, "text": "said"},
    {
        "when": {"contains": "run"},
        "tool_calls": [
            {"name": "exec", "arguments": {"code": CODE, "wait_seconds": 9}}
        ],
    },
    {"when": {"contains": '"status": "completed"'}, "text": "ran"},
]
Act = Callable[[], object]


class Roost:
    """One running Roost, and an agent that is new in every round."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.url = home, f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.agent = ""

    def is_ready(self) -> bool:
        """Whether every process is there."""
        try:
            return self.session.get(f"{self.url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def log_in(self) -> None:
        """Send the token from now on."""
        token = (self.home / "token").read_text().strip()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def renew_agent(self) -> None:
        """Take an agent almost without a history: its length is not what is measured,
        nor is the prompt that is made once for it."""
        self.agent = self._post("agents", {})["id"]
        self.ask("say", "said")

    def answer_health(self) -> None:
        """Do nothing, over HTTP."""
        self.session.get(f"{self.url}/health").raise_for_status()

    def accept(self) -> None:
        """Write a message down that wakes nobody."""
        self._post(f"agents/{self.agent}/messages", {"text": "x", "priority": "low"})

    def ask(self, text: str, reply: str) -> None:
        """Ask, and be answered."""
        answer = self._post(f"agents/{self.agent}/ask", {"text": text})
        if answer.get("text") != reply:
            raise RuntimeError(f"{text!r} was answered with {answer}")

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        answer = self.session.post(f"{self.url}/api/v1/{path}", json=body, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def main() -> None:
    """Measure in shuffled rounds, then print."""
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-")))
        where.chmod(0o755)  # a root worker's jobs run as a user who has to get here
        power, power_pids = _start(stack, where / "power", "power")
        process, _ = _start(stack, where / "process", "process")
        actions = _actions(where, power, process)
        took_ms: dict[str, list[list[float]]] = {name: [] for name in actions}
        for name in shuffled([*actions], ROUNDS):
            power.renew_agent()
            process.renew_agent()
            took_ms[name].append([_timed_ms(actions[name]) for _ in range(SAMPLES)])
        idle = idle_percent(power_pids, IDLE_SECONDS)
    _print(took_ms, idle)


def _actions(where: Path, power: Roost, process: Roost) -> dict[str, Act]:
    job = where / "job.ts"
    job.write_text(f"{CODE}\nconsole.log(globalThis.result);\n")
    bun = sandbox.find_bun(os.environ.get("ROOST_BUN"), os.environ.get("PATH"))
    scratch = where / "scratch"
    scratch.mkdir()
    cage = sandbox.choose("auto", scratch=scratch, bun=bun)
    synced = os.open(where / "synced", os.O_WRONLY | os.O_CREAT)
    return {
        "GET /health": power.answer_health,
        "4 KiB written and synced": lambda: _sync(synced),
        "bun, cold": lambda: _run_bun(bun, job),
        f"sandbox ({cage.level}), cold": lambda: _run_caged(cage),
        "message accepted": power.accept,
        "message accepted, process": process.accept,
        "reply": lambda: power.ask("say", "said"),
        "reply, process": lambda: process.ask("say", "said"),
        "reply with an exec": lambda: power.ask("run", "ran"),
        "reply with an exec, process": lambda: process.ask("run", "ran"),
    }


def _timed_ms(act: Act) -> float:
    time.sleep(GAP_SECONDS)
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _sync(descriptor: int) -> None:
    os.pwrite(descriptor, bytes(4096), 0)
    os.fdatasync(descriptor)


def _run_bun(bun: Path, job: Path) -> None:
    subprocess.run([bun, job], check=True, stdout=subprocess.DEVNULL, timeout=20)


def _run_caged(cage: sandbox.Sandbox) -> None:
    outcome = cage.run(
        sandbox.Job(id="bench", code=CODE),
        sandbox.Policy(),
        emit=lambda _: None,
        control=sandbox.Control(),
    )
    if outcome.result != 1:
        raise RuntimeError(f"The sandbox gave {outcome}")


def _start(
    stack: ExitStack, directory: Path, durability: str
) -> tuple[Roost, dict[str, list[int]]]:
    """Start the Procfile; return the Roost and its processes by what they run."""
    directory.mkdir()
    script = directory / "script.json"
    script.write_text(json.dumps(SCRIPT))
    home, port = directory / "home", _free_port()
    environ = {
        "ROOST_HOME": str(home),
        "ROOST_DURABILITY": durability,
        "ROOST_MODEL": f"scripted/{script}",
        "PORT": str(port),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    command = [BIN / "honcho", "-f", ROOT / "Procfile", "-d", directory, "start"]
    honcho = stack.enter_context(started(command, environ, directory / "log"))
    roost = Roost(home, port)
    stack.callback(roost.session.close)
    wait_until(roost.is_ready)
    roost.log_in()
    return roost, _by_kind(honcho.pid)


def _by_kind(pid: int) -> dict[str, list[int]]:
    named = {
        "web": "webapp.wsgi",
        "agents": "turns_consumer",
        "exec": "execs_consumer",
        "scheduler": "roost scheduler",
    }
    lines = {
        each: Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for each in children(pid)
    }
    return {
        kind: [each for each, line in lines.items() if mark in line]
        for kind, mark in named.items()
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _print(took_ms: dict[str, list[list[float]]], idle: dict[str, float]) -> None:
    p50 = {
        name: median([percentile(r, 0.5) for r in rounds])
        for name, rounds in took_ms.items()
    }
    p99 = {
        name: percentile([sample for each in rounds for sample in each], 0.99)
        for name, rounds in took_ms.items()
    }
    http, bun = p50["GET /health"], p50["bun, cold"]
    rows = [
        (
            name,
            f"{p50[name]:.2f}",
            f"{p99[name]:.2f}",
            f"{p50[name] / http:.1f}",
            f"{p50[name] / bun:.1f}",
        )
        for name in took_ms
    ]
    head = ("", "p50 ms", "p99 ms", "÷ /health", "÷ bun")
    print_table(f"Message → reply, {ROUNDS} rounds of {SAMPLES}", head, rows)
    rows = [(name, f"{percent:.2f}") for name, percent in idle.items()]
    print_table("Idle, % of a core, each kind's busiest", ("", "CPU %"), rows)


if __name__ == "__main__":
    main()
