"""Results of an agent's execs, numbered, so that its later code can name them.

The number is given in the transaction that completes the exec, counts up for each
agent and is never given twice; it lies in the task's metadata as `variable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker import agents, json
from broker.database import Database, Row, Transaction

# How many results code is given at most, and how many bytes of JSON in all.
RESULTS_LIMIT: Final = 200
RESULTS_BYTES: Final = 8 * 1024 * 1024
# They are looked for among this many of the agent's newest tasks: an agent that takes
# turns for years and runs no code must not make its first exec slow.
LOOK_BACK_TASKS: Final = 5_000

# The inner query touches none of the large values: OCTET_LENGTH needs only their size.
_NEWEST: Final = (
    "SELECT tasks.seq, tasks.metadata, newest.size FROM"
    " (SELECT seq, type, status, OCTET_LENGTH(result) AS size FROM tasks"
    " WHERE agent_id = ? ORDER BY seq DESC LIMIT ?) AS newest"
    " JOIN tasks ON tasks.seq = newest.seq"
    " WHERE newest.type = 'exec' AND newest.status = 'completed'"
    " ORDER BY newest.seq DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedResult:
    """A result as JSON text on one line; None when there was no room for it."""

    number: int
    json: str | None


def number(tx: Transaction, task: Row) -> Row:
    """Give the result of a completed exec its number; nothing is no result."""
    metadata = json.load(task["metadata"])
    metadata.pop("variable", None)
    if task["result"] != "null":
        metadata["variable"] = agents.next_number(tx, f"result/{task['agent_id']}")
    return tx.execute(
        "UPDATE tasks SET metadata = ? WHERE id = ? RETURNING *",
        json.dump(metadata),
        task["id"],
    )[0]


def variable_of(task: Row) -> str | None:
    """Return the name under which later code has the task's result, if it has one."""
    given = json.load(task["metadata"]).get("variable")
    return f"$result{given}" if isinstance(given, int) else None


def latest(
    database: Database, agent_id: str, *, max_bytes: int = RESULTS_BYTES
) -> list[NumberedResult]:
    """Return the agent's newest results, oldest first.

    Those that together are larger than `max_bytes` leave their place empty, the oldest
    first.
    """
    rows = database.read(_NEWEST, agent_id, LOOK_BACK_TASKS, RESULTS_LIMIT)
    numbers = {
        row["seq"]: given
        for row in rows
        if isinstance(given := json.load(row["metadata"]).get("variable"), int)
    }
    sizes = {row["seq"]: row["size"] for row in rows}
    newest_first = sorted(numbers, key=lambda seq: -numbers[seq])
    texts = _texts(database, _fitting(newest_first, sizes, max_bytes))
    return [
        NumberedResult(number=numbers[seq], json=texts.get(seq))
        for seq in reversed(newest_first)
    ]


def _fitting(newest_first: list[int], sizes: dict[int, int], room: int) -> list[int]:
    fitting: list[int] = []
    for seq in newest_first:
        room -= sizes[seq]
        if room < 0:
            break
        fitting.append(seq)
    return fitting


def _texts(database: Database, seqs: list[int]) -> dict[int, str]:
    if not seqs:
        return {}
    marks = ", ".join("?" for _ in seqs)
    rows = database.read(f"SELECT seq, result FROM tasks WHERE seq IN ({marks})", *seqs)
    return {row["seq"]: row["result"] for row in rows}
