"""Full-text search over entries: written with each entry, read by people and agents.

Both stores are given the same words, so they find the same. The index keeps no text:
what is shown of a hit is read from the entry itself. What is found is listed newest
first, which no store has to rank.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker import json, lineage
from broker.database import Database, Row, Transaction
from broker.lineage import NO_END, Segment
from broker.times import rfc3339

# Of a long text the beginning is indexed: all writers wait for it (measured: 0.1 ms for
# 1,000 characters, 1 ms for 16,000).
INDEXED_CHARACTERS: Final = 16_000
# More words than a question has; words begin alike after so many characters.
QUERY_WORDS: Final = 16
WORD_CHARACTERS: Final = 64
SNIPPET_CHARACTERS: Final = 200
RECALL_CHARACTERS: Final = 500
TYPES: Final = (
    "user_message",
    "wake",
    "assistant_message",
    "reasoning",
    "tool_result",
    "context_compaction",
    "error",
)
# Chinese, Japanese and Korean have no spaces between words: each sign is one.
_SIGNS: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_SPACES: Final = {n: " " for n in range(128) if not chr(n).isalnum()}
_WORD: Final = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How a store indexes a text and asks for words."""

    insert: str
    matches: str
    word: str
    every: str
    any: str


_DIALECTS: Final = {
    "sqlite": _Dialect(
        insert="INSERT INTO entries_fts (rowid, text) VALUES (?, ?)",
        matches="entries_fts MATCH ?",
        word='"{}"*',
        every=" AND ",
        any=" OR ",
    ),
    "postgres": _Dialect(
        insert="INSERT INTO entries_fts (rowid, text)"
        " VALUES (?, to_tsvector('simple', ?))",
        matches="entries_fts.text @@ to_tsquery('simple', ?)",
        word="'{}':*",
        every=" & ",
        any=" | ",
    ),
}


def index(tx: Transaction, entry_id: int, text: str) -> None:
    """Make an entry findable by its text; a text without words is not."""
    plain = _plain(text[:INDEXED_CHARACTERS])
    if plain and not plain.isspace():
        tx.execute(_DIALECTS[tx.dialect.name].insert, entry_id, plain)


def words(text: str) -> list[str]:
    """Return the words of a query, each as the index has it."""
    return [word[:WORD_CHARACTERS] for word in _plain(text.casefold()).split()]


def _plain(text: str) -> str:
    """Leave the words of a text and spaces, so that both stores see the same words."""
    if text.isascii():  # most texts, and thirty times faster
        return text.translate(_SPACES)
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(each for each in apart if not unicodedata.combining(each))
    return " ".join(_WORD.findall(bare))


def text_of(
    type: str,
    content: Sequence[dict[str, Any]],
    data: dict[str, Any] | None,
    tool_name: str | None,
) -> str:
    """Return what is worth finding in an entry, or nothing."""
    # What `recall` has found is found where it was said, not where it was quoted.
    if type not in TYPES or tool_name == "recall":
        return ""
    if type == "context_compaction":
        return str((data or {}).get("summary") or "")
    return "\n\n".join(block["text"] for block in content if block["type"] == "text")


def search(
    database: Database,
    query: str,
    *,
    agent_id: str | None = None,
    type: str | None = None,
    before: int | None = None,
    limit: int = 20,
) -> list[Row]:
    """Return the newest entries that have the words of a query (or words that begin
    so): all of them, or any where none has all. A fork finds what it inherits."""
    wanted = words(query)[:QUERY_WORDS]
    found = _find(database, wanted, agent_id, type, before, None, limit)
    return [_hit(row, wanted) for row in found]


def recall(
    database: Database, agent_id: str, query: str, *, but_turn_id: str, limit: int
) -> list[Row]:
    """Search an agent's past for itself, without the turn that asks."""
    wanted = words(query)[:QUERY_WORDS]
    found = _find(database, wanted, agent_id, None, None, but_turn_id, limit)
    return [_memory(row, wanted) for row in found]


def _find(
    database: Database,
    wanted: Sequence[str],
    agent_id: str | None,
    type: str | None,
    before: int | None,
    but_turn_id: str | None,
    limit: int,
) -> list[Row]:
    if not wanted:
        return []
    dialect = _DIALECTS[database.dialect.name]
    segments = lineage.trace(database, agent_id) if agent_id else []
    where, params = _condition(segments, type, but_turn_id)
    quoted = [dialect.word.format(word) for word in wanted]
    for joint in (dialect.every, dialect.any):
        found = database.read(
            # CROSS JOIN: SQLite then asks the index first, and it alone.
            "SELECT entries.* FROM entries_fts CROSS JOIN entries"
            f" WHERE entries.id = entries_fts.rowid AND {dialect.matches}"
            f" AND entries_fts.rowid < ?{where}"
            " ORDER BY entries_fts.rowid DESC LIMIT ?",
            joint.join(quoted),
            NO_END if before is None else before,
            *params,
            limit,
        )
        if found:
            return found
    return []


def _condition(
    segments: Sequence[Segment], type: str | None, but_turn_id: str | None
) -> tuple[str, list[object]]:
    where, params = "", list[object]()
    if type is not None:
        where, params = " AND entries.type = ?", [type]
    if but_turn_id is not None:
        where += " AND (entries.turn_id IS NULL OR entries.turn_id <> ?)"
        params.append(but_turn_id)
    if segments:
        one = "(entries.agent_id = ? AND entries.id <= ? AND entries.generation <= ?)"
        where += f" AND ({' OR '.join([one] * len(segments))})"
        for each in segments:
            params += [each.agent_id, each.last_id, each.generation]
    return where, params


def _hit(row: Row, wanted: Sequence[str]) -> Row:
    return {
        "entry_id": row["id"],
        "agent_id": row["agent_id"],
        "generation": row["generation"],
        "type": row["type"],
        "turn_id": row["turn_id"],
        "snippet": snippet(_text_of_row(row), wanted, SNIPPET_CHARACTERS),
        "created_at": rfc3339(row["created_at"]),
    }


def _memory(row: Row, wanted: Sequence[str]) -> Row:
    return {
        "entry_id": row["id"],
        "at": rfc3339(row["created_at"]),
        "who": _speaker(row),
        "snippet": snippet(_text_of_row(row), wanted, RECALL_CHARACTERS),
    }


def _speaker(row: Row) -> str:
    if row["type"] == "tool_result":
        return f"tool {row['tool_name']}"
    return _SPEAKERS.get(row["type"], str(row["type"]))


_SPEAKERS: Final = {
    "user_message": "user",
    "wake": "news",
    "assistant_message": "you",
    "reasoning": "you, thinking",
    "context_compaction": "summary",
}


def _text_of_row(row: Row) -> str:
    return text_of(row["type"], json.load(row["content"]), json.load(row["data"]), None)


def snippet(text: str, wanted: Sequence[str], characters: int) -> str:
    """Return the piece of a text around the first of the words, in one line."""
    pattern = "|".join(map(re.escape, wanted))
    match = re.search(rf"(?<![^\W_])(?:{pattern})", text, re.IGNORECASE)
    room = characters - 2  # for the marks of what is left out
    start = max(0, min((match.start() if match else 0) - room // 4, len(text) - room))
    piece = " ".join(text[start : start + room].split())
    head, tail = "…" if start else "", "…" if start + room < len(text) else ""
    return f"{head}{piece}{tail}"
