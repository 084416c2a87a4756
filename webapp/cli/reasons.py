"""Why something happened: `why`."""

from __future__ import annotations

from typing import Any

import click

from webapp.cli.client import api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import coloured, emit_json, safe


@click.command(epilog="Example: roost why turn-12")
@click.argument("id_", metavar="ID", type=ID)
@common_options
def why(id_: str) -> None:
    """Explain a task or an event, from the first message to the reply."""
    found = connect().get(api("why", id_))
    if current().as_json:
        emit_json(found)
        return
    for link in found["chain"]:
        click.echo(f"{safe(str(link['id']))}: {safe(link['what'])}")
    click.echo()
    _tell(found["tree"], "")
    if found["is_cut"]:
        click.echo("… and more; this is as far as it is followed.")


def _tell(node: dict[str, Any] | None, indent: str) -> None:
    if node is None:
        return
    click.echo(f"{indent}{safe(str(node['id']))}  {safe(node['what'])}{_time(node)}")
    for step in node.get("steps", ()):
        status = coloured(safe(step["status"]))
        click.echo(f"{indent}  {safe(step['what'])}  {status}{_time(step)}")
    for summary in node.get("summaries", ()):
        click.echo(f"{indent}  {safe(summary['what'])}{_time(summary)}")
    for read in node.get("also_read", ()):
        turn = f" (and so answered {safe(read['turn_id'])})" if read["turn_id"] else ""
        click.echo(f"{indent}  also read {read['id']}: {safe(read['what'])}{turn}")
    if node.get("reply"):
        click.echo(f"{indent}  replied: {safe(node['reply'])}")
    if node.get("unblocked_by"):
        click.echo(f"{indent}  waits for {safe(node['unblocked_by'])}")
    for child in node["led_to"]:
        _tell(child, indent + "  ")


def _time(node: dict[str, Any]) -> str:
    took, cost = node.get("took_seconds"), node.get("cost_usd")
    parts = [f"{took:.3f} s"] if took is not None else []
    parts += [f"${cost:.4f}"] if cost else []
    return f"  ({', '.join(parts)})" if parts else ""
