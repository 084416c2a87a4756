"""Fetching what was too large for a history: `artifact`."""

from __future__ import annotations

from pathlib import Path

import click

from webapp.cli.client import Download, api
from webapp.cli.options import common_options, connect, current
from webapp.cli.output import emit_json, on_terminal, safe


@click.command(epilog="Example: roost artifact turn-7/3 -o result.json")
@click.argument("handle", metavar="HANDLE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it there.",
)
@common_options
def artifact(handle: str, output: Path | None) -> None:
    """Print an artifact, or write it to a file: a result or an image, whole."""
    found = connect().download(api("artifacts", *_parts(handle)))
    if output is not None:
        _write(output, found.content)
    if current().as_json:
        emit_json(_described(handle, found, output))
    elif output is not None:
        click.echo(f"{len(found.content)} bytes of {found.media_type} in {output}")
    elif not on_terminal():
        click.echo(found.content, nl=False)
    elif (text := _text(found)) is not None:
        click.echo(safe(text))
    else:
        raise click.ClickException(
            f"{handle} is {found.media_type}, which a terminal cannot show. "
            "Name a file with -o."
        )


def _parts(handle: str) -> list[str]:
    parts = handle.split("/")
    if len(parts) != 2 or not all(parts):
        raise click.UsageError(f"{handle!r} is no handle; one looks like turn-7/3.")
    return parts


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as exc:
        raise click.ClickException(f"{output} cannot be written: {exc}.") from exc


def _described(handle: str, found: Download, output: Path | None) -> dict[str, object]:
    return {
        "handle": handle,
        "media_type": found.media_type,
        "size_bytes": len(found.content),
        "file": None if output is None else str(output),
        "text": None if output is not None else _text(found),
    }


def _text(found: Download) -> str | None:
    is_text = found.media_type.startswith("text/")
    if is_text or found.media_type == "application/json":
        return found.content.decode("utf-8", "replace")
    return None
