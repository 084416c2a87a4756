"""An agent's history: appended entries, each with its parent, in generations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker import json, lineage, search
from broker.database import Database, Row, Transaction
from broker.lineage import NO_END, Segment
from broker.times import now_us, rfc3339

# How much of a generation is rebuilt at most: a turn may not cost more with age.
HISTORY_LIMIT: Final = 400
# The types of entries with which a turn begins.
OPENINGS: Final = ("user_message", "wake")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry before it has an id."""

    type: str
    role: str | None
    content: list[dict[str, Any]]
    step: int | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    data: dict[str, Any] | None = None


def append(
    tx: Transaction,
    agent_id: str,
    generation: int,
    turn_id: str | None,
    *entries: NewEntry,
) -> list[int]:
    """Append entries behind the agent's last one; return their ids."""
    found = tx.one(
        f"SELECT last_entry_id FROM agents WHERE id = ?{tx.for_update}", agent_id
    )
    parent = found["last_entry_id"] if found else None
    ids: list[int] = []
    for entry in entries:
        parent = _append_one(tx, agent_id, generation, turn_id, parent, entry)
        ids.append(parent)
    tx.execute("UPDATE agents SET last_entry_id = ? WHERE id = ?", parent, agent_id)
    return ids


def _append_one(
    tx: Transaction,
    agent_id: str,
    generation: int,
    turn_id: str | None,
    parent: int | None,
    entry: NewEntry,
) -> int:
    row = tx.execute(
        "INSERT INTO entries (agent_id, parent_id, generation, type, role, content,"
        " turn_id, step, tool_call_id, tool_name, status, usage, data, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        agent_id,
        parent,
        generation,
        entry.type,
        entry.role,
        json.dump(entry.content),
        turn_id,
        entry.step,
        entry.tool_call_id,
        entry.tool_name,
        entry.status,
        None if entry.usage is None else json.dump(entry.usage),
        None if entry.data is None else json.dump(entry.data),
        now_us(),
    )[0]
    id = int(row["id"])
    text = search.text_of(entry.type, entry.content, entry.data, entry.tool_name)
    search.index(tx, id, text)
    return id


def rebuild(
    tx: Transaction,
    agent_id: str,
    generation: int,
    turn_id: str,
    limit: int = HISTORY_LIMIT,
) -> list[Row]:
    """Return what a turn goes on from: the generation's newest entries, oldest first,
    and behind them the turn's own.

    A turn's entries are a block: its message (the last, where a retry edited it), its
    calls and results, its answer. A turn that waits to be tried again lies unfinished
    between others, so its block is left out of their history and moved to the end of
    its own. A generation that was compacted begins with its summary, which belongs to
    no turn, and with the tail that was kept of those before.
    """
    segments = lineage.trace(tx, agent_id)
    compaction = _compaction(tx, segments, generation)
    past = _past(tx, segments, generation, turn_id, compaction, limit)
    head = [] if compaction is None else [{**compaction, "turn_id": None}]
    return [*head, *past, *_own(tx, turn_id, generation, compaction)]


def _compaction(
    tx: Transaction, segments: Sequence[Segment], generation: int
) -> Row | None:
    """The newest summary that the generation has, if it has one."""
    for segment in _reaching(segments, generation):
        rows = tx.execute(
            "SELECT * FROM entries WHERE agent_id = ? AND generation = ? AND id <= ?"
            " AND type = 'context_compaction' ORDER BY id DESC",
            segment.agent_id,
            generation,
            segment.last_id,
        )
        for row in map(shape, rows):
            if _has_summary(row):
                return row
    return None


def _has_summary(row: Row) -> bool:
    return isinstance((row["data"] or {}).get("summary"), str)


def _reaching(segments: Sequence[Segment], generation: int) -> list[Segment]:
    """The segments in which a generation can have entries."""
    return [segment for segment in segments if generation <= segment.generation]


