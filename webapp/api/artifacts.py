"""Artifacts: what was too large, or too binary, for a history, as it was kept."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Final

from flask import Response, send_file

from broker import artifacts
from webapp.api import schemas
from webapp.api.routes import api
from webapp.context import broker
from webapp.document import Answers
from webapp.problems import ProblemError

CONTENT: Final[Answers] = {
    200: {
        "description": "The content, in its own media type, as an attachment",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
# What a file's name has no use for, or a header could not hold.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


@api.get("/artifacts/<turn_id>/<step>")
@api.input(schemas.ArtifactQuery, location="query", arg_name="query")
@api.doc(responses=CONTENT)
def read_artifact(turn_id: str, step: str, query: schemas.ArtifactQuery) -> Response:
    """Read an artifact: its bytes, or so many characters of a text."""
    handle = f"{turn_id}/{step}"
    found = artifacts.get(broker().database, handle)
    media_type = found["media_type"]
    if query.offset is None and query.limit is None:
        content = artifacts.read_bytes(broker().database, handle)
    elif artifacts.is_text(found):
        page = artifacts.read(broker().database, handle, query.offset or 0, query.limit)
        # A piece of JSON is not JSON.
        content, media_type = page.text.encode(), "text/plain"
    else:
        raise ProblemError(
            "no-text", 400, f"{handle} is {media_type}: only text has an offset."
        )
    return send_file(
        BytesIO(content),
        mimetype=media_type,
        as_attachment=True,
        download_name=_UNFIT.sub("_", found["name"]),
    )
