"""`roost tail`: the last events of an agent, or of all, and those to come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

import click

from webapp.cli.client import Client, api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_json

if TYPE_CHECKING:
    from webapp.cli.follow import Event

# Without -n, `--after` means every event since; nobody reads more than this.
MOST: Final = 1_000_000
LAST: Final = 20


@click.command(epilog="Example: roost tail scout -f")
@click.argument("agent", type=ID, required=False)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on as events come.")
@click.option("--after", metavar="ID", help="Begin after this event.")
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=0),
    help="How many events at most; 20, or with --after all of them.",
)
@common_options
def tail(
    agent: str | None, following: bool, after: str | None, count: int | None
) -> None:
    """Print an agent's last events, or everybody's; with -f as they happen."""
    client = connect()
    scope = None
    if agent is not None:
        client.get(api("agents", agent))  # a wrong name is told, not waited for
        scope = f"agent/{agent}"
    if not following:
        _show(_past(client, scope, after, count), lines=False)
    elif after is not None:
        _show(_coming(client, scope, after), lines=True)
    else:
        _show(_past_and_coming(client, scope, count), lines=True)


def _past(
    client: Client, scope: str | None, after: str | None, count: int | None
) -> list[Event]:
    """Return events, oldest first."""
    path = api("events")
    if after is not None:
        most = MOST if count is None else count
        return client.items(path, most, scope=scope, after=after)
    newest = LAST if count is None else count
    return client.items(path, newest, scope=scope, order="desc")[::-1]


def _past_and_coming(
    client: Client, scope: str | None, count: int | None
) -> Iterator[Event]:
    """Yield the last events and go on from there, though none of them be shown."""
    wanted = LAST if count is None else count
    known = _past(client, scope, None, max(wanted, 1))
    last_id = str(known[-1]["id"]) if known else "0"
    return chain(known if wanted else [], _coming(client, scope, last_id))


def _coming(client: Client, scope: str | None, after: str) -> Iterator[Event]:
    from webapp.cli.follow import Pauses, follow

    return follow(client, scope=scope, after=after, pauses=Pauses())


def _show(events: Iterable[Event], *, lines: bool) -> None:
    if current().as_json:
        _show_json(events, lines=lines)
        return
    from webapp.cli.transcript import Transcript

    transcript = Transcript()
    try:
        for event in events:
            transcript.show(event)
    finally:
        transcript.close()


def _show_json(events: Iterable[Event], *, lines: bool) -> None:
    if not lines:
        emit_json(list(events))
        return
    for event in events:
        emit_json(event, one_line=True)