def _past(
    tx: Transaction,
    segments: Sequence[Segment],
    generation: int,
    turn_id: str,
    compaction: Row | None,
    limit: int,
) -> list[Row]:
    rows = _newest(tx, segments, generation, turn_id, 0, NO_END, limit)
    if compaction is not None and (first_id := _first_kept_id(compaction)):
        last_id = compaction["id"] - 1
        for older in _kept_generations(tx, first_id, generation):
            room = limit - len(rows)
            rows += _newest(tx, segments, older, turn_id, first_id, last_id, room)
    if compaction is None:
        rows += _begun_before(tx, rows, generation)
    unfinished = _unfinished_turns(tx, segments, turn_id)
    past = [
        row
        for row in map(shape, reversed(rows))
        if row["turn_id"] not in unfinished and _is_said(row, generation)
    ]
    return _from_a_message_on(past) if len(rows) == limit else past


def _begun_before(tx: Transaction, rows: list[Row], generation: int) -> list[Row]:
    """What turns that ended in this generation said in those before, newest first.

    Somebody asked for the generation while they were under way, and there was nothing
    before them to be summarised: without this, answers would stand without questions,
    and results without calls.
    """
    turn_ids = sorted({row["turn_id"] for row in rows if row["turn_id"] is not None})
    if generation == 1 or not turn_ids:
        return []
    return tx.execute(
        "SELECT * FROM entries WHERE generation < ?"
        f" AND turn_id IN ({', '.join('?' * len(turn_ids))})"
        " AND type NOT IN ('system_prompt', 'tools_config') ORDER BY id DESC",
        generation,
        *turn_ids,
    )


def _is_said(row: Row, generation: int) -> bool:
    """What compacted an older conversation says nothing in this one; a generation's
    own request for a summary is read by who makes it."""
    if row["type"] != "context_compaction":
        return True
    return bool(row["generation"] == generation and not _has_summary(row))


def _kept_generations(tx: Transaction, first_id: int, generation: int) -> range:
    """The generations that a kept tail lies in, newest first."""
    row = tx.one("SELECT generation FROM entries WHERE id = ?", first_id)
    oldest = row["generation"] if row else generation
    # Each has at least one entry, so more of them could not be shown anyway.
    return range(generation - 1, max(oldest, generation - HISTORY_LIMIT) - 1, -1)


def _newest(
    tx: Transaction,
    segments: Sequence[Segment],
    generation: int,
    turn_id: str,
    first_id: int,
    last_id: int,
    limit: int,
) -> list[Row]:
    """The newest conversation entries of a generation between two ids, newest first."""
    rows: list[Row] = []
    for segment in _reaching(segments, generation):
        if len(rows) == limit or segment.last_id < first_id:
            break
        rows += tx.execute(
            "SELECT * FROM entries WHERE agent_id = ? AND generation = ?"
            " AND id BETWEEN ? AND ? AND (turn_id IS NULL OR turn_id <> ?)"
            " AND type NOT IN ('system_prompt', 'tools_config')"
            " ORDER BY id DESC LIMIT ?",
            segment.agent_id,
            generation,
            first_id,
            min(last_id, segment.last_id),
            turn_id,
            limit - len(rows),
        )
    return rows


def _unfinished_turns(
    tx: Transaction, segments: Sequence[Segment], turn_id: str
) -> set[str]:
    rows = [
        row
        for segment in segments
        for row in tx.execute(
            "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn' AND id <> ?"
            " AND status IN ('queued', 'running', 'waiting')"
            " AND started_at IS NOT NULL",
            segment.agent_id,
            turn_id,
        )
    ]
    # A fork may begin within a turn: that one is what it was forked for.
    return {row["id"] for row in rows} - {segment.turn_id for segment in segments}


def _from_a_message_on(past: list[Row]) -> list[Row]:
    starts = (i for i, row in enumerate(past) if row["type"] in OPENINGS)
    return past[next(starts, len(past)) :]


