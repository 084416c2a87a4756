"""Receipts: the first answer to a request that carries an Idempotency-Key.

The draft standard's three cases: the same key and request get the first answer again,
another request under the key is refused, a request still running says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker import processes
from broker.database import Transaction
from broker.errors import BrokerError, Conflict
from broker.times import SECOND_US, now_us

# A receipt without an answer this old belongs to a process that died with it, also
# where nobody can look whether it lives.
ABANDONED_SECONDS: Final = 120


class KeyReused(BrokerError):
    """An Idempotency-Key came back with another request."""

    slug = "idempotency-key-reused"
    status = 422

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key!r} was used for another request. "
            "Use a new key for a new request."
        )
        self.key = key


class StillRunning(Conflict):
    """The first request with this key has no answer yet."""

    slug = "idempotency-key-in-use"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The first request with the Idempotency-Key {key!r} still runs. "
            "Send it again in a moment."
        )
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered first."""

    status: int
    body: str
    location: str | None


def begin(tx: Transaction, key: str, request_hash: str) -> Answer | None:
    """Return the first answer; None when this is the first request, or takes over."""
    now = now_us()
    row = tx.one(
        "INSERT INTO receipts (key, request_hash, owner, created_at)"
        " VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner,"
        " created_at = excluded.created_at"
        " WHERE receipts.status IS NULL AND receipts.created_at < ?"
        " AND receipts.request_hash = excluded.request_hash RETURNING key",
        key,
        request_hash,
        processes.identify("web").owner,
        now,
        now - ABANDONED_SECONDS * SECOND_US,
    )
    return None if row is not None else _first(tx, key, request_hash)


def _first(tx: Transaction, key: str, request_hash: str) -> Answer | None:
    row = tx.execute("SELECT * FROM receipts WHERE key = ?", key)[0]
    if row["request_hash"] != request_hash:
        raise KeyReused(key)
    if row["status"] is None and processes.is_dead(row["owner"]):
        forget(tx, key)
        return begin(tx, key, request_hash)
    if row["status"] is None:
        raise StillRunning(key)
    return Answer(status=row["status"], body=row["body"], location=row["location"])


def finish(tx: Transaction, key: str, answer: Answer) -> None:
    """Keep the first answer."""
    tx.execute(
        "UPDATE receipts SET status = ?, body = ?, location = ? WHERE key = ?",
        answer.status,
        answer.body,
        answer.location,
        key,
    )


def forget(tx: Transaction, key: str) -> None:
    """Forget a request that came to nothing, so that it can be sent again."""
    tx.execute("DELETE FROM receipts WHERE key = ?", key)
