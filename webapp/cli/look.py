"""Seeing what there is: `agents`, `tasks` and `show`."""

from __future__ import annotations

from typing import Any, Final

import click

from webapp.cli.client import Client, Refused, api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_fields, emit_json, emit_table

# broker.states has the same names; a test compares them, an import would cost time.
STATUSES: Final = ("queued", "running", "waiting", "completed", "failed", "cancelled")
AGENT_COLUMNS: Final = (
    "id",
    "state",
    "model",
    "generation",
    "unread",
    "cost_usd_today",
    "last_activity_at",
    "name",
)
TASK_COLUMNS: Final = (
    "id",
    "type",
    "status",
    "agent_id",
    "attempts",
    "created_at",
    "finished_at",
    "error",
)
FIRST: Final = ("id", "name", "type", "status", "state", "agent_id", "parent_id")
LAST: Final = ("payload", "steps", "updates", "result", "error", "waiting_for")
NOT_FOUND: Final = 404
ALL: Final = 1_000_000  # of a task's updates

limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many at most.",
)


@click.command(epilog="Example: roost agents --json")
@limit_option
@common_options
def agents(limit: int) -> None:
    """List the agents: their state, model, unread messages and cost."""
    found = connect().items(api("agents"), limit)
    _emit_list(AGENT_COLUMNS, found, empty="There are no agents yet.")


@click.command(epilog="Example: roost tasks --status failed --agent scout")
@click.option("--type", "type_", metavar="TYPE", help="Only turn, exec, delegate, …")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in it.")
@click.option("--agent", metavar="AGENT", help="Only this agent's.")
@click.option("--parent", metavar="ID", help="Only this task's children.")
@click.option("--dead-letters", is_flag=True, help="Only failed ones not dropped.")
@limit_option
@common_options
def tasks(
    type_: str | None,
    status: str | None,
    agent: str | None,
    parent: str | None,
    dead_letters: bool,
    limit: int,
) -> None:
    """List the tasks: turns, execs and other work."""
    found = connect().items(
        api("tasks"),
        limit,
        type=type_,
        status=status,
        agent=agent,
        parent=parent,
        dead_letter="true" if dead_letters else None,
    )
    _emit_list(TASK_COLUMNS, found, empty="No task fits.")


@click.command(epilog="Example: roost show exec-17")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def show(id_: str) -> None:
    """Show a task or an agent with everything known of it."""
    client = connect()
    found = _find_task(client, id_) or _find(client, api("agents", id_))
    if found is None:
        raise click.ClickException(
            f"There is no task and no agent {id_!r}. "
            "`roost tasks` and `roost agents` list them."
        )
    if current().as_json:
        emit_json(found)
    else:
        emit_fields(_in_order(found))


def _in_order(found: dict[str, Any]) -> dict[str, Any]:
    """Put first what says what it is, and last what can be long."""
    first = [name for name in FIRST if name in found]
    last = [name for name in LAST if name in found]
    rest = [name for name in found if name not in (*FIRST, *LAST)]
    return {name: found[name] for name in (*first, *rest, *last)}


def _find_task(client: Client, id_: str) -> dict[str, Any] | None:
    task = _find(client, api("tasks", id_))
    if task is None:
        return None
    return {**task, "updates": client.items(api("tasks", id_, "updates"), ALL)}


def _find(client: Client, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get(path)
    except Refused as exc:
        if exc.status != NOT_FOUND:
            raise
        return None
    return found


def _emit_list(
    columns: tuple[str, ...], items: list[dict[str, Any]], *, empty: str
) -> None:
    if current().as_json:
        emit_json(items)
        return
    rows = [[_readable(item.get(column)) for column in columns] for item in items]
    emit_table(columns, rows, empty=empty)


def _readable(value: object) -> object:
    """Say an error in one line; everything else says itself."""
    if isinstance(value, dict) and "message" in value:
        return f"{value.get('type')}: {value['message']}"
    return value
