"""What an agent has not read yet: `inbox`, `edit` and `withdraw`."""

from __future__ import annotations

from typing import Any, Final

import click

from webapp.cli.client import api
from webapp.cli.look import limit_option
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_json, emit_table, safe

COLUMNS: Final = ("id", "priority", "kind", "source", "turn_id", "turn_status", "text")

event_type = click.IntRange(min=1)


@click.command(epilog="Example: roost inbox scout")
@click.argument("agent", type=ID)
@limit_option
@common_options
def inbox(agent: str, limit: int) -> None:
    """List what an agent has not read, most urgent first."""
    found = connect().items(api("agents", agent, "inbox"), limit)
    if current().as_json:
        emit_json(found)
        return
    rows = [[each[name] for name in COLUMNS] for each in found]
    emit_table(COLUMNS, rows, empty="Nothing is unread.")


@click.command(epilog="Example: roost edit scout 17 'In plain words: …'")
@click.argument("agent", type=ID)
@click.argument("event", type=event_type)
@click.argument("text")
@common_options
def edit(agent: str, event: int, text: str) -> None:
    """Have an agent read another TEXT, before it reads EVENT."""
    changed = connect().patch(api("agents", agent, "inbox", str(event)), {"text": text})
    _emit(changed.body, f"{safe(agent)} will read the new text of {event}.")


@click.command(epilog="Example: roost withdraw scout 17")
@click.argument("agent", type=ID)
@click.argument("event", type=event_type, required=False)
@click.option("--all", "everything", is_flag=True, help="Every message not yet read.")
@common_options
def withdraw(agent: str, event: int | None, everything: bool) -> None:
    """Take EVENT back before an agent reads it, and cancel its turn."""
    if everything == (event is not None):
        raise click.UsageError("Name one EVENT, or say --all.")
    if event is None:
        _withdraw_all(agent)
        return
    withdrawn = connect().delete(api("agents", agent, "inbox", str(event))).body
    turn = withdrawn["turn_id"]
    cancelled = f" {safe(turn)} is cancelled." if turn else ""
    _emit(withdrawn, f"{safe(agent)} will not read {event}.{cancelled}")


def _withdraw_all(agent: str) -> None:
    answer = connect().delete(api("agents", agent, "inbox")).body
    events = ", ".join(map(str, answer["withdrawn"]))
    if events:
        _emit(answer, f"{safe(agent)} will not read {events}.")
    else:
        _emit(answer, f"Nothing of {safe(agent)}'s waited to be read.")


def _emit(changed: Any, said: str) -> None:
    if current().as_json:
        emit_json(changed)
    else:
        click.echo(said)
