"""A provider's server under the test's hand: it answers, stalls and breaks to order."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PATIENCE_SECONDS: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One answer: a status with a JSON body, or pieces of a stream.

    `then` is what happens after the last piece: the body ends (`end`), the connection
    is reset (`cut`), or nothing more comes until `release` is set (`stall`). With
    `stalls_first` nothing at all comes, not even a status, until then.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    then: str = "end"
    stalls_first: bool = False
    release: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Asked:
    """A request as it came; header names are lower case."""

    path: str
    headers: dict[str, str]
    body: Any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of a burst of calls, more than five (the default) are connected at once.
    request_queue_size = 128


class FakeServer:
    """Answers each request with the next exchange, the last one for ever.

    With `knows_only`, a pattern of `METHOD PATH`, all others are a 404 and not noted.
    """

    def __init__(self, knows_only: str = "") -> None:
        self._knows_only = re.compile(knows_only)
        self.asked: list[Asked] = []
        self.exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def gives(self, *exchanges: Exchange) -> None:
        """Answer with these from now on."""
        self.exchanges = list(exchanges)

    def next(self, method: str, asked: Asked) -> Exchange:
        """Note a request, and say what to do with it."""
        if not self._knows_only.match(f"{method} {asked.path}"):
            return Exchange(status=404, body={"error": "There is nothing here."})
        with self._lock:
            self.asked.append(asked)
            return self.exchanges.pop(0) if self.exchanges[1:] else self.exchanges[0]

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeServer]:
        """Serve in a thread of its own."""
        thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield self
        finally:
            for exchange in self.exchanges:
                exchange.release.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, json.loads(body or b"null"))
        exchange = self.fake.next(self.command, asked)
        if exchange.stalls_first:
            exchange.reached.set()
            exchange.release.wait(PATIENCE_SECONDS)
        with contextlib.suppress(ConnectionError):
            self._answer(exchange)
        self.close_connection = True

    do_GET = do_POST

    def _answer(self, exchange: Exchange) -> None:
        if exchange.body is not None:
            body = json.dumps(exchange.body).encode()
            self._head(exchange, "application/json", {"Content-Length": len(body)})
            self.wfile.write(body)
            return
        chunked = {"Transfer-Encoding": "chunked"}
        self._head(exchange, "text/event-stream", chunked)
        for piece in exchange.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        exchange.reached.set()
        if exchange.then == "stall":
            exchange.release.wait(PATIENCE_SECONDS)
        elif exchange.then == "cut":
            self._reset()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, exchange: Exchange, type: str, more: Mapping[str, Any]) -> None:
        self.send_response(exchange.status)
        self.send_header("Content-Type", type)
        # Said, because it is done: a client that kept the connection for its next call
        # would at times use it just as it ends.
        self.send_header("Connection", "close")
        for name, value in {**exchange.headers, **more}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _reset(self) -> None:
        """Break the connection off, as a machine does that dies."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
