"""Following a stream of events for as long as one likes, over broken connections.

No event is lost or seen twice: each connection asks for what came after the last id.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import click

from webapp.cli.client import Client, Refused, Unreachable, api
from webapp.cli.sse import Message, Retry, parse

Event = dict[str, Any]

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
TOO_MANY_REQUESTS: Final = 429


@dataclass(slots=True)
class Pauses:
    """How long to wait before the next attempt: doubling, with jitter.

    The jitter keeps a thousand clients of a restarted server from coming back at once.
    """

    sleep: Callable[[float], object] = time.sleep
    chance: Callable[[], float] = random.random
    first_seconds: float = FIRST_PAUSE_SECONDS
    failures: int = 0

    def went_well(self) -> None:
        """Begin again with the shortest pause."""
        self.failures = 0

    def take(self, at_least_seconds: float = 0.0) -> None:
        """Wait; the longer, the more attempts in a row have failed."""
        longest = self.first_seconds * 2 ** min(self.failures, 16)
        jittered = min(longest, LONGEST_PAUSE_SECONDS) * (0.5 + self.chance() / 2)
        self.failures += 1
        self.sleep(max(jittered, at_least_seconds))


def follow(
    client: Client, *, scope: str | None, after: str | None, pauses: Pauses
) -> Iterator[Event]:
    """Yield events without end; raise only what trying again cannot mend.

    The first connection must succeed: a wrong URL or token is told at once.
    """
    opened = False
    while True:
        least_seconds = 0.0
        try:
            with _open(client, scope, after) as chunks:
                opened = True
                for event in _events(chunks, pauses):
                    after = str(event["id"])
                    yield event
        except (Unreachable, Refused) as exc:
            if not opened or not _may_pass(exc):
                raise
            least_seconds = _asked_pause(exc)
            click.echo(f"{exc.message} Trying again.", err=True)
        pauses.take(least_seconds)


def reply(client: Client, agent: str, text: str, pauses: Pauses) -> Iterator[Event]:
    """Say something to an agent; yield its turn's events to the end.

    The turn is durable and the connection is not: when it breaks, the rest of the turn
    is read from the agent's events.
    """
    last_id: str | None = None
    turn_id: str | None = None
    try:
        path, body = api("agents", agent, "stream"), {"text": text}
        with client.stream("POST", path, body=body) as chunks:
            for event in _events(chunks, pauses):
                last_id, turn_id = str(event["id"]), turn_of(event) or turn_id
                yield event
                if event["kind"] == "agent_end":
                    return
    except Unreachable:
        if last_id is None:
            raise
    if last_id is None or turn_id is None:
        raise Unreachable("The reply broke off. See `roost tail` for the rest of it.")
    yield from _rest_of_turn(client, agent, turn_id, last_id, pauses)


def turn_of(event: Event) -> str | None:
    """Return the turn that an event belongs to."""
    payload = event.get("payload")
    within = payload if isinstance(payload, dict) else {}
    found = within.get("turn_id") or event.get("turn_id")
    return str(found) if found else None


def _open(
    client: Client, scope: str | None, after: str | None
) -> AbstractContextManager[Iterator[bytes]]:
    params = {"scope": scope, "after": after}
    path = api("events", "stream")
    return client.stream("GET", path, params=params, last_event_id=after)


def _events(chunks: Iterator[bytes], pauses: Pauses) -> Iterator[Event]:
    """Yield a stream's events; what has no id (`server_stopping`) is not one."""
    for said in parse(chunks):
        if isinstance(said, Retry):
            pauses.first_seconds = said.milliseconds / 1000
        elif "id" in (event := _decode(said)):
            pauses.went_well()
            yield event


def _decode(message: Message) -> Event:
    try:
        event = json.loads(message.data)
    except ValueError as exc:
        raise click.ClickException("The stream is not one of Roost's.") from exc
    return event if isinstance(event, dict) else {}


def _rest_of_turn(
    client: Client, agent: str, turn_id: str, after: str, pauses: Pauses
) -> Iterator[Event]:
    scope = f"agent/{agent}"
    for event in follow(client, scope=scope, after=after, pauses=pauses):
        if turn_of(event) != turn_id:
            continue
        yield event
        if event["kind"] == "agent_end":
            return


def _may_pass(exc: Unreachable | Refused) -> bool:
    if isinstance(exc, Unreachable):
        return True
    return exc.status >= 500 or exc.status == TOO_MANY_REQUESTS


def _asked_pause(exc: Unreachable | Refused) -> float:
    asked = exc.retry_after if isinstance(exc, Refused) else None
    return float(asked) if asked and asked.isdigit() else 0.0
