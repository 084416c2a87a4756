"""Keeping the data: `backup`, `restore`, `gc` and `sql`; on this machine's home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webapp.cli.options import broker_refusals, current, json_option, local_settings
from webapp.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from broker.opening import Broker

CLASS_COLUMNS = ("class", "keep_days", "rows", "why")
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(epilog="Example: roost backup /var/backups/roost-monday.db")
@click.argument("file", type=FILE)
@json_option
def backup(file: Path) -> None:
    """Write a verified copy of the database to FILE, while everything runs."""
    from broker import backup as copies

    with _home() as broker:
        target = copies.backup(broker.database, file.absolute())
    size = target.stat().st_size
    if current().as_json:
        emit_json({"file": str(target), "bytes": size})
    else:
        click.echo(f"{target}: {size} bytes, verified.")


@click.command(epilog="Example: roost restore /var/backups/roost-monday.db")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
def restore(file: Path) -> None:
    """Put a backup in place of the database; Roost must not run meanwhile."""
    from broker.backup import restore_home

    with broker_refusals():
        old = restore_home(local_settings(), file.absolute())
    if current().as_json:
        emit_json({"restored": str(file), "previous": str(old)})
    else:
        click.echo(f"Restored {file}. What was there before is in {old}.")


@click.command(epilog="Example: roost gc --dry-run --keep events=30")
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten.")
@click.option(
    "--keep",
    multiple=True,
    metavar="CLASS=DAYS",
    help="Keep a class for so many days; may be given more than once.",
)
@json_option
def gc(dry_run: bool, keep: tuple[str, ...]) -> None:
    """Forget what is old, class by class, and give the space back."""
    from broker import retention

    keep_days = dict(_class_and_days(each) for each in keep)
    with _home() as broker:
        before = sum(broker.database.sizes().values())
        found = (
            retention.plan(broker.database, keep_days)
            if dry_run
            else list(retention.forget(broker.database, keep_days))
        )
        freed = before - sum(broker.database.sizes().values())
    rows = [
        {"class": f.name, "keep_days": f.keep_days, "rows": f.rows, "why": f.why}
        for f in found
    ]
    if current().as_json:
        emit_json({"dry_run": dry_run, "freed_bytes": freed, "classes": rows})
        return
    emit_table(CLASS_COLUMNS, [list(row.values()) for row in rows], empty="Nothing.")
    verb = "would be" if dry_run else "were"
    total = sum(each.rows for each in found)
    click.echo(f"{total} rows {verb} forgotten; {freed} bytes freed.")


@click.command(epilog='Example: roost sql "SELECT id, status FROM tasks LIMIT 5"')
@click.argument("query")
@json_option
def sql(query: str) -> None:
    """Run a query on the database, read-only, and print its rows."""
    from broker.query import query as run

    with _home() as broker:
        rows = run(broker.database, query)
    if current().as_json:
        emit_json(rows)
    else:
        columns = list(rows[0]) if rows else []
        emit_table(columns, [list(row.values()) for row in rows], empty="No rows.")


@contextmanager
def _home() -> Iterator[Broker]:
    from broker.opening import open_broker

    with broker_refusals():
        broker = open_broker(local_settings())
        try:
            yield broker
        finally:
            broker.close()


def _class_and_days(text: str) -> tuple[str, float]:
    name, _, days = text.partition("=")
    if not days.replace(".", "", 1).isdigit():
        raise click.BadParameter(
            f"{text!r} must look like events=30.", param_hint="--keep"
        )
    return name, float(days)
