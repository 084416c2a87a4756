"""Pages: `{items, next_cursor}`; a cursor is the last item's place under a list's tag.

The tag tells one list from another, its filters included: the place of an event means
nothing among tasks, and a page that begins there would be a wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, overload

from flask import request

from webapp.problems import FieldErrors

Row = dict[str, Any]

NOT_OURS: Final = "not a cursor that this list gave"
TAG_CHARACTERS: Final = 8
# What may differ from page to page; `after` says where the first one begins.
_NOT_THE_LIST: Final = ("after", "cursor", "limit")
# The stores' integers have more.
_DIGITS: Final = 18


def page(items: Sequence[Row], limit: int, place: str = "id") -> Row:
    """Cut off the one item that was read too many, which says whether there is more.

    `place` names the field that orders the list.
    """
    shown = list(items[:limit])
    more = len(items) > limit
    cursor = f"{_tag()}.{shown[-1][place]}" if more else None
    return {"items": shown, "next_cursor": cursor}


def text(cursor: str | None) -> str | None:
    """Read the place from a cursor of the list that is asked for."""
    if cursor is None:
        return None
    tag, _, place = cursor.partition(".")
    if tag != _tag() or not place:
        raise foreign_cursor()
    return place


@overload
def number(cursor: str | None, default: int) -> int: ...
@overload
def number(cursor: str | None, default: None) -> int | None: ...
def number(cursor: str | None, default: int | None) -> int | None:
    """Read the place from a cursor of a list in the order of a number."""
    place = text(cursor)
    if place is None:
        return default
    return whole("cursor", place, NOT_OURS)


def whole(field: str, said: str, otherwise: str) -> int:
    """Read the number that a field holds; refuse the field in these words otherwise."""
    if not (said.isascii() and said.isdigit()) or len(said) > _DIGITS:
        raise FieldErrors([{"field": field, "message": otherwise}])
    return int(said)


def foreign_cursor() -> FieldErrors:
    """What is said to a cursor that another list gave, or none."""
    return FieldErrors([{"field": "cursor", "message": NOT_OURS}])


def _tag() -> str:
    asked = request.args.items(multi=True)
    wanted = sorted(each for each in asked if each[0] not in _NOT_THE_LIST)
    said = repr((request.path, wanted)).encode("utf-8", "replace")
    return hashlib.sha256(said).hexdigest()[:TAG_CHARACTERS]
