"""What an agent may use, and what it has used: `budget`."""

from __future__ import annotations

from typing import Any, Final

import click

from webapp.cli.client import api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_json, emit_table

# broker.budgets has the same names; a test compares them, an import would cost time.
SCOPES: Final = ("turn", "agent", "tree", "day")
UNITS: Final = ("tokens", "usd", "rounds", "seconds")
COLUMNS: Final = ("budget", "limit", "spent", "reserved", "left")

Limits = dict[str, dict[str, float | None]]


class Name(click.ParamType[tuple[str, str]]):
    """A budget's name: `day.usd`."""

    name = "SCOPE.UNIT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Read the two parts of a name."""
        if isinstance(value, tuple):
            return value
        scope, _, unit = str(value).partition(".")
        if scope not in SCOPES or unit not in UNITS:
            self.fail(
                f"{value!r} is no budget: say {'|'.join(SCOPES)}, a dot and "
                f"{'|'.join(UNITS)}, like day.usd.",
                param,
                ctx,
            )
        return scope, unit


class Setting(click.ParamType[tuple[tuple[str, str], float]]):
    """A budget and its limit: `day.usd=5`."""

    name = "SCOPE.UNIT=LIMIT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, str], float]:
        """Read a name, and the number behind it."""
        if isinstance(value, tuple):
            return value
        name, _, limit = str(value).partition("=")
        found = Name().convert(name, param, ctx)
        whole = found[1] in ("tokens", "rounds")
        try:
            return found, int(limit) if whole else float(limit)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            self.fail(f"{limit!r} is not {kind}, as {name} wants.", param, ctx)


@click.command(epilog="Example: roost budget scout --set day.usd=5")
@click.argument("agent", type=ID)
@click.option(
    "--set", "settings", type=Setting(), multiple=True, help="Set or change a limit."
)
@click.option("--clear", "cleared", type=Name(), multiple=True, help="Take one away.")
@common_options
def budget(
    agent: str,
    settings: tuple[tuple[tuple[str, str], float], ...],
    cleared: tuple[tuple[str, str], ...],
) -> None:
    """Show or set what an agent may use before its turns are stopped."""
    path, client = api("agents", agent, "budgets"), connect()
    wanted = _limits([*((name, None) for name in cleared), *settings])
    found = client.put(path, wanted).body if wanted else client.get(path)
    if current().as_json:
        emit_json(found)
    else:
        emit_table(COLUMNS, _rows(found), empty="Nothing is limited, or used yet.")


def _limits(said: list[tuple[tuple[str, str], float | None]]) -> Limits:
    limits: Limits = {}
    for (scope, unit), limit in said:
        limits.setdefault(scope, {})[unit] = limit
    return limits


def _rows(found: dict[str, Any]) -> list[list[object]]:
    """What is limited, or has been used."""
    lines = [
        (f"{scope}.{unit}", found[scope][unit]) for scope in SCOPES for unit in UNITS
    ]
    return [
        [name, *(line[column] for column in COLUMNS[1:])]
        for name, line in lines
        if line["limit"] is not None or line["spent"] or line["reserved"]
    ]
