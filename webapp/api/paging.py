"""Pages: `{items, next_cursor}`; a cursor is the last item's place, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from webapp.problems import FieldErrors

Row = dict[str, Any]


def page(items: Sequence[Row], limit: int, place: str = "id") -> Row:
    """Cut off the one item that was read too many, which says whether there is more.

    `place` names the field that orders the list.
    """
    shown = list(items[:limit])
    more = len(items) > limit
    return {"items": shown, "next_cursor": str(shown[-1][place]) if more else None}


def number(cursor: str | None, default: int | None) -> int | None:
    """Read a numeric cursor."""
    if cursor is None:
        return default
    if not (cursor.isascii() and cursor.isdigit()) or len(cursor) > 18:
        message = "not a cursor that this list gave"
        raise FieldErrors([{"field": "cursor", "message": message}])
    return int(cursor)
