"""Why something happened: `why`."""

from __future__ import annotations

from typing import Any, Final

import click

from webapp.cli.client import api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import coloured, emit_json, safe

# A task that was taken up sooner has not stood in line, as far as a person sees.
SHOWN_WAIT_SECONDS: Final = 0.1


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
        click.echo(f"{link['id']}: {_line(link['what'])}")
    click.echo()
    _tell(found["tree"], "")
    if found["is_cut"]:
        click.echo("… and more; this is as far as it is followed.")


def _tell(node: dict[str, Any] | None, indent: str) -> None:
    if node is None:
        return
    click.echo(f"{indent}{node['id']}  {_line(node['what'])}{_time(node)}")
    inner = indent + "  "
    rest = list(node["led_to"])
    for step in node.get("steps", ()):
        _tell_step(step, inner)
        for child in [each for each in rest if each.get("step") == step["key"]]:
            _tell(child, inner + "   ")
            rest.remove(child)
    for summary in node.get("summaries", ()):
        click.echo(f"{inner}{_line(summary['what'])}{_time(summary)}")
    for read in node.get("also_read", ()):
        turn = f" (which {read['turn_id']} was to answer)" if read["turn_id"] else ""
        click.echo(f"{inner}also read {read['id']}: {_line(read['what'])}{turn}")
    for name, said in (("reply", "replied:"), ("error", "because:")):
        if node.get(name):
            click.echo(f"{inner}{said} {_line(node[name])}")
    if node.get("unblocked_by"):
        click.echo(f"{inner}waits for {_line(node['unblocked_by'])}")
    for child in rest:
        _tell(child, inner)


def _tell_step(step: dict[str, Any], indent: str) -> None:
    number = step["key"].rpartition("/")[2]
    status = coloured(safe(step["status"]))
    click.echo(f"{indent}{number}. {_line(step['what'])}  {status}{_time(step)}")


def _line(text: str) -> str:
    return safe(" ".join(text.split()))


def _time(node: dict[str, Any]) -> str:
    took, cost = node.get("took_seconds"), node.get("cost_usd")
    waited = node.get("waited_seconds") or 0
    parts = [f"{took:.3f} s"] if took is not None else []
    parts += [f"{waited:.3f} s in line"] if waited >= SHOWN_WAIT_SECONDS else []
    parts += [f"{tokens} tokens"] if (tokens := _tokens(node)) else []
    parts += [f"${cost:.4f}"] if cost else []
    return f"  ({', '.join(parts)})" if parts else ""


def _tokens(node: dict[str, Any]) -> int:
    """All that was read and said."""
    usage = node.get("usage") or {}
    return int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
