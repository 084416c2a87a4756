"""Chaos: the Procfile's processes, many messages, and SIGKILL at random.

`python -m tests.durability.chaos HOME PORT SEED SIZE` is its own little supervisor: it
starts each line of the Procfile as it stands there, sends messages over HTTP as a
client would (an Idempotency-Key, and again until there is an answer), kills any process
every 0.2 to 2 seconds and starts it again, and then waits for quiet. Its last line of
output says what it did. What came of it is judged from the database by test_chaos.

It is a subreaper: whatever the processes it killed have left comes to it, and counts.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from broker import open_broker
from broker.database import Database
from broker.settings import load
from sandbox.processes import become_subreaper, children, read_stat
from tests.durability.supervisor import START_SECONDS, TOKEN, Supervisor

# How many processes of each Procfile line; `release` runs once, before.
PROCESSES: Final = {"web": 1, "agents": 2, "exec": 1, "scheduler": 1}
KINDS: Final = ("web", "web worker", "agents", "exec", "scheduler")
CLIENTS: Final = 8
KILL_EVERY_SECONDS: Final = (0.2, 2.0)
NOTED: Final = "noted"  # what an agent says to news of what it no longer waits for
DELAY: Final = {"delay_seconds": 0.1, "token_seconds": 0.03}  # so that turns take time

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything, and for how long at most."""

    agents: int
    messages: int
    kill_seconds: float
    quiet_seconds: float


