"""Looking at images: a file of the home, or an address on the net.

The bytes never enter the history: they are kept as an artifact, and the block of the
result names it. What an image is, its first bytes say, not its name.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agents.messages import ToolResult
from agents.tools.registry import ToolContext, tool

MAX_IMAGE_BYTES: Final = 4 * 1024 * 1024
_STARTS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


@tool(effect="pure")
def view_image(
    context: ToolContext,
    path: Annotated[
        str | None, Field(description="A file, relative to the home directory.")
    ] = None,
    url: Annotated[
        str | None, Field(description="A public http or https address.")
    ] = None,
    fidelity: Annotated[
        Literal["low", "medium", "high"],
        Field(description="How closely to look; more costs more tokens."),
    ] = "low",
) -> ToolResult:
    """Look at a PNG, JPEG, GIF or WebP image of at most 4 MiB.

    Give either path or url.
    """
    if bool(path) == bool(url):
        given = "both" if path else "neither"
        return _refused(f"Give either path or url; {given} was given.")
    if path:
        source = {"path": path}
        found = context.runtime.read_home_file(path, MAX_IMAGE_BYTES)
    else:
        source = {"url": str(url)}
        found = context.runtime.fetch(str(url), MAX_IMAGE_BYTES)
    media_type = media_type_of(found.content)
    if media_type is None:
        return _refused(f"{path or url} is no PNG, JPEG, GIF or WebP image.")
    handle = context.runtime.keep_file(
        context.key, found.name, media_type, found.content
    )
    block = {
        "type": "image",
        "media_type": media_type,
        "artifact": handle,
        "name": found.name,
        "fidelity": fidelity,
        "size_bytes": len(found.content),
    }
    shown: dict[str, Any] = {
        "source": source,
        "fidelity": fidelity,
        "name": found.name,
        "path": found.path,
    }
    text = json.dumps(shown, ensure_ascii=False)
    return ToolResult(text=text, details=shown, blocks=(block,))


def media_type_of(content: bytes) -> str | None:
    """Say what an image is by its first bytes; None when it is none."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next(
        (kind for start, kind in _STARTS.items() if content.startswith(start)), None
    )


def _refused(text: str) -> ToolResult:
    return ToolResult(text=text, status="failed")