def _own(
    tx: Transaction, turn_id: str, generation: int, compaction: Row | None
) -> list[Row]:
    """The turn's block, from its last edited message on; without what was compacted."""
    rows = tx.execute(
        "SELECT * FROM entries WHERE turn_id = ? AND (generation = ? OR id >= ?)"
        " AND type <> 'context_compaction' ORDER BY id",
        turn_id,
        generation,
        _first_own_id(turn_id, compaction),
    )
    return _from_the_edit_on(rows)


def _from_the_edit_on(rows: list[Row]) -> list[Row]:
    own = [shape(row) for row in rows]
    edited = (i for i, row in enumerate(own) if (row["data"] or {}).get("edited"))
    return own[max(edited, default=0) :]


def _first_own_id(turn_id: str, compaction: Row | None) -> int:
    if compaction is None or _made_in(compaction) not in (None, turn_id):
        # Another turn made it and has not seen this one: unfinished, it was left out.
        return 0
    return _first_kept_id(compaction) or int(compaction["id"])


def _made_in(compaction: Row) -> str | None:
    details = compaction["data"].get("details") or {}
    made_in: str | None = details.get("turn_id") or compaction["turn_id"]
    return made_in


def _first_kept_id(compaction: Row) -> int:
    return int(compaction["data"].get("first_kept_entry_id") or 0)


def find_prompt(database: Database, agent_id: str, generation: int) -> str | None:
    """Return the frozen system prompt of a generation, if it has one yet."""
    row = _prompt_row(database, agent_id, generation)
    return str(json.load(row["content"])[0]["text"]) if row else None


def find_tools(database: Database, agent_id: str, generation: int) -> list[Row] | None:
    """Return the tools that were frozen with the prompt, as the model is shown them."""
    row = _prompt_row(database, agent_id, generation)
    if row is None:
        return None
    shown = database.read_one(
        "SELECT content FROM entries WHERE id = ? AND type = 'tools_config'",
        row["parent_id"] or 0,
    )
    return [block["json"] for block in json.load(shown["content"])] if shown else None


def _prompt_row(database: Database, agent_id: str, generation: int) -> Row | None:
    return database.read_one(
        "SELECT content, entries.parent_id FROM entries"
        " JOIN agents ON agents.prompt_entry_id = entries.id"
        " WHERE agents.id = ? AND entries.generation = ?",
        agent_id,
        generation,
    ) or database.read_one(
        "SELECT content, parent_id FROM entries WHERE agent_id = ? AND generation = ?"
        " AND type = 'system_prompt' ORDER BY id LIMIT 1",
        agent_id,
        generation,
    )


def list_of_turn(database: Database, turn_id: str) -> list[Row]:
    """List a turn's entries of all generations, from its last edited message on."""
    return _from_the_edit_on(
        database.read("SELECT * FROM entries WHERE turn_id = ? ORDER BY id", turn_id)
    )


def list_after(
    database: Database,
    agent_id: str,
    *,
    after: int = 0,
    generation: int | None = None,
    limit: int = 200,
) -> list[Row]:
    """List an agent's entries with a greater id, oldest first; a fork's begin with
    those that it shares, which keep the id of the agent that appended them."""
    segments = lineage.trace(database, agent_id)
    if generation is not None:
        segments = _reaching(segments, generation)
    rows: list[Row] = []
    for segment in reversed(segments):
        if after < segment.last_id and len(rows) < limit:
            rows += database.read(
                "SELECT * FROM entries WHERE agent_id = ? AND id > ? AND id <= ?"
                " AND generation BETWEEN ? AND ? ORDER BY id LIMIT ?",
                segment.agent_id,
                after,
                segment.last_id,
                generation or 0,
                generation or segment.generation,
                limit - len(rows),
            )
    return [shape(row) for row in rows]


def shape(row: Row) -> Row:
    """Give a row the shape that the contract promises."""
    return {
        **row,
        "content": json.load(row["content"]),
        "usage": json.load(row["usage"]),
        "data": json.load(row["data"]),
        "created_at": rfc3339(row["created_at"]),
    }
