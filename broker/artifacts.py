"""Artifacts: what was too large, or too binary, to lie in a history.

The content is bytes, so any store takes it whole, a NUL character included. A handle is
the key of the step that made it (`turn-7/3`); a file that a step keeps beside its
result has a part behind it (`turn-7/3.1`). The same handle is never a second row.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker import lineage
from broker.database import Database, Row, Transaction
from broker.errors import Conflict, NotFound
from broker.lineage import Segment
from broker.times import now_us

_METADATA = "id, handle, agent_id, name, media_type, size_bytes, created_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """An artifact before it is stored; text is UTF-8."""

    handle: str
    agent_id: str
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Characters of a text from `offset` on; `next_offset` is None at its end."""

    text: str
    offset: int
    total_characters: int
    next_offset: int | None


def part(key: str, number: int) -> str:
    """Return the handle of a file that a step keeps beside its result."""
    return f"{key}.{number}"


def store(tx: Transaction, new: NewArtifact) -> str:
    """Store an artifact and return its handle.

    A step that runs again stores its own again: what it came to the last time counts.
    """
    row = tx.one(
        "INSERT INTO artifacts (handle, agent_id, name, media_type, size_bytes,"
        " content, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (handle) DO UPDATE SET name = excluded.name,"
        " media_type = excluded.media_type, size_bytes = excluded.size_bytes,"
        " content = excluded.content WHERE artifacts.agent_id = excluded.agent_id"
        " RETURNING handle",
        new.handle,
        new.agent_id,
        new.name,
        new.media_type,
        len(new.content),
        new.content,
        now_us(),
    )
    if row is None:
        raise Conflict(f"Artifact {new.handle} is another agent's.")
    return new.handle


def get(database: Database, handle: str) -> Row:
    """Return what is known of an artifact but its content; raise NotFound."""
    row = database.read_one(
        f"SELECT {_METADATA} FROM artifacts WHERE handle = ?", handle
    )
    if row is None:
        raise NotFound("artifact", handle)
    return row


def get_for(database: Database, agent_id: str, handle: str) -> Row:
    """Return an artifact that this agent may read; raise NotFound for any other.

    That is its own, and, where it is a fork, what lay in the history that it inherits.
    """
    found = get(database, handle)
    for segment in lineage.trace(database, agent_id):
        if segment.agent_id == found["agent_id"] and _is_in(database, segment, found):
            return found
    raise NotFound("artifact", handle)


def _is_in(database: Database, segment: Segment, artifact: Row) -> bool:
    """Whether it was there when the fork began; a result lies before its entry."""
    if segment.last_id == lineage.NO_END:
        return True
    last = database.read_one(
        "SELECT created_at FROM entries WHERE id = ?", segment.last_id
    )
    return last is not None and artifact["created_at"] <= last["created_at"]


def is_text(artifact: Row) -> bool:
    """Whether the content is text, which can be read in pieces."""
    media_type = str(artifact["media_type"])
    return media_type.startswith("text/") or media_type == "application/json"


def read_bytes(database: Database, handle: str) -> bytes:
    """Return the whole content; raise NotFound."""
    row = database.read_one("SELECT content FROM artifacts WHERE handle = ?", handle)
    if row is None:
        raise NotFound("artifact", handle)
    return bytes(row["content"])


def read(database: Database, handle: str, offset: int, limit: int | None) -> Page:
    """Return up to `limit` characters of a text from `offset` on; raise NotFound."""
    text = read_bytes(database, handle).decode("utf-8", "replace")
    piece = text[offset:] if limit is None else text[offset : offset + limit]
    end = offset + len(piece)
    return Page(
        text=piece,
        offset=offset,
        total_characters=len(text),
        next_offset=end if end < len(text) else None,
    )
