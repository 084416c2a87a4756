"""HTTP tools against a real server, from `tools.json` to what the server sees."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.control import HandedOver, Stop
from agents.messages import ToolCall, ToolResult
from agents.tools import Registry, ToolContext
from broker import entries, steps, tasks, turns
from workers import http_tools
from workers.http_tools import ToolsError

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "http-tools.md"
SECRET = 's3/cret"+x'
CONTEXT = ToolContext(
    key="turn-7/3", step=3, agent_id="scout", turn_id="turn-7", runtime=None
)
ANY = {"properties": {"a": {}, "b": {}, "c": {}}}


@dataclass(slots=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """What the server saw; `done` lets those answers end that hang."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
    hangs: threading.Event = field(default_factory=threading.Event)


class Answers(BaseHTTPRequestHandler):
    """Answers by the first part of the path; an effect happens once for a key."""

    server: Any

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        house: Server = self.server.house
        headers = dict(self.headers.items())
        house.seen.append(Seen(self.command, self.path, headers, body))
        house.effects.setdefault(headers["Idempotency-Key"], len(house.effects) + 1)
        part = self.path.strip("/").partition("/")[0].partition("?")[0]
        getattr(self, part)()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def say(self, status: int, type: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def json(self) -> None:
        self.say(200, "application/json", b'{"degrees": 21}')

    def text(self) -> None:
        self.say(200, "text/plain; charset=latin-1", "grün".encode("latin-1"))

    def odd(self) -> None:
        self.say(200, "text/plain; charset=martian", b"[NaN, \xff]")

    def idna(self) -> None:
        self.say(200, "text/plain; charset=idna", "grün".encode())

    def deep(self) -> None:
        self.say(200, "application/json", b"[" * 60_000)

    def empty(self) -> None:
        self.say(204, "text/plain", b"")

    def wrong(self) -> None:
        self.say(422, "application/json", b'{"error": "no such city"}')

    def echo(self) -> None:
        told = json.dumps(dict(self.headers.items())).replace("/", "\\/")
        self.say(200, "application/json", told.encode())

    def moved(self) -> None:
        there = f"/json?token={self.headers['X-Token']}"
        self.say(302, "text/plain", b"over there", Location=there)

    def big(self) -> None:
        self.say(200, "text/plain", b"x" * 64 * 1024 + b"y" * 1000)

    def full(self) -> None:
        self.say(200, "text/plain", b"x" * 64 * 1024)

    def leaky(self) -> None:
        token = self.headers["X-Token"].encode()
        self.say(200, "text/plain", b"x" * (64 * 1024 - 4) + token + b"y" * 1000)

    def drip(self) -> None:
        """Send a header a byte at a time, for ever."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not self.server.house.done.wait(0.02):
            self.wfile.write(b".")
            self.wfile.flush()

    def hang(self) -> None:
        self.server.house.hangs.set()
        self.server.house.done.wait(30)

    def trickle(self) -> None:
        """Send a byte now and then, for ever."""
        self.send_response(200)
        self.end_headers()
        while not self.server.house.done.wait(0.02):
            self.wfile.write(b".")
            self.wfile.flush()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def half(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")


class Quiet(ThreadingHTTPServer):
    """A server to which a client that has gone is no news."""

    def handle_error(self, *_: Any) -> None:
        """A client has hung up."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A counting server on this machine."""
    listening = Quiet(("127.0.0.1", 0), Answers)
    listening.house = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield listening.house
    listening.house.done.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def declare(tmp_path: Path, server: Server) -> Callable[..., Path]:
    """Write a `tools.json` of one tool, `weather`, at a path of the server."""

    def write(path: str = "/json", **change: Any) -> Path:
        tool = {
            "name": "weather",
            "description": "The weather.",
            "method": "GET",
            "url": server.url + path,
            "parameters": ANY,
            **change,
        }
        (tmp_path / "tools.json").write_text(json.dumps([tool]))
        return tmp_path

    return write


def run(home: Path, context: ToolContext = CONTEXT, /, **arguments: Any) -> ToolResult:
    """Call the tool as a turn does."""
    registry = Registry(http_tools.load(home))
    call = ToolCall(id="id", name="weather", arguments=arguments)
    assert registry.refuse(call) is None
    return registry.execute(call, context)


def run_until(server: Server, home: Path, stop: Callable[[Stop], None]) -> ToolResult:
    """Call the tool, and do something to the turn as soon as the server has it."""
    turn = Stop()
    other = threading.Thread(target=lambda: (server.hangs.wait(30), stop(turn)))
    other.start()
    try:
        return run(home, replace(CONTEXT, stop=turn))
    finally:
        other.join()


def body_of(result: ToolResult) -> Any:
    assert result.status == "succeeded"
    return json.loads(result.text)["body"]


# What the server sees.


def test_the_step_key_is_sent_as_the_idempotency_key(declare, server) -> None:
    assert run(declare()).text == '{"status_code": 200, "body": {"degrees": 21}}'
    assert [each.headers["Idempotency-Key"] for each in server.seen] == ["turn-7/3"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_arguments_fill_the_url_and_the_rest_is_the_query(
    declare, server, method
) -> None:
    home = declare("/json/{a}/x?unit=c", method=method)
    run(home, a="São Paulo/../?#%", b=[1, True, "x y"], c=None)
    [seen] = server.seen
    assert (seen.method, seen.body) == (method, b"")
    assert seen.path == (
        "/json/S%C3%A3o%20Paulo%2F..%2F%3F%23%25/x?unit=c&b=1&b=true&b=x+y"
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_arguments_fill_the_url_and_the_rest_is_the_json_body(
    declare, server, method
) -> None:
    run(declare("/json/{a}", method=method), a=7, b={"x": [1, None]}, c="ü")
    [seen] = server.seen
    assert (seen.method, seen.path) == (method, "/json/7")
    assert seen.headers["Content-Type"] == "application/json"
    assert json.loads(seen.body) == {"b": {"x": [1, None]}, "c": "ü"}


def test_a_call_without_arguments_posts_an_empty_object(declare, server) -> None:
    run(declare(method="POST"))
    assert server.seen[0].body == b"{}"


def test_arguments_may_have_the_names_of_the_handlers_own(declare, server) -> None:
    names = {"self": "1", "context": "2"}
    properties: dict[str, Any] = {"self": {}, "context": {}}
    run(declare(parameters={"properties": properties}), **names)
    assert server.seen[0].path == "/json?self=1&context=2"


def test_a_quoted_dot_stays_quoted(declare, server) -> None:
    run(declare("/json/{a}/x"), a="%2e%2e")
    assert server.seen[0].path == "/json/%252e%252e/x"


def test_neither_the_environment_nor_netrc_touches_a_request(
    declare, server, monkeypatch, tmp_path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert run(declare()).status == "succeeded"
    assert "Authorization" not in server.seen[0].headers


# What the model reads.


def test_a_body_that_is_no_json_is_text_in_its_charset(declare) -> None:
    assert body_of(run(declare("/text"))) == "grün"
    assert body_of(run(declare("/odd"))) == "[NaN, \N{REPLACEMENT CHARACTER}]"
    assert body_of(run(declare("/idna"))) == "grün"
    assert body_of(run(declare("/deep"))) == "[" * 60_000
    assert body_of(run(declare("/empty"))) == ""


def test_an_error_status_is_a_failed_result_with_its_body(declare) -> None:
    result = run(declare("/wrong"))
    assert result.status == "failed"
    assert json.loads(result.text) == {
        "status_code": 422,
        "body": {"error": "no such city"},
    }


def test_a_redirect_is_reported_and_not_followed(declare, server) -> None:
    result = run(declare("/moved", headers={"X-Token": "1"}))
    assert json.loads(result.text) == {
        "status_code": 302,
        "location": "/json?token=1",
        "body": "over there",
    }
    assert len(server.seen) == 1


def test_a_long_body_is_cut_and_the_result_says_so(declare) -> None:
    shown = json.loads(run(declare("/big")).text)
    assert shown == {
        "status_code": 200,
        "truncated": "the body is longer than 65536 bytes",
        "body": "x" * 65536,
    }
    assert "truncated" not in json.loads(run(declare("/full")).text)


# When there is no answer.


@pytest.mark.parametrize("effect", ["pure", "idempotent", "at_most_once"])
def test_where_nobody_listens_nothing_was_sent(declare, effect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        result = run(declare(url=f"http://{host}/x?key=1", effect=effect))
    assert (result.status, result.text) == (
        "failed",
        f"No connection to {host}: Connection refused. Nothing was sent.",
    )


ENDINGS = [
    ("pure", "failed", ""),
    (
        "idempotent",
        "failed",
        " It may have happened all the same, and a new call has a new key: check "
        "before you repeat it.",
    ),
    (
        "at_most_once",
        "uncertain",
        " It may or may not have happened. It was not repeated: check before you "
        "repeat it.",
    ),
]


@pytest.mark.parametrize(("effect", "status", "ending"), ENDINGS)
@pytest.mark.parametrize("path", ["/hang", "/drip", "/trickle"])
def test_an_answer_that_does_not_end_in_time_is_no_answer(
    declare, server, path, effect, status, ending
) -> None:
    result = run(declare(path, method="POST", effect=effect, timeout_seconds=0.1))
    host = server.url.removeprefix("http://")
    assert (result.status, result.text) == (
        status,
        f"No whole answer from {host} within 0.1 s.{ending}",
    )
    assert len(server.seen) == 1


def test_a_handshake_that_drips_ends_in_time(declare) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as taken, suppress(OSError):
                taken.sendall(b"\x16\x03\x03\x40\x00")
                while not done.wait(0.02):
                    taken.sendall(b"\x02")

        thread = threading.Thread(target=answer)
        thread.start()
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        result = run(declare(url=f"https://{host}/", timeout_seconds=0.1))
        done.set()
        thread.join()
    assert result.text == f"No whole answer from {host} within 0.1 s."


@pytest.mark.parametrize(("effect", "status", "ending"), ENDINGS)
def test_an_interrupt_of_the_turn_ends_a_call(
    declare, server, effect, status, ending
) -> None:
    home = declare("/hang", method="POST", effect=effect)
    result = run_until(server, home, lambda turn: turn.interrupt.set())
    host = server.url.removeprefix("http://")
    assert (result.status, result.text) == (
        status,
        f"No whole answer from {host}: the turn was interrupted.{ending}",
    )


def test_a_call_that_a_drain_cuts_short_is_left_to_another_worker(
    declare, server
) -> None:
    def drain(turn: Stop) -> None:
        turn.ask(HandedOver())
        turn.cut_short()

    with pytest.raises(HandedOver):
        run_until(server, declare("/hang"), drain)


@pytest.mark.parametrize(("effect", "status", "ending"), ENDINGS)
@pytest.mark.parametrize(
    ("path", "why"),
    [("/reset", "Connection reset by peer"), ("/half", "the connection broke")],
)
def test_a_connection_that_breaks_after_sending_is_no_answer(
    declare, server, path, why, effect, status, ending
) -> None:
    result = run(declare(path, method="POST", effect=effect))
    host = server.url.removeprefix("http://")
    assert (result.status, result.text) == (
        status,
        f"No whole answer from {host}: {why}.{ending}",
    )
    assert len(server.seen) == 1


# Secrets.


@pytest.fixture
def with_secret(declare, tmp_path: Path) -> Callable[..., Path]:
    """A tool whose header holds a secret."""

    def write(path: str, **change: Any) -> Path:
        (tmp_path / ".env").write_text(f"TOKEN='{SECRET}'\n")
        return declare(path, headers={"X-Token": "${TOKEN}"}, **change)

    return write


def test_a_header_gets_its_secret_and_the_result_does_not(with_secret, server) -> None:
    shown = body_of(run(with_secret("/echo")))
    assert server.seen[0].headers["X-Token"] == SECRET
    assert shown["X-Token"] == "[hidden]"


def test_a_header_may_be_made_of_several_secrets_each_as_it_is_written(
    declare, server, monkeypatch
) -> None:
    monkeypatch.setenv("C", "of the process")
    home = declare("/echo", headers={"Authorization": "Bearer ${A}-${B}", "X-A": "$A"})
    (home / ".env").write_text("A=one\nB=two${A}${C}\n")
    shown = body_of(run(home))
    assert server.seen[0].headers["Authorization"] == "Bearer one-two${A}${C}"
    assert (shown["Authorization"], shown["X-A"]) == ("Bearer [hidden]-[hidden]", "$A")


def test_no_secret_is_in_a_location_or_at_the_edge_of_a_cut(with_secret) -> None:
    moved = json.loads(run(with_secret("/moved")).text)
    assert moved["location"] == "/json?token=[hidden]"
    assert body_of(run(with_secret("/leaky"))) == "x" * (64 * 1024 - 4)


@pytest.mark.parametrize("path", ["/hang", "/reset", "/half"])
def test_no_secret_is_in_an_error_a_log_or_a_repr(with_secret, path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    home = with_secret(path, timeout_seconds=0.1)
    shown = f"{run(home)} {caplog.text} {http_tools.load(home)}"
    assert "s3/cret" not in shown


# The file.


def test_a_home_without_the_file_has_no_http_tools(tmp_path: Path) -> None:
    assert http_tools.load(tmp_path) == ()
    assert http_tools.load(None) == ()


def test_a_file_that_has_not_changed_is_not_read_again(declare) -> None:
    home = declare()
    assert http_tools.load(home) is http_tools.load(home)


def test_a_change_of_either_file_is_seen_by_the_next_load(declare) -> None:
    home = declare("/echo", headers={"X-Token": "${TOKEN}"})
    with pytest.raises(ToolsError, match="needs TOKEN"):
        http_tools.load(home)
    (home / ".env").write_text("TOKEN=one\n")
    [first] = http_tools.load(home)
    (home / ".env").write_text("TOKEN=three\n")
    [second] = http_tools.load(home)
    assert (first.handler.headers, second.handler.headers) == (
        {"X-Token": "one"},
        {"X-Token": "three"},
    )
    declare("/echo", name="rain")
    os.utime(home / "tools.json", ns=(1, 1))
    assert [each.name for each in http_tools.load(home)] == ["rain"]


def test_a_variable_of_the_process_is_not_a_secret_of_the_home(
    declare, monkeypatch
) -> None:
    monkeypatch.setenv("TOKEN", "of the process")
    with pytest.raises(ToolsError, match=r"`\.env` beside this file does not set it"):
        http_tools.load(declare(headers={"X-Token": "${TOKEN}"}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "It cannot be read as JSON: Expecting value: line 1 column 2"),
        ("{}", "It must be a JSON list of tools."),
        ("[7]", "Tool 1 (None): A tool must be a JSON object."),
        ('[{"nam": "x"}]', "Tool 1 (None): `nam` is an unknown field. Did you mean"),
        ("[ONE, ONE]", "Tool 2 ('one'): `name`: a tool of this name is declared above"),
        ("[EXEC]", "Tool 1 ('exec'): `name`: a tool of this name is built in"),
        ("[MISSING]", "the header X needs NOPE, and `.env` beside this file does not"),
        ("[EMPTY]", "the header X needs EMPTY, and `.env` beside this file does not"),
        ("[HALF]", "the header X has a ${ that names no variable"),
        ("[BLANK]", "the header X must be visible ASCII, without a blank at its ends."),
        ("[LINES]", "the header X must be visible ASCII, without a blank at its ends."),
    ],
)
def test_a_bad_file_is_one_error_that_says_what_to_do(
    tmp_path: Path, text: str, says: str
) -> None:
    headers = {
        "MISSING": "${NOPE}",
        "EMPTY": "${EMPTY}",
        "HALF": "${A-B}",
        "BLANK": " x",
        "LINES": "${LINES}",
    }
    tool = {"name": "one", "description": "One.", "method": "GET", "parameters": {}}
    tool["url"] = "http://127.0.0.1/"
    text = text.replace("ONE", json.dumps(tool))
    text = text.replace("EXEC", json.dumps({**tool, "name": "exec"}))
    for word, value in headers.items():
        declared = json.dumps({**tool, "headers": {"X": value}})
        text = text.replace(f"[{word}]", f"[{declared}]")
    (tmp_path / "tools.json").write_text(text)
    (tmp_path / ".env").write_text('EMPTY=\nLINES="s3cret\\nline"\n')
    with pytest.raises(ToolsError) as refusal:
        http_tools.load(tmp_path)
    told = refusal.value.as_json()
    assert told == {
        "type": "bad_tools",
        "message": str(refusal.value),
        "path": str(tmp_path / "tools.json"),
    }
    assert says in told["message"]
    assert told["message"].endswith(" Mend it, then retry the turn.")
    assert "s3cret" not in told["message"]


def test_an_env_file_that_is_no_text_is_an_error_without_its_bytes(declare) -> None:
    home = declare()
    (home / ".env").write_bytes(b"TOKEN=\xff\xfe s3cret")
    with pytest.raises(ToolsError, match=r"\.env: It cannot be read \(UnicodeDecode"):
        http_tools.load(home)


def test_the_files_that_the_document_shows_make_tools(tmp_path: Path) -> None:
    shown = DOCUMENT.read_text()
    for name, mark in (("tools.json", "tools"), (".env", "env")):
        [block] = re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", shown, re.S)
        (tmp_path / name).write_text(block.replace("…", "k-1"))
    weather, ticket = http_tools.load(tmp_path)
    assert (weather.name, weather.effect) == ("weather", "pure")
    assert weather.handler.headers == {"Authorization": "Bearer k-1"}
    assert (ticket.name, ticket.effect) == ("open_ticket", "at_most_once")


# Whole turns.


def told(house: Any, id: str) -> list[tuple[str, str, int]]:
    return [
        (step["name"], step["status"], step["attempts"])
        for step in steps.list_of(house.database, id)
        if step["kind"] == "tool"
    ]


CALL = {"tool_calls": [{"name": "weather", "arguments": {"a": "Oslo"}}]}


def test_a_turn_calls_a_declared_tool_under_the_key_of_its_step(
    house, workshop, scripted, declare, server
) -> None:
    tools = http_tools.load(declare(method="POST"))
    id = house.post().turn_id
    model = scripted(CALL, {"when": {"contains": '"degrees": 21'}, "text": "Warm."})
    workshop.work(workshop.taker(model, tools=tools))
    assert tasks.shape(house.task(id))["result"] == {"text": "Warm."}
    assert [each.headers["Idempotency-Key"] for each in server.seen] == [f"{id}/2"]
    assert [
        each["content"][0]["text"]
        for each in entries.list_after(house.database, "scout")
        if each["type"] == "tool_result"
    ] == ['{"status_code": 200, "body": {"degrees": 21}}']


@pytest.mark.parametrize(
    ("effect", "requests", "ended"),
    [
        ("idempotent", 2, ("weather", "succeeded", 2)),
        ("at_most_once", 1, ("weather", "uncertain", 2)),
    ],
)
def test_a_call_whose_worker_died_after_it_has_one_effect(
    house, workshop, scripted, died, declare, server, effect, requests, ended
) -> None:
    [tool] = http_tools.load(declare(method="POST", effect=effect))

    def die_after(context: ToolContext, /, **arguments: Any) -> ToolResult:
        tool.handler(context, **arguments)
        raise died

    id = house.post().turn_id
    model = scripted(CALL, {"text": "done"})
    deadly = workshop.taker(model, tools=[replace(tool, handler=die_after)])
    with pytest.raises(died):
        deadly.take(id)
    workshop.bury()
    workshop.taker(model, "worker-2", tools=[tool]).take(id)
    assert (house.status(id), told(house, id)) == ("completed", [ended])
    assert [each.headers["Idempotency-Key"] for each in server.seen] == [
        f"{id}/2"
    ] * requests
    assert server.effects == {f"{id}/2": 1}


def test_a_bad_file_fails_the_turn_at_once_and_a_mended_one_lets_it_go_on(
    house, workshop, scripted, declare, server
) -> None:
    taker = workshop.taker(scripted(CALL, {"text": "Warm."}))
    taker.home = declare(metod="POST")
    id = house.post().turn_id
    workshop.work(taker)
    row = tasks.shape(house.task(id))
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert row["error"]["type"] == "bad_tools"
    assert "Did you mean `method`?" in row["error"]["message"]
    declare(method="POST")
    with house.write() as tx:
        tasks.retry(tx, id)
    workshop.work(taker)
    assert tasks.shape(house.task(id))["result"] == {"text": "Warm."}
    assert [each.headers["Idempotency-Key"] for each in server.seen] == [f"{id}/2"]


def test_an_interrupt_ends_the_call_and_then_the_turn(
    house, workshop, scripted, declare, server
) -> None:
    home = declare("/hang", method="POST", effect="at_most_once")
    id = house.post().turn_id
    taker = workshop.taker(scripted(CALL, {"text": "ok"}), tools=http_tools.load(home))
    taker.keeper.start()
    working = threading.Thread(target=taker.take, args=(id,))
    working.start()
    assert server.hangs.wait(30)
    with house.write() as tx:
        turns.interrupt(tx, "scout")
    working.join(30)
    assert tasks.shape(house.task(id))["result"]["interrupted"] is True
    assert told(house, id) == [("weather", "uncertain", 1)]


def test_a_timeout_of_what_may_happen_once_is_an_uncertain_step(
    house, workshop, scripted, declare
) -> None:
    home = declare("/hang", method="POST", effect="at_most_once", timeout_seconds=0.1)
    id = house.post().turn_id
    model = scripted(CALL, {"when": {"contains": "may or may not"}, "text": "I see."})
    workshop.work(workshop.taker(model, tools=http_tools.load(home)))
    assert (house.status(id), told(house, id)) == (
        "completed",
        [("weather", "uncertain", 1)],
    )
