"""Reading what was too long to be shown: artifacts, a page at a time."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from agents.messages import ToolResult
from agents.tools.registry import ToolContext, tool

# A page and the line above it stay below what a model is shown of a result, or a page
# would become an artifact itself.
PAGE_CHARACTERS: Final = 15_000


@tool(effect="pure")
def read_artifact(
    context: ToolContext,
    handle: Annotated[
        str, Field(min_length=1, description="As a result named it: turn-7/3.")
    ],
    offset: Annotated[
        int, Field(ge=0, description="The first character, counted from 0.")
    ] = 0,
    limit: Annotated[
        int, Field(ge=1, le=PAGE_CHARACTERS, description="How many characters at most.")
    ] = PAGE_CHARACTERS,
) -> ToolResult:
    """Read a piece of a text that was too long to be shown whole."""
    page = context.runtime.read_artifact(handle, offset, limit)
    if not page.text and offset:
        text = f"{handle} has {page.total_characters} characters; none is at {offset}."
        return ToolResult(text=text, status="failed")
    end = offset + len(page.text)
    place = f"characters {offset} to {end} of {page.total_characters}"
    more = "the end" if page.next_offset is None else f"next offset {page.next_offset}"
    details = {
        "handle": handle,
        "name": page.name,
        "offset": offset,
        "total_characters": page.total_characters,
        "next_offset": page.next_offset,
    }
    head = f"{handle} ({page.media_type}), {place}, {more}:"
    return ToolResult(text=f"{head}\n\n{page.text}", details=details)
