"""Limits of providers: how many calls of all processes may be made, and be under way.

`ROOST_LIMITS` names them by a model (`anthropic/claude-opus-5-5`) or by a provider
(`anthropic/*`); a call has to have room at each that fits its model. Requests and
tokens a minute are token buckets (full at first, filled continuously); calls under way
are rows, which count only while the turn that made them holds its lease, so a worker
that dies takes nothing with it.

A turn that finds no room is parked before its call and holds no thread. Who works in
the background (news, answers to agents) leaves a fifth of each limit to what people
have said. Every function is called in the transaction that writes the step down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker import waking
from broker.database import Database, Row, Transaction
from broker.times import SECOND_US, now_us

# What a turn is parked for (`waiting_for.kind`).
KIND: Final = "provider_limit"
MINUTE_SECONDS: Final = 60.0
# What of a limit those may use that nobody waits for.
BACKGROUND_SHARE: Final = 0.8
# The end of a call wakes who waits for its place; this is for when nobody was there to
# say that it ended.
PLACE_SECONDS: Final = 5.0

Limits = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Why a call may not be made now, and when it is worth another look."""

    why: Row
    target: str
    deadline_at: int


def fitting(limits: Limits, model: str) -> list[str]:
    """Return the names of the limits that count for a model; of a list of models (with
    a comma between) for its first."""
    first = model.partition(",")[0]
    provider = first.partition("/")[0]
    return [name for name in (first, f"{provider}/*") if name in limits]


def take(
    tx: Transaction,
    limits: Limits,
    model: str,
    turn: tuple[str, int],
    *,
    tokens: int,
) -> Busy | None:
    """Take a place and what a call is estimated to use; or say where there is no room.
    `turn` is its id and epoch. Nothing is taken unless there is room everywhere."""
    names = fitting(limits, model)
    if not names:
        return None
    share = _share(tx, turn[0])
    now = now_us()
    for name in names:
        if busy := _look(tx, name, limits[name], tokens, share, now):
            return busy
    for name in names:
        _take_one(tx, name, limits[name], turn, tokens, now)
    return None


def settle(
    tx: Transaction, limits: Limits, model: str, turn_id: str, *, unexpected: int
) -> None:
    """Give the place back, count the tokens that the estimate did not know of (or take
    off those it was wrong about), and let the next turn in that waits for a place."""
    for name in fitting(limits, model):
        tx.execute(
            "UPDATE rates SET tokens = tokens - ? WHERE name = ?", unexpected, name
        )
        freed = tx.execute(
            "DELETE FROM calls WHERE task_id = ? AND name = ? RETURNING name",
            turn_id,
            name,
        )
        if freed:
            _wake_next(tx, name)


def _share(tx: Transaction, turn_id: str) -> float:
    row = tx.one("SELECT rank FROM tasks WHERE id = ?", turn_id)
    is_background = row is not None and row["rank"] % 2 == 1  # NewTask.yields
    return BACKGROUND_SHARE if is_background else 1.0


def _look(
    tx: Transaction,
    name: str,
    limit: Mapping[str, float],
    tokens: int,
    share: float,
    now: int,
) -> Busy | None:
    bucket = _bucket(tx, name, limit, now)
    for unit, wanted in (("requests", 1.0), ("tokens", float(tokens))):
        most = limit.get(f"{unit}_per_minute")
        if most is None:
            continue
        kept_free = most * (1 - share)
        missing = min(wanted, most - kept_free) - (bucket[unit] - kept_free)
        if missing > 0:
            seconds = missing / most * MINUTE_SECONDS
            return _busy(name, f"{unit}_per_minute", most, now, seconds)
    places = limit.get("in_flight")
    if places is not None and _under_way(tx, name) >= max(places * share, 1):
        return _busy(name, "in_flight", places, now, PLACE_SECONDS)
    return None


def _busy(name: str, unit: str, limit: float, now: int, seconds: float) -> Busy:
    return Busy(
        why={"kind": KIND, "name": name, "unit": unit, "limit": limit},
        target=_target(name),
        deadline_at=now + int(max(seconds, 0.05) * SECOND_US),
    )


def _target(name: str) -> str:
    return f"{KIND}/{name}"


def _bucket(
    tx: Transaction, name: str, limit: Mapping[str, float], now: int
) -> dict[str, float]:
    """What is left, filled up to now."""
    row = tx.one("SELECT * FROM rates WHERE name = ?", name)
    left = {}
    for unit in ("requests", "tokens"):
        most = limit.get(f"{unit}_per_minute", 0.0)
        if row is None:
            left[unit] = most
            continue
        passed = max(now - row["filled_at"], 0) / SECOND_US
        left[unit] = min(row[unit] + most * passed / MINUTE_SECONDS, most)
    return left


def _under_way(tx: Transaction, name: str) -> int:
    """Count the calls of turns that hold their lease; forget those of the dead."""
    tx.execute(
        "DELETE FROM calls WHERE name = ? AND NOT EXISTS (SELECT 1 FROM tasks"
        " WHERE tasks.id = calls.task_id AND tasks.epoch = calls.epoch"
        " AND tasks.status = 'running')",
        name,
    )
    counted = tx.execute("SELECT COUNT(*) AS n FROM calls WHERE name = ?", name)
    return int(counted[0]["n"])


def _take_one(
    tx: Transaction,
    name: str,
    limit: Mapping[str, float],
    turn: tuple[str, int],
    tokens: int,
    now: int,
) -> None:
    left = _bucket(tx, name, limit, now)
    tx.execute(
        "INSERT INTO rates (name, requests, tokens, filled_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET requests = excluded.requests,"
        " tokens = excluded.tokens, filled_at = excluded.filled_at",
        name,
        left["requests"] - 1,
        left["tokens"] - tokens,
        now,
    )
    tx.execute(
        "INSERT INTO calls (task_id, name, epoch, started_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (task_id, name) DO UPDATE SET epoch = excluded.epoch,"
        " started_at = excluded.started_at",
        turn[0],
        name,
        turn[1],
        now,
    )


def _wake_next(tx: Transaction, name: str) -> None:
    """Queue the most urgent turn that waits for a place here."""
    row = tx.one(
        "SELECT tasks.id FROM waits JOIN tasks ON tasks.id = waits.task_id"
        " AND tasks.status = 'waiting' WHERE waits.target_id = ?"
        " ORDER BY tasks.rank, tasks.seq LIMIT 1",
        _target(name),
    )
    if row is not None:
        waking.queue_again(tx, row["id"])


def said_of(why: Row) -> str:
    """Say what a turn that found no room waits for."""
    what = {
        "in_flight": "a call at {name} to end ({limit:g} may be under way)",
        "requests_per_minute": "room at {name} ({limit:g} requests a minute)",
        "tokens_per_minute": "room at {name} ({limit:,.0f} tokens a minute)",
    }[why["unit"]]
    return what.format(**why)


def list_rates(database: Database) -> list[Row]:
    """List how many calls are under way under each limit: `{name, in_flight}`."""
    return database.read(
        "SELECT calls.name, COUNT(*) AS in_flight FROM calls JOIN tasks"
        " ON tasks.id = calls.task_id AND tasks.epoch = calls.epoch"
        " AND tasks.status = 'running' GROUP BY calls.name ORDER BY calls.name"
    )
