"""Server-sent events over one connection, as they arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Final

SILENCE_SECONDS: Final = 20.0  # the server's heartbeats come every 15 s
PATIENCE_SECONDS: Final = 40.0  # no test waits longer for the end of a stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; `id` is None where the server gave none."""

    id: int | None
    kind: str
    data: dict[str, Any]

    @property
    def payload(self) -> dict[str, Any]:
        """What the event carries beside its envelope."""
        found: dict[str, Any] = self.data["payload"]
        return found


class Stream:
    """One open stream: a context manager that yields events until the server ends it.

    Leaving the block cuts the connection, in the middle of an event if need be.
    """

    def __init__(
        self,
        port: int,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any] | None = None,
    ) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=SILENCE_SECONDS)
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, headers)
        self._answer: HTTPResponse = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read().decode()
        self.content_type = self._answer.headers["Content-Type"]

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()
        self._connection.close()

    def __iter__(self) -> Iterator[Event]:
        """Yield each event when its empty line has come."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        fields: dict[str, str] = {}
        for line in self._answer:
            assert time.monotonic() < deadline, "the stream does not come to its end"
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield _event(fields)
                fields = {}

    def take(self, count: int) -> list[Event]:
        """Return the next events, this many."""
        coming = iter(self)
        return [next(coming) for _ in range(count)]


def _event(fields: dict[str, str]) -> Event:
    return Event(
        id=int(fields["id"]) if "id" in fields else None,
        kind=fields["event"],
        data=json.loads(fields["data"]),
    )
