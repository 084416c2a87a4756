"""What a turn has used and cost: its model calls, and the summaries made within it.

A model call's cost lies with its step, a summary's with its entry. A cost that nobody
knows is no part of a sum; where none is known there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker import json
from broker.database import Row, Transaction


def close(tx: Transaction, row: Row) -> Row:
    """Give a turn that is over its cost, and, if it did not reply, what it has used.

    One whose message another has answered has them already, and they are nothing.
    """
    calls, summaries = _calls(tx, row["id"]), summaries_of(tx, row["id"])
    usage = row["usage"]
    if row["status"] != "completed" and (calls or summaries):
        usage = json.dump(total(each["usage"] for each in (*calls, *summaries)))
    known = [each["cost_usd"] for each in (*calls, *summaries)]
    costs = [cost for cost in known if cost is not None]
    closed: Row = tx.execute(
        "UPDATE tasks SET usage = ?, cost_usd = COALESCE(?, cost_usd) WHERE id = ?"
        " RETURNING *",
        usage,
        sum(costs) if costs else None,
        row["id"],
    )[0]
    return closed


def summaries_of(tx: Transaction, turn_id: str) -> list[Row]:
    """What each summary within a turn has taken: `{usage, cost_usd}`."""
    rows = tx.execute(
        "SELECT data FROM entries WHERE turn_id = ? AND type = 'context_compaction'",
        turn_id,
    )
    details = [(json.load(row["data"]) or {}).get("details") or {} for row in rows]
    return [
        {"usage": each.get("usage") or {}, "cost_usd": each.get("cost_usd")}
        for each in details
    ]


def total(usages: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up counts by name."""
    sums: dict[str, Any] = {}
    for usage in usages:
        for name, count in usage.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _calls(tx: Transaction, turn_id: str) -> list[Row]:
    rows = tx.execute(
        "SELECT usage, cost_usd FROM steps WHERE task_id = ? AND kind = 'model'"
        " AND usage IS NOT NULL",
        turn_id,
    )
    return [{**row, "usage": json.load(row["usage"])} for row in rows]
