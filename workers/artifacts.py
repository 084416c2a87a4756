"""What a model is shown of a tool's result, and where the rest of it is.

A result above the limit is stored whole in the transaction that writes the step's
result, and the model is shown its head, its tail, its size and its handle.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from agents.messages import ToolCall, ToolResult
from agents.tools.builtin import RESULT_CHARACTERS
from broker import artifacts, steps
from broker.artifacts import NewArtifact
from broker.database import Transaction
from broker.turns import Turn

# What stays readable of a result that was an object: what names things.
_KEPT: Final = ("task_id", "status", "variable", "pending_task_ids")
# Characters of head and tail together, from the most on. JSON writes a character with
# up to six: the first of these whose note is short enough is taken.
_SHOWN: Final = (12_000, 6_000, 3_000, 1_500)


def shorten(
    tx: Transaction, turn: Turn, number: int, call: ToolCall, result: ToolResult
) -> ToolResult:
    """Return what the history keeps of a result; store the whole where it is long."""
    if len(result.text) <= RESULT_CHARACTERS:
        return result
    is_json = _is_json(result.text)
    handle = artifacts.store(
        tx,
        NewArtifact(
            handle=steps.key(turn.id, number),
            agent_id=turn.agent["id"],
            name=f"{call.name}.{'json' if is_json else 'txt'}",
            media_type="application/json" if is_json else "text/plain",
            content=result.text.encode("utf-8", "replace"),
        ),
    )
    note = _note(handle, result)
    shown = json.dumps(note, ensure_ascii=False)
    return replace(result, text=shown, details=_details(result, note))


def _note(handle: str, result: ToolResult) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: result.details[name] for name in _KEPT if name in result.details
    }
    size = len(result.text)
    how = f'read_artifact {{"handle": "{handle}", "offset": 0}} shows it page by page'
    if variable := kept.get("variable"):
        how += f"; in exec code, {variable} is the result whole"
    note: dict[str, Any] = {
        **kept,
        "artifact": handle,
        "size_characters": size,
        "truncated": f"Too long to show whole: here are its head and tail; {how}.",
    }
    for room in _SHOWN:
        head, tail = result.text[: room * 2 // 3], result.text[-room // 3 :]
        full = {**note, "head": head, "tail": tail}
        if len(json.dumps(full, ensure_ascii=False)) <= RESULT_CHARACTERS:
            return full
    return note


def _details(result: ToolResult, note: dict[str, Any]) -> dict[str, Any]:
    """What people are shown beside the text is kept unless it is as long."""
    size = len(json.dumps(result.details, default=str))
    return result.details if size <= RESULT_CHARACTERS else note


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
