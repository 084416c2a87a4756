"""A Roost of its own: the real Procfile's processes in a home, on a free port.

`System` starts, stops and kills it; `Api` asks it over HTTP; `Agent` is one of its
agents.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from tests.acceptance import processes
from tests.acceptance.processes import Process
from tests.acceptance.sse import Stream
from tests.acceptance.waiting import wait_until

REPOSITORY: Final = Path(__file__).parent.parent.parent
BIN: Final = Path(sys.executable).parent
START_SECONDS: Final = 60.0  # a machine that is busy with other tests starts slowly
STOP_SECONDS: Final = 5.0  # what the contract allows
ANSWER_SECONDS: Final = 60.0
HONCHO_STOPPED: Final = (0, 143)
PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>
PROBLEM: Final = "application/problem+json"

JSON = dict[str, Any]
_libc = ctypes.CDLL(None)

# Whose keys and addresses a developer may have set.
PROVIDERS = ("ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_", "OPENROUTER_", "OLLAMA_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the main process ended."""

    code: int
    seconds: float


class System:
    """One home and, from `start` to `stop`, the processes that serve it."""

    def __init__(
        self, home: Path, command: Sequence[str] = ("honcho", "start")
    ) -> None:
        self.home = home
        self.port = _free_port()
        self.command = list(command)
        self.model = "demo"
        self.log = home.with_name(f"{home.name}.log")
        self._main: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> Api:
        """Its HTTP API, with the token of the home."""
        return Api(self.port, (self.home / "token").read_text().strip())

    @property
    def environ(self) -> dict[str, str]:
        """What its processes, and commands that talk to it, are started with.

        Empty values stand before those of a developer's own .env.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ROOST_", "HONCHO_", *PROVIDERS))
        }
        return inherited | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "ROOST_HOME": str(self.home),
            "ROOST_HOST": "127.0.0.1",
            "ROOST_MODEL": self.model,
            "ROOST_TOKEN": "",
            "ROOST_DATABASE_URL": "",
            "ROOST_QUEUE_URL": "",
        }

    @property
    def main(self) -> Process:
        """The process that was started: honcho, or `roost up`."""
        assert self._main is not None
        found = processes.find(self._main.pid)
        assert found is not None, self._log_end()
        return found

    @property
    def is_running(self) -> bool:
        """Whether the main process runs."""
        return self._main is not None and self._main.poll() is None

    def start(self) -> None:
        """Start it in a process group of its own, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._main = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=_end_with_the_tests,
            )
        wait_until(self.is_ready, START_SECONDS, "/ready answers 200")

    def is_ready(self) -> bool:
        """Whether it says so; fail at once when it has ended instead."""
        assert self.is_running, f"it ended instead of starting:\n{self._log_end()}"
        try:
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def processes(self) -> set[Process]:
        """Return all that runs for this home now."""
        return processes.with_home(self.home)

    def workers(self, kind: str) -> list[Process]:
        """Return the processes of one Procfile line, parents first.

        honcho runs each line below a helper of its own, which is not counted.
        """
        words = {
            "web": "webapp.wsgi:app",
            "agents": "workers.turns_consumer.huey",
            "exec": "workers.execs_consumer.huey",
            "scheduler": "scheduler",
        }
        found = [each for each in self.processes() if words[kind] in each.arguments]
        pids = {each.pid for each in found}
        return sorted(found, key=lambda each: (each.parent_pid in pids, each.pid))

    def sandboxed(self) -> set[Process]:
        """Return the Bun processes of running execs."""
        return {each for each in self.processes() if each.name == "bun"}

    def send(self, number: signal.Signals) -> None:
        """Send the main process a signal."""
        self.main.send(number)

    def wait(self, seconds: float = 2 * STOP_SECONDS) -> Ended:
        """Wait for the main process's end."""
        assert self._main is not None
        began_at = time.monotonic()
        code = self._main.wait(seconds)
        return Ended(code=code, seconds=time.monotonic() - began_at)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Stop it as a person would, and require that it ends well, and all of it."""
        running = self.processes()
        self.send(number)
        ended = self.wait()
        assert ended.seconds < STOP_SECONDS, self._log_end()
        assert ended.code in HONCHO_STOPPED, self._log_end()
        assert processes.alive(running) | self.processes() == set()
        return ended

    def clean_up(self) -> None:
        """Stop it if it runs; what is then left is killed, by its own id, and told."""
        try:
            if self.is_running:
                self.stop()
        finally:
            left = self.processes()
            for each in left:
                each.send(signal.SIGKILL)
            if self._main is not None:
                self._main.wait(STOP_SECONDS)
        assert left == set()

    def roost(
        self, *arguments: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [str(BIN / "roost"), *arguments],
            cwd=self.home.parent,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )

    def _log_end(self) -> str:
        return self.log.read_text()[-4000:]


@dataclass(frozen=True, slots=True)
class Api:
    """The HTTP API; each call is a connection of its own."""

    port: int
    token: str | None

    def send(self, method: str, path: str, **rest: Any) -> requests.Response:
        """Send a request and return the answer, whatever it is."""
        headers = self._headers | rest.pop("headers", {})
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no ~/.netrc
            return session.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                headers=headers,
                timeout=(5, 2 * ANSWER_SECONDS),
                **rest,
            )

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON at a path below /api/v1."""
        return _json(self.send("GET", f"/api/v1{path}", params=params))

    def post(self, path: str, body: JSON | None = None) -> Any:
        """Post JSON below /api/v1 and return the JSON that comes back."""
        return _json(self.send("POST", f"/api/v1{path}", json=body or {}))

    def items(self, path: str, **params: Any) -> list[JSON]:
        """Return a whole list, following its cursor."""
        found: list[JSON] = []
        while True:
            page = self.get(path, **params)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]

    def task(self, id: str) -> JSON:
        """Read a task."""
        found: JSON = self.get(f"/tasks/{id}")
        return found

    def finished(self, id: str, seconds: float = ANSWER_SECONDS) -> JSON:
        """Wait for a task's end, and return it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            task: JSON = self.get(f"/tasks/{id}", wait_seconds=min(left, 50))
            if task["finished_at"]:
                return task
        raise AssertionError(f"{id} has not ended within {seconds:g} s: {task}")

    def run(self, code: str, **payload: Any) -> JSON:
        """Queue an exec."""
        task: JSON = self.post(
            "/tasks", {"type": "exec", "payload": {"code": code, **payload}}
        )
        return task

    def wait_for_status(self, id: str, *statuses: str) -> JSON:
        """Wait until a task is in one of these states."""

        def look() -> JSON | None:
            task = self.task(id)
            return task if task["status"] in statuses else None

        found = wait_until(look, ANSWER_SECONDS, f"{id} is {' or '.join(statuses)}")
        assert found is not None
        return found

    def follow(self, last_event_id: int | None = None, **params: Any) -> Stream:
        """Open the event stream."""
        headers = self._headers
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        query = requests.compat.urlencode(params)
        return Stream(self.port, "GET", f"/api/v1/events/stream?{query}", headers)

    def agent(self, id: str) -> Agent:
        """Return an agent that exists."""
        return Agent(self, id)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def open_stream(self, agent_id: str, text: str) -> Stream:
        """Say something and stream the turn."""
        headers = self._headers | {"Content-Type": "application/json"}
        path = f"/api/v1/agents/{agent_id}/stream"
        return Stream(self.port, "POST", path, headers, {"text": text})


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent."""

    api: Api
    id: str

    def send(self, text: str, **more: Any) -> JSON:
        """Say something; returns `{event_id, turn_id, request_id}`."""
        said: JSON = self.api.post(
            f"/agents/{self.id}/messages", {"text": text, **more}
        )
        return said

    def ask(self, text: str) -> str:
        """Say something and return the reply's text."""
        body = {"text": text, "wait_seconds": ANSWER_SECONDS}
        said = self.api.post(f"/agents/{self.id}/ask", body)
        return str(said["text"])

    def turn(self, text: str) -> JSON:
        """Say something and return the turn once it has ended, however that was."""
        return self.api.finished(self.send(text)["turn_id"])

    def stream(self, text: str) -> Stream:
        """Say something and stream the turn."""
        return self.api.open_stream(self.id, text)

    def read(self) -> JSON:
        """Read the agent."""
        shown: JSON = self.api.get(f"/agents/{self.id}")
        return shown

    def history(self) -> list[JSON]:
        """Read the whole history."""
        return self.api.items(f"/agents/{self.id}/history")

    def conversation(self) -> list[JSON]:
        """Read the history's entries that belong to turns: not the prompt's."""
        return [entry for entry in self.history() if entry["turn_id"]]

    def entries(self, type: str) -> list[JSON]:
        """Read the history's entries of one type."""
        return [entry for entry in self.history() if entry["type"] == type]

    def events(self, **wanted: Any) -> list[JSON]:
        """Read all events of the agent."""
        return self.api.items("/events", scope=f"agent/{self.id}", **wanted)

    def tasks(self, **wanted: Any) -> list[JSON]:
        """List the agent's tasks, oldest first."""
        return self.api.items("/tasks", agent=self.id, **wanted)[::-1]

    def wait_for_text(self, turn_id: str) -> None:
        """Wait until the turn's model has begun to speak."""

        def has_spoken() -> bool:
            events = self.events(subject=turn_id)
            return any(each["kind"] == "message_update" for each in events)

        wait_until(has_spoken, ANSWER_SECONDS, f"the model speaks in {turn_id}")


def text_of(entry: JSON) -> str:
    """Return the text of an entry's content."""
    return "".join(b["text"] for b in entry["content"] if b["type"] == "text")


def write_script(path: Path, responses: Sequence[JSON]) -> str:
    """Write a script and return the name of the model that replays it."""
    path.write_text(json.dumps(responses))
    return f"scripted/{path}"


def call(name: str, **arguments: Any) -> JSON:
    """Return a scripted response that calls one tool."""
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def run(code: str, wait_seconds: float = 60) -> JSON:
    """Return a scripted response that runs code."""
    return call("exec", code=code, wait_seconds=wait_seconds)


def _json(answer: requests.Response) -> Any:
    assert answer.ok, f"{answer.status_code}: {answer.text}"
    return answer.json()


def _end_with_the_tests() -> None:
    """Have the kernel send SIGTERM when the test run dies."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _free_port() -> int:
    """Return a port that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
