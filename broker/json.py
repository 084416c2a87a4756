"""JSON at the edge of the database: compact text in, plain values out."""

from __future__ import annotations

import json
from typing import Any


def dump(value: object) -> str:
    """Write compact ASCII JSON: lone surrogates and NULs stay escaped, so any store
    takes them."""
    return json.dumps(value, separators=(",", ":"))


def load(text: str | None) -> Any:
    """Read JSON text; None stays None."""
    return None if text is None else json.loads(text)


def clean(text: str) -> str:
    """Make plain text storable: no NUL, no lone surrogate."""
    return (
        text.replace("\0", "\N{REPLACEMENT CHARACTER}")
        .encode("utf-8", "replace")
        .decode()
    )