SIZES: Final = {
    "small": Size(agents=8, messages=60, kill_seconds=12, quiet_seconds=45),
    "full": Size(agents=40, messages=400, kill_seconds=45, quiet_seconds=90),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One message: to whom, what, and the answer that has to come."""

    number: int
    agent: str
    kind: str  # say, compute (an exec) or ask (a child agent)

    @property
    def key(self) -> str:
        return f"t{self.number:03d}"

    @property
    def text(self) -> str:
        return f"{self.kind} {self.key}."

    @property
    def answer(self) -> str:
        return f"this is the answer to {self.key}"

    def rules(self) -> Iterator[JSON]:
        """What a model has to be told to run this errand.

        Another errand may come meanwhile: the turn takes that in and answers it, and
        what this one waits for is told by a message of its own when it is over.
        """
        said = {"text": self.answer, **DELAY}
        if self.kind == "say":
            yield _when(self.text, said)
        elif self.kind == "compute":
            code = f"console.log('{self.key}'); globalThis.result = 'of {self.key}'"
            asked = {"id": f"exec-{self.key}", "code": code, "wait_seconds": 30}
            yield _when(self.text, _call("exec", asked))
            yield _when(f"Task exec-{self.key}: completed", {"text": NOTED})
            yield _when(f'"of {self.key}"', said)
            waits = f'"task_id": "exec-{self.key}".*"await_error"'
            again = {"task_id": f"exec-{self.key}", "wait_seconds": 30}
            yield {"when": {"matches": waits}, **_call("await_task", again)}
        else:
            child = f"child-of-{self.agent}"
            asked = {"agent_id": child, "text": f"say {self.key}.", "wait_seconds": 30}
            yield _when(self.text, _call("delegate", asked))
            yield {"when": {"matches": f"^{self.answer}$"}, "text": NOTED}
            yield _when(f'"text": "{self.answer}"', said)
            again = {"task_id": child, "wait_seconds": 30}
            yield _when('"await_error"', _call("await_task", again))


def _when(contains: str, response: JSON) -> JSON:
    return {"when": {"contains": contains}, **response}


def _call(name: str, arguments: JSON) -> JSON:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def errands(size: Size) -> list[Errand]:
    """Every fourth agent asks a child of its own; the others say or compute."""
    return [
        Errand(number=n, agent=f"chaos-{n % size.agents}", kind=_kind(n, size))
        for n in range(size.messages)
    ]


def agents_of(size: Size) -> list[str]:
    return [f"chaos-{n}" for n in range(size.agents)]


def _kind(number: int, size: Size) -> str:
    if number % size.agents % 4 == 3:
        return "ask"
    return ("say", "compute", "say")[number // size.agents % 3]


def write_scripts(directory: Path, size: Size) -> None:
    """One script for each agent, and one for all the children."""
    directory.mkdir()
    everything = errands(size)
    for agent in agents_of(size):
        rules = [r for e in everything if e.agent == agent for r in e.rules()]
        (directory / f"{agent}.json").write_text(json.dumps(rules))
    said = [_when(f"say {e.key}.", {"text": e.answer, **DELAY}) for e in everything]
    (directory / "children.json").write_text(json.dumps(said))


class Api:
    """A client that sends again until it has an answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.retries: Counter[str] = Counter()
        self._pause = threading.Event()

    def post(self, path: str, body: JSON, key: str, deadline: float) -> JSON:
        """Send under the key until it is accepted."""
        while True:
            why, found = self._try(path, body, key)
            if found is not None:
                return found
            self.retries[why] += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"POST {path} {key}: {why}, to the end")
            self._pause.wait(0.1)

    def _try(self, path: str, body: JSON, key: str) -> tuple[str, JSON | None]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        try:
            connection.request("POST", f"/api/v1{path}", json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, None
        finally:
            connection.close()
        if response.status in (409, 429, 500, 502, 503, 504):
            return str(response.status), None
        assert response.status < 300, f"{response.status}: {text}"
        return "", dict(json.loads(text))


@dataclass(slots=True)
class Chaos:
    """One run of it."""

    home: Path
    port: int
    size: Size
    chosen: random.Random
    round: list[str] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    pause: threading.Event = field(default_factory=threading.Event)

    def run(self) -> JSON:
        become_subreaper()
        began = time.monotonic()
        scripts = self.home.parent / "scripts"
        write_scripts(scripts, self.size)
        models = {"ROOST_MODEL": f"scripted/{scripts}/children.json"}
        supervisor = Supervisor(self.home, self.port, models)
        supervisor.start(PROCESSES)
        api = Api(self.port)
        try:
            self._make_agents(api, began + START_SECONDS)
            ready = time.monotonic()
            posted = self._rage(supervisor, api)
            raged = time.monotonic()
            is_quiet = self._calm(supervisor)
            calm = time.monotonic()
        finally:
            stopped = supervisor.stop()
        return {
            "posted": posted,
            "is_quiet": is_quiet,
            "killed": self.killed,
            "ended": supervisor.ended,
            "stopped": stopped,
            "retries": api.retries,
            "left": self._left(),
            "seconds": {
                "start": round(ready - began, 1),
                "rage": round(raged - ready, 1),
                "calm": round(calm - raged, 1),
            },
        }

    def _make_agents(self, api: Api, deadline: float) -> None:
        scripts = self.home.parent / "scripts"
        for agent in agents_of(self.size):
            made = {"id": agent, "model": f"scripted/{scripts}/{agent}.json"}
            api.post("/agents", made, f"make-{agent}", deadline)

    def _rage(self, supervisor: Supervisor, api: Api) -> dict[str, JSON]:
        """Send everything and kill meanwhile; return what was answered by key."""
        began = time.monotonic()
        until = began + self.size.kill_seconds
        with ThreadPoolExecutor(CLIENTS) as clients:
            sent = {
                errand.key: clients.submit(self._send, api, errand, began)
                for errand in errands(self.size)
            }
            while time.monotonic() < until:
                self.pause.wait(self.chosen.uniform(*KILL_EVERY_SECONDS))
                supervisor.revive()
                self._kill_one(supervisor)
                supervisor.revive()
            while not all(future.done() for future in sent.values()):
                self.pause.wait(0.1)
                supervisor.revive()
            return {key: future.result() for key, future in sent.items()}

    def _kill_one(self, supervisor: Supervisor) -> None:
        """SIGKILL a process of some kind; in a few rounds every kind has its turn."""
        if not self.round:
            self.round = self.chosen.sample(KINDS, len(KINDS))
        kind = self.round.pop()
        line = kind.partition(" ")[0]
        name = self.chosen.choice([n for n in supervisor.running if n.startswith(line)])
        pid = supervisor.running[name].pid
        if kind == "web worker":
            pid = self.chosen.choice(sorted(children(pid)) or [pid])
        self.killed[kind] += 1
        os.kill(pid, signal.SIGKILL)

    def _send(self, api: Api, errand: Errand, began: float) -> JSON:
        # Spread over the first three quarters, so that all of it is killed into.
        spread = 0.75 * self.size.kill_seconds / self.size.messages
        due = began + errand.number * spread
        self.pause.wait(max(due - time.monotonic(), 0))
        body = {"text": errand.text, "source": "chaos"}
        path = f"/agents/{errand.agent}/messages"
        deadline = began + self.size.kill_seconds + self.size.quiet_seconds
        return api.post(path, body, errand.key, deadline)

    def _calm(self, supervisor: Supervisor) -> bool:
        """Kill nothing more, and wait until every task is over."""
        environ = {"ROOST_HOME": str(self.home)}
        broker = open_broker(load(environ, self.home), migrated=False)
        deadline = time.monotonic() + self.size.quiet_seconds
        try:
            while not (quiet := is_quiet(broker.database)):
                if time.monotonic() > deadline:
                    break
                self.pause.wait(0.1)
                supervisor.revive()
        finally:
            broker.close()
        return quiet

    def _left(self) -> list[str]:
        """What the dead have left that still lives, a second after all was stopped."""
        deadline = time.monotonic() + 1.0
        while (left := _living()) and time.monotonic() < deadline:
            self.pause.wait(0.02)
        wanted = f"ROOST_HOME={self.home}".encode()
        environs = [p for p in Path("/proc").glob("[0-9]*/environ") if _has(p, wanted)]
        return [*map(_command, left), *map(str, environs)]


def is_quiet(database: Database) -> bool:
    return not database.read(
        "SELECT 1 AS x FROM tasks WHERE finished_at IS NULL LIMIT 1"
    )


def _living() -> list[int]:
    living = []
    for pid in children(os.getpid()):
        stat = read_stat(pid)
        if stat is None or stat.state == "Z":
            os.waitpid(pid, 0)
        else:
            living.append(pid)
    return living


def _has(path: Path, wanted: bytes) -> bool:
    try:
        return wanted in path.read_bytes()
    except OSError:
        return False


def _command(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_bytes()
    return line.replace(b"\0", b" ").decode(errors="replace")


def main(home: str, port: str, seed: str, size: str) -> None:
    """Run it and say what was done."""
    done = Chaos(Path(home), int(port), SIZES[size], random.Random(int(seed))).run()
    print(json.dumps(done, default=asdict))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
