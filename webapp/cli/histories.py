"""Working with histories: `fork`, `label`, `export`, `record` and `search`."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click

from webapp.cli.client import Client, api
from webapp.cli.look import limit_option
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_json, emit_table, on_terminal, safe

FORMATS: Final = ("jsonl", "markdown", "html")
HIT_COLUMNS: Final = ("entry_id", "agent_id", "type", "created_at", "snippet")
LABEL_COLUMNS: Final = ("name", "entry_id", "created_at")
ALL: Final = 1_000_000  # of an agent's labels

entry_type = click.IntRange(min=1)
output_option = click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of standard output.",
)


@click.command(epilog="Example: roost fork scout --at 17 --id scout-2")
@click.argument("agent", type=ID)
@click.option("--at", "entry_id", metavar="ENTRY", type=entry_type, help="Where.")
@click.option("--label", metavar="NAME", help="Where: at the entry with that label.")
@click.option("--id", "id_", metavar="NEW", help="The id of the new agent.")
@click.option("--model", help="Another model.")
@click.option("--system", help="Another system text.")
@common_options
def fork(
    agent: str,
    entry_id: int | None,
    label: str | None,
    id_: str | None,
    model: str | None,
    system: str | None,
) -> None:
    """Make an agent that shares the history of another up to an entry."""
    if entry_id is not None and label is not None:
        raise click.UsageError("--at and --label both say where: give one of them.")
    named = {
        "entry_id": entry_id,
        "label": label,
        "id": id_,
        "model": model,
        "system": system,
    }
    body = {name: value for name, value in named.items() if value is not None}
    made = connect().post(api("agents", agent, "fork"), body).body
    if current().as_json:
        emit_json(made)
    else:
        click.echo(safe(made["id"]))


@click.command(epilog="Example: roost label scout good 17")
@click.argument("agent", type=ID)
@click.argument("name", type=ID, required=False)
@click.argument("entry", type=entry_type, required=False)
@click.option("--delete", is_flag=True, help="Take the label away.")
@common_options
def label(agent: str, name: str | None, entry: int | None, delete: bool) -> None:
    """Name an entry of a history; without ENTRY show it, without NAME list all."""
    if delete and (name is None or entry is not None):
        raise click.UsageError("--delete takes the NAME of a label and no ENTRY.")
    client = connect()
    if name is None:
        found = client.items(api("agents", agent, "labels"), ALL)
        _emit(LABEL_COLUMNS, found, found, empty="There are no labels.")
    else:
        one = _label(client, api("agents", agent, "labels", name), entry, delete)
        _emit(LABEL_COLUMNS, [one], one, empty="")


@click.command(epilog="Example: roost export scout --format html -o scout.html")
@click.argument("agent", type=ID)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="How it is written.",
)
@output_option
@common_options
def export(agent: str, format_: str, output: Path | None) -> None:
    """Write an agent's whole history as one file."""
    path = api("agents", agent, "export")
    with connect().stream("GET", path, params={"format": format_}) as chunks:
        if output is None:
            _print(chunks)
        else:
            _write(output, chunks)


@click.command(epilog="Example: roost record turn-12 > cassette.json")
@click.argument("turn", type=ID)
@output_option
@common_options
def record(turn: str, output: Path | None) -> None:
    """Write what the model of a turn answered, for the model replay/FILE."""
    cassette = connect().get(api("tasks", turn, "cassette"))
    if output is None:
        emit_json(cassette)
    else:
        _write(output, [json.dumps(cassette, indent=2).encode() + b"\n"])


@click.command(epilog="Example: roost search 'red build' --agent scout")
@click.argument("text")
@click.option("--agent", metavar="AGENT", help="Only in this agent's history.")
@click.option("--type", "type_", metavar="TYPE", help="Only user_message, …")
@limit_option
@common_options
def search(text: str, agent: str | None, type_: str | None, limit: int) -> None:
    """Search the histories of all agents, newest first."""
    found = connect().items(api("search"), limit, q=text, agent=agent, type=type_)
    _emit(HIT_COLUMNS, found, found, empty="Nothing was found.")


def _label(client: Client, path: str, entry: int | None, delete: bool) -> Any:
    if delete:
        return client.delete(path).body
    if entry is not None:
        return client.put(path, {"entry_id": entry}).body
    return client.get(path)


def _emit(
    columns: tuple[str, ...], rows: list[dict[str, Any]], value: Any, *, empty: str
) -> None:
    if current().as_json:
        emit_json(value)
    else:
        cells = [[row.get(column) for column in columns] for row in rows]
        emit_table(columns, cells, empty=empty)


def _print(chunks: Iterable[bytes]) -> None:
    """Write bytes as they are; on a terminal, as text that cannot steer it."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for chunk in chunks:
        click.echo(safe(decode(chunk)) if on_terminal() else chunk, nl=False)


def _write(output: Path, chunks: Iterable[bytes]) -> None:
    """Fill a file beside it first: what is there stays until the new one is whole."""
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        part.replace(output)
    except OSError as exc:
        raise click.ClickException(f"{output} cannot be written: {exc}") from exc
    finally:
        part.unlink(missing_ok=True)
