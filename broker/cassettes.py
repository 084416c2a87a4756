"""A turn as a cassette: what a model answered, in order, and what it had heard before.

Read from the history, so it holds nothing that the history does not. `agents.models.
replay` plays it.
"""

from __future__ import annotations

from broker import entries, tasks
from broker.database import Database, Row
from broker.errors import Conflict


def record(database: Database, turn_id: str) -> Row:
    """Return the cassette of a turn that has ended; raise Conflict without one."""
    task = tasks.get(database, turn_id)
    if task["type"] != "turn":
        raise Conflict(f"{turn_id} is {task['type']}; only a turn can be recorded.")
    if task["finished_at"] is None:
        raise Conflict(
            f"Turn {turn_id} is {task['status']}; it can be recorded when it has ended."
        )
    answers = _answers(entries.list_of_turn(database, turn_id))
    if not answers:
        raise Conflict(f"Turn {turn_id} has no answer of a model to record.")
    return {
        "turn_id": turn_id,
        "agent_id": task["agent_id"],
        "model": _model(database, turn_id),
        "answers": answers,
    }


def _model(database: Database, turn_id: str) -> str:
    """The model that was asked last; a failover may have asked others."""
    row = database.read(
        "SELECT name FROM steps WHERE task_id = ? AND kind = 'model'"
        " ORDER BY number DESC LIMIT 1",
        turn_id,
    )[0]
    return str(row["name"])


def _answers(own: list[Row]) -> list[Row]:
    answers: list[Row] = []
    inputs: list[str] = []
    for entry in own:
        if entry["type"] in entries.OPENINGS:
            inputs.append(_text(entry))
        elif entry["type"] == "assistant_message":
            answers.append({"inputs": inputs, **_answer(entry)})
            inputs = []
    return answers


def _answer(entry: Row) -> Row:
    """An answer without its provider's own form, which only the provider can read."""
    data = entry["data"] or {}
    return {
        "text": _text(entry),
        "reasoning": data.get("reasoning", ""),
        "tool_calls": data.get("tool_calls", []),
        "stop_reason": data.get("stop_reason", "end"),
        "usage": entry["usage"] or {},
    }


def _text(entry: Row) -> str:
    return "\n\n".join(b["text"] for b in entry["content"] if b["type"] == "text")
