"""Steering a task: `cancel`, `kill` and `retry`."""

from __future__ import annotations

import click

from webapp.cli.client import api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import coloured, emit_json, safe


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


@click.command(epilog="Example: roost retry turn-12")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def retry(id_: str) -> None:
    """Queue a failed task once more."""
    _apply("retry", id_)


def _apply(verb: str, task_id: str) -> None:
    task = connect().post(api("tasks", task_id, verb), {}).body
    if current().as_json:
        emit_json(task)
    else:
        id_, status = task.get("id", task_id), task.get("status", "told")
        click.echo(f"{safe(id_)} is {coloured(safe(status))}.")
