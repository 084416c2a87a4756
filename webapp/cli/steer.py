"""Steering a task: `cancel`, `kill`, `retry` and `drop`."""

from __future__ import annotations

from typing import Final

import click

from webapp.cli.client import api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import coloured, emit_json, safe

ENDINGS: Final = ("completed", "failed", "cancelled")


@click.command(epilog="Example: roost cancel turn-12")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def cancel(id_: str) -> None:
    """Cancel a task and its children; work under way may end its step."""
    _apply("cancel", id_)


@click.command(epilog="Example: roost kill exec-17")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def kill(id_: str) -> None:
    """Kill a task and its children, down to their processes."""
    _apply("kill", id_)


@click.command(epilog='Example: roost retry turn-12 --text "In plain words: …"')
@click.argument("id_", metavar="ID", type=ID)
@click.option("--text", help="Ask a failed turn this instead.")
@common_options
def retry(id_: str, text: str | None) -> None:
    """Queue a failed task once more, as it was or, with --text, edited."""
    _apply("retry", id_, {"text": text} if text else {})


@click.command(epilog="Example: roost drop turn-12")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def drop(id_: str) -> None:
    """Take a failed task off the dead-letter list for good."""
    _apply("drop", id_)


def _apply(verb: str, task_id: str, body: dict[str, str] | None = None) -> None:
    task = connect().post(api("tasks", task_id, verb), body or {}).body
    if current().as_json:
        emit_json(task)
    else:
        status = safe(str(task["status"]))
        click.echo(f"{safe(task['id'])} is {coloured(status)}{_more(verb, status)}")


def _more(verb: str, status: str) -> str:
    """Say what is still to come: what runs cannot be stopped in the same instant."""
    is_pending = verb in ("cancel", "kill") and status not in ENDINGS
    return "; it will be cancelled." if is_pending else "."
