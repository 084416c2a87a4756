"""How answers are printed: JSON, tables and fields.

On a terminal there are colours and aligned columns. Anywhere else the text is plain and
stays as it is between versions: one row a line, columns apart by a tab, nothing cut.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

NOTHING: Final = "-"
COLOURS: Final = {
    "completed": "green",
    "ok": "green",
    "idle": "green",
    "succeeded": "green",
    "running": "cyan",
    "queued": "blue",
    "waiting": "yellow",
    "warn": "yellow",
    "uncertain": "yellow",
    "cancelled": "magenta",
    "stopped": "magenta",
    "failed": "red",
    "fail": "red",
}
# Everything below the space but tab and newline, and the C1 block: on a terminal these
# could move the cursor, set the title or answer as if the user had typed.
CONTROLS: Final = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\t\n"
}


def on_terminal() -> bool:
    """Say whether a person is looking at stdout."""
    return sys.stdout.isatty()


def safe(text: str) -> str:
    """Take the control characters out of what a terminal is about to show."""
    return text.translate(CONTROLS) if on_terminal() else text


def emit_json(value: object, *, one_line: bool = False) -> None:
    """Print JSON; only a UTF-8 stdout gets more than ASCII."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    indent = None if one_line else 2
    click.echo(json.dumps(value, ensure_ascii=not utf8, indent=indent))


def emit_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str
) -> None:
    """Print rows under their columns' names; off a terminal, rows alone."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not on_terminal():
        for row in cells:
            click.echo("\t".join(row))
    elif cells:
        _rich_table(columns, cells)
    else:
        click.echo(empty)


def emit_fields(value: Mapping[str, Any]) -> None:
    """Print a JSON object as indented `name: value` lines; nulls are left out."""
    for line in _field_lines(value, 0):
        click.echo(line)


def coloured(word: str) -> str:
    """Return a status word in its colour."""
    return click.style(word, fg=COLOURS.get(word))


def _cell(value: object) -> str:
    text = NOTHING if value is None or value == "" else _plain(value)
    return safe(" ".join(text.split()))


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    Console(file=sys.stdout).print(table)


def _field_lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, inner in value.items():
        if inner is not None and inner not in ({}, []):
            yield from _one_field(name, inner, depth)


def _one_field(name: str, value: Any, depth: int) -> Iterator[str]:
    margin = "  " * depth
    label = margin + click.style(safe(name), bold=True) + ":"
    if isinstance(value, dict):
        yield label
        yield from _field_lines(value, depth + 1)
    elif isinstance(value, list):
        yield label
        for item in value:
            yield from _list_item(item, depth + 1)
    elif isinstance(value, str) and "\n" in value:
        yield label
        yield from (f"{margin}  {safe(line)}" for line in value.splitlines())
    else:
        text = safe(_plain(value))
        yield f"{label} {coloured(text) if name == 'status' else text}"


def _list_item(item: Any, depth: int) -> Iterator[str]:
    margin = "  " * depth
    if isinstance(item, dict):
        first, *rest = [*_field_lines(item, depth + 1)] or [margin + "  {}"]
        yield f"{margin}- {first.lstrip()}"
        yield from rest
    else:
        yield f"{margin}- {safe(_plain(item))}"
