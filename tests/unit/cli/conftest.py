"""A small real HTTP server with contract-shaped answers, and the real command."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from click.testing import CliRunner, Result

from webapp.cli import roost as roost_group


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer as it goes; chunks are sent one by one, then the end is told."""

    status: int = 200
    body: Any = None
    chunks: tuple[bytes, ...] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # break the connection instead of ending the body


@dataclass(slots=True)
class Server:
    """Answers by route, in turn; the last answer of a route is given again."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    routes: dict[str, list[Answer]] = field(default_factory=dict)

    def answers(self, route: str, *answers: Answer) -> None:
        """Set what a route, like `GET /ready`, answers."""
        self.routes[route] = [*answers]

    def gives(self, route: str, body: Any, status: int = 200) -> None:
        """Set one JSON answer."""
        self.answers(route, Answer(status=status, body=body))

    def refuses(self, route: str, status: int, detail: str, **more: Any) -> None:
        """Set a problem document."""
        problem = {
            "type": f"https://roost.example/problems/{status}",
            "title": "Refused",
            "status": status,
            "detail": detail,
            **more,
        }
        self.gives(route, problem, status)

    def next_answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        waiting = self.routes.get(f"{asked.method} {asked.path}")
        if waiting is None:
            detail = f"Nothing is at {asked.path}."
            return Answer(status=404, body={"title": "Not found", "detail": detail})
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    known: Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=json.loads(raw) if raw else None,
        )
        answer = self.known.next_answer(asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self._body(answer)

    def _body(self, answer: Answer) -> None:
        if answer.chunks is not None:
            self._stream(answer)
            return
        raw = answer.body if isinstance(answer.body, bytes) else None
        raw = json.dumps(answer.body).encode() if raw is None else raw
        if "Content-Type" not in answer.headers:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, answer: Answer) -> None:
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        # Unannounced, a client may send its next request into the closing connection.
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in answer.chunks or ():
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if not answer.cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free loopback port."""
    handler = type("BoundHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        known = Server(url=f"http://127.0.0.1:{http.server_port}")
        handler.known = known  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield known
        http.shutdown()
        thread.join()


Roost = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory, and nothing in the environment."""
    for name in ("PORT", "ROOST_HOST", "ROOST_TOKEN", "ROOST_URL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def roost(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> Roost:
    """The command, pointed at the server."""
    monkeypatch.setenv("ROOST_URL", server.url)
    monkeypatch.setenv("ROOST_TOKEN", "secret")

    def run(*arguments: str, **rest: Any) -> Result:
        return CliRunner().invoke(roost_group, arguments, **rest)

    return run


@pytest.fixture
def answer() -> type[Answer]:
    """The class of answers, for tests that stream."""
    return Answer


@pytest.fixture
def event() -> Callable[..., dict[str, Any]]:
    """Make contract-shaped events."""

    def make(id: str, kind: str, body: str | None = None, /, **payload: Any) -> Any:
        return {
            "id": id,
            "stream": "task_output",
            "scope": "agent/scout",
            "subject": None,
            "kind": kind,
            "priority": "normal",
            "body": body,
            "payload": {"turn_id": "turn-1", **payload},
            "cause_id": None,
            "hop": 0,
            "created_at": "2026-11-21T09:00:00Z",
        }

    return make


@pytest.fixture
def sse() -> Callable[..., bytes]:
    """Write events as a server-sent stream."""

    def write(*events: dict[str, Any]) -> bytes:
        return b"".join(
            f"id: {event['id']}\nevent: {event['kind']}\n"
            f"data: {json.dumps(event)}\n\n".encode()
            for event in events
        )

    return write
