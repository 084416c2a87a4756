"""Budgets: how much agents may use, what they have used, what calls under way hold.

A limit belongs to an agent, in a scope: each of its **turn**s, the **agent** for ever,
the **tree** of it and all that it has made, the **day** in UTC. A model call is counted
on every meter above it: its turn's, its agent's, that of the tree of each ancestor, the
day's. Before the call the most that it may use is reserved there, afterwards what it
has used takes its place. What is spent and reserved is never above a limit, but for
what nobody can know before: how exactly a provider counts the input.

Meters run without limits, too: one that is set at noon knows of the morning. A turn has
one model call at a time, so it has one reservation at most; its end takes it away.
Every function here is called within the transaction that writes the step down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from broker import events, json, waking
from broker.database import Database, Row, Transaction
from broker.errors import NotFound, UnknownPrice
from broker.events import NewEvent
from broker.states import Stream
from broker.times import SECOND_US, now_us, rfc3339

SCOPES: Final = ("turn", "agent", "tree", "day")
# Each unit in the smallest part that is counted: all sums are of whole numbers.
UNITS: Final[Mapping[str, int]] = {
    "tokens": 1,
    "usd": 1_000_000_000,
    "rounds": 1,
    "seconds": 1_000,
}
_COLUMNS: Final[Mapping[str, str]] = {
    "tokens": "tokens",
    "usd": "nano_usd",
    "rounds": "rounds",
    "seconds": "ms",
}
# What a turn is parked for (`waiting_for.kind`), and the step that is said to wait. No
# step has begun; as at the prompt's, which is 0, no message ends the wait.
KIND: Final = "budget"
STEP: Final = -1
# An answer that may not be longer than this is not worth its input.
LEAST_OUTPUT_TOKENS: Final = 256
# People are told when four fifths of a limit are used.
_WARN_OF_FIVE: Final = 4

Amounts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Account:
    """A meter that counts for a scope of an agent."""

    scope: str
    agent_id: str
    key: str

    @property
    def target(self) -> str:
        """What a turn waits for that was refused here."""
        return f"{KIND}/{self.scope}/{self.agent_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a model call may use at the most. A price that nobody knows is None;
    `worked_seconds` is what its turn has worked since it was last told."""

    model: str
    input_tokens: int
    output_tokens: int
    input_usd: float | None
    output_token_usd: float | None
    worked_seconds: float = 0.0
    rounds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a model call has used. A cost that nobody knows is None."""

    tokens: int = 0
    cost_usd: float | None = 0.0
    rounds: int = 0
    seconds: float = 0.0

    @property
    def amounts(self) -> Amounts:
        """The counts in smallest parts."""
        return {
            "tokens": self.tokens,
            "usd": math.ceil((self.cost_usd or 0.0) * UNITS["usd"]),
            "rounds": self.rounds,
            "seconds": round(self.seconds * UNITS["seconds"]),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a call may use; None tokens of output are the model's own limit."""

    accounts: tuple[Account, ...]
    worked: Amounts
    amounts: Amounts
    max_output_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call may not be made now, and until when that is so at the latest."""

    why: Row
    target: str
    deadline_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    account: Account
    unit: str
    amount: int
    spent: int
    reserved: int

    @property
    def room(self) -> int:
        """What may still be spent or reserved."""
        return self.amount - self.spent - self.reserved


# --- A model call ---------------------------------------------------------------------


def reserve(tx: Transaction, turn_id: str, agent_id: str, ask: Ask) -> Grant | Refusal:
    """Look whether a call fits every limit above it; a grant is to be held at once.

    What the turn has worked counts either way. Raises UnknownPrice where a limit is in
    money and the model's price is not known.
    """
    release(tx, turn_id)  # what an earlier worker held for the same step
    accounts = _accounts(tx, agent_id, turn_id)
    worked = Used(seconds=ask.worked_seconds).amounts
    limits = [_with(limit, worked) for limit in _limits(tx, accounts)]
    _refuse_unknown_price(limits, ask)
    _warn(tx, limits, turn_id)
    least = _amounts(ask, min(ask.output_tokens, LEAST_OUTPUT_TOKENS))
    for limit in limits:
        if least[limit.unit] > limit.room:
            _add(tx, accounts, worked)
            return _refusal(tx, limit, least[limit.unit], turn_id)
    bounds = [_output_within(limit, ask) for limit in limits if limit.unit in _HELD]
    output = min([ask.output_tokens, *bounds])
    return Grant(
        accounts=accounts,
        worked=worked,
        amounts=_amounts(ask, output),
        max_output_tokens=output if bounds else None,
    )


_HELD: Final = ("tokens", "usd")


def hold(tx: Transaction, turn_id: str, step: int, grant: Grant) -> None:
    """Reserve what was granted, for the step that begins."""
    amounts = grant.amounts
    _add(tx, grant.accounts, grant.worked, amounts)
    tx.execute(
        "INSERT INTO reservations (task_id, step, accounts, tokens, nano_usd, rounds,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        turn_id,
        step,
        json.dump([[a.scope, a.agent_id, a.key] for a in grant.accounts]),
        amounts["tokens"],
        amounts["usd"],
        amounts["rounds"],
        now_us(),
    )


def settle(tx: Transaction, turn_id: str, agent_id: str, used: Used) -> None:
    """Count what a call has used in place of what was reserved for it, if it was."""
    accounts, held = _take(tx, turn_id)
    accounts = accounts or _accounts(tx, agent_id, turn_id)
    _add(tx, accounts, used.amounts, held)
    if limits := _limits(tx, accounts):
        _warn(tx, limits, turn_id)
        _wake(tx, accounts)


def release(tx: Transaction, turn_id: str) -> None:
    """Give back what is reserved for a turn: nothing of it will be used any more."""
    accounts, held = _take(tx, turn_id)
    if accounts:
        _add(tx, accounts, {}, held)
        _wake(tx, accounts)


def has_room(tx: Transaction, why: Row) -> bool:
    """Whether a limit that a turn was parked for would let its call pass now."""
    limit = _limit_of(tx, why)
    return limit is None or _parts(why["unit"], why["needed"]) <= limit.room


def _take(tx: Transaction, turn_id: str) -> tuple[tuple[Account, ...], Amounts]:
    """Take a turn's reservation away; return its accounts and what to add to them."""
    row = tx.one("DELETE FROM reservations WHERE task_id = ? RETURNING *", turn_id)
    if row is None:
        return (), {}
    held = {unit: -row[_COLUMNS[unit]] for unit in (*_HELD, "rounds")}
    return tuple(Account(*each) for each in json.load(row["accounts"])), held


def _with(limit: _Limit, more: Amounts) -> _Limit:
    return replace(limit, spent=limit.spent + more[limit.unit])


def _amounts(ask: Ask, output_tokens: int) -> Amounts:
    """The most that a call uses whose answer has so many tokens."""
    usd = (ask.input_usd or 0.0) + output_tokens * (ask.output_token_usd or 0.0)
    return {
        "tokens": ask.input_tokens + output_tokens,
        "usd": math.ceil(usd * UNITS["usd"]),
        "rounds": ask.rounds,
        "seconds": 1,  # it may begin while any time is left
    }


def _output_within(limit: _Limit, ask: Ask) -> int:
    """How many tokens of output a limit has room for."""
    if limit.unit == "tokens":
        return limit.room - ask.input_tokens
    price = (ask.output_token_usd or 0.0) * UNITS["usd"]
    left = limit.room - math.ceil((ask.input_usd or 0.0) * UNITS["usd"])
    # A part too few, because what is reserved is rounded up.
    return max(int((left - 1) / price), 0) if price else ask.output_tokens


def _refuse_unknown_price(limits: Sequence[_Limit], ask: Ask) -> None:
    if ask.input_usd is not None and ask.output_token_usd is not None:
        return
    for limit in limits:
        if limit.unit == "usd":
            raise UnknownPrice(ask.model, limit.account.agent_id, limit.account.scope)


def _refusal(tx: Transaction, limit: _Limit, needed: int, turn_id: str) -> Refusal:
    if limit.spent + needed > limit.amount:  # others' calls under way do not matter
        _tell(tx, limit, turn_id, is_reached=True)
    midnight = _midnight() if limit.account.scope == "day" else None
    return Refusal(
        why={
            "kind": KIND,
            "scope": limit.account.scope,
            "agent_id": limit.account.agent_id,
            "key": limit.account.key,
            "unit": limit.unit,
            "limit": _shown(limit.unit, limit.amount),
            "spent": _shown(limit.unit, limit.spent),
            "reserved": _shown(limit.unit, limit.reserved),
            "needed": _shown(limit.unit, needed),
            "until": rfc3339(midnight),
        },
        target=limit.account.target,
        deadline_at=midnight,
    )


# --- The limits -----------------------------------------------------------------------


def change(
    tx: Transaction,
    agent_id: str,
    wanted: Mapping[str, Mapping[str, float | None] | None],
) -> None:
    """Set limits by scope and unit; None takes one away, or all of a scope. What is not
    named stays. Whoever waits and has room now goes on."""
    if tx.one("SELECT 1 AS x FROM agents WHERE id = ?", agent_id) is None:
        raise NotFound("agent", agent_id)
    for scope, units in wanted.items():
        for unit, value in (dict.fromkeys(UNITS) if units is None else units).items():
            _set(tx, agent_id, scope, unit, value)
    _wake(tx, [Account(scope, agent_id, "") for scope in SCOPES])


def _set(
    tx: Transaction, agent_id: str, scope: str, unit: str, value: float | None
) -> None:
    if value is None:
        tx.execute(
            "DELETE FROM budgets WHERE agent_id = ? AND scope = ? AND unit = ?",
            agent_id,
            scope,
            unit,
        )
        return
    tx.execute(
        "INSERT INTO budgets (agent_id, scope, unit, amount) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (agent_id, scope, unit) DO UPDATE SET amount = excluded.amount",
        agent_id,
        scope,
        unit,
        _parts(unit, value),
    )


def show(database: Database, agent_id: str) -> Row:
    """Return, by scope and unit, `{limit, spent, reserved, left}`, and the meter's key:
    of turns it is that of the one that holds the agent, or of its last."""
    turn_id = _turn_of(database, agent_id)
    keys = {
        "turn": f"turn/{turn_id}" if turn_id else None,
        "agent": f"agent/{agent_id}",
        "tree": f"tree/{agent_id}",
        "day": f"day/{agent_id}/{_today()}",
    }
    limits = {
        (row["scope"], row["unit"]): row["amount"]
        for row in database.read("SELECT * FROM budgets WHERE agent_id = ?", agent_id)
    }
    marks = ", ".join("?" * len(keys))
    sql = f"SELECT * FROM meters WHERE key IN ({marks})"
    meters = {row["key"]: row for row in database.read(sql, *keys.values())}
    return {
        scope: {
            "key": key,
            **{
                unit: _line(unit, limits.get((scope, unit)), meters.get(key or ""))
                for unit in UNITS
            },
        }
        for scope, key in keys.items()
    }


def _turn_of(database: Database, agent_id: str) -> str | None:
    row = database.read_one(
        "SELECT COALESCE(turn_id, (SELECT id FROM tasks WHERE agent_id = agents.id"
        " AND type = 'turn' ORDER BY seq DESC LIMIT 1)) AS id FROM agents WHERE id = ?",
        agent_id,
    )
    if row is None:
        raise NotFound("agent", agent_id)
    return None if row["id"] is None else str(row["id"])


def _line(unit: str, amount: int | None, meter: Row | None) -> Row:
    spent, reserved = _counted(unit, meter)
    return {
        "limit": None if amount is None else _shown(unit, amount),
        "spent": _shown(unit, spent),
        "reserved": _shown(unit, reserved),
        "left": (
            None if amount is None else _shown(unit, max(amount - spent - reserved, 0))
        ),
    }


def said_of(database: Database, why: Row) -> str:
    """Say which budget a turn waits for, and what would let it go on."""
    agent_id, unit, name = why["agent_id"], why["unit"], f"{why['scope']}.{why['unit']}"
    limit = database.read_one(
        "SELECT amount FROM budgets WHERE agent_id = ? AND scope = ? AND unit = ?",
        agent_id,
        why["scope"],
        unit,
    )
    meter = database.read_one("SELECT * FROM meters WHERE key = ?", why["key"])
    line = _line(unit, limit["amount"] if limit else None, meter)
    most = why["limit"] if line["limit"] is None else line["limit"]
    held = (
        f" and {_said(line['reserved'])} held by calls under way"
        if line["reserved"]
        else ""
    )
    until = f", or {why['until']}, when the next day begins" if why["until"] else ""
    return (
        f"room in the budget {name} of agent {agent_id}: of {_said(most)} {unit},"
        f" {_said(line['spent'])} are spent{held}, and the next model call needs at"
        f" least {_said(why['needed'])} (roost budget {agent_id} --set {name}=…){until}"
    )


# --- Meters ---------------------------------------------------------------------------


def _accounts(tx: Transaction, agent_id: str, turn_id: str) -> tuple[Account, ...]:
    above = tx.execute(
        "WITH RECURSIVE above (id, parent_id) AS ("
        " SELECT id, parent_id FROM agents WHERE id = ? UNION"
        " SELECT agents.id, agents.parent_id FROM agents"
        " JOIN above ON agents.id = above.parent_id) SELECT id FROM above",
        agent_id,
    )
    return (
        Account("turn", agent_id, f"turn/{turn_id}"),
        Account("agent", agent_id, f"agent/{agent_id}"),
        *(Account("tree", each["id"], f"tree/{each['id']}") for each in above),
        Account("day", agent_id, f"day/{agent_id}/{_today()}"),
    )


def _add(
    tx: Transaction,
    accounts: Sequence[Account],
    spent: Amounts,
    reserved: Amounts | None = None,
) -> None:
    """Add to every account at once; amounts may be negative."""
    values = [
        *(spent.get(unit, 0) for unit in UNITS),
        *((reserved or {}).get(unit, 0) for unit in UNITS if unit != "seconds"),
    ]
    if not any(values):
        return
    now = now_us()
    row = f"(?, {', '.join('?' * len(values))}, ?)"
    tx.execute(
        f"INSERT INTO meters (key, {', '.join(_COUNTS)}, updated_at)"
        f" VALUES {', '.join([row] * len(accounts))}"
        f" ON CONFLICT (key) DO UPDATE SET {_ADDED}, updated_at = excluded.updated_at",
        *(each for account in accounts for each in (account.key, *values, now)),
    )


_COUNTS: Final = (
    *(f"spent_{column}" for column in _COLUMNS.values()),
    *(f"reserved_{column}" for column in _COLUMNS.values() if column != "ms"),
)
_ADDED: Final = ", ".join(
    f"{each} = meters.{each} + excluded.{each}" for each in _COUNTS
)


def _limits(tx: Transaction, accounts: Sequence[Account]) -> list[_Limit]:
    """The limits of accounts with what is counted there, in the order of the scopes."""
    owners = {account.agent_id for account in accounts}
    found = {
        (row["agent_id"], row["scope"], row["unit"]): row["amount"]
        for row in tx.execute(
            f"SELECT * FROM budgets WHERE agent_id IN ({', '.join('?' * len(owners))})",
            *owners,
        )
    }
    if not found:
        return []
    meters = _meters(tx, accounts)
    limits = []
    for account in accounts:
        for unit in UNITS:
            amount = found.get((account.agent_id, account.scope, unit))
            if amount is not None:
                spent, reserved = _counted(unit, meters.get(account.key))
                limits.append(
                    _Limit(
                        account=account,
                        unit=unit,
                        amount=amount,
                        spent=spent,
                        reserved=reserved,
                    )
                )
    return limits


def _meters(tx: Transaction, accounts: Sequence[Account]) -> dict[str, Row]:
    marks = ", ".join("?" * len(accounts))
    rows = tx.execute(
        f"SELECT * FROM meters WHERE key IN ({marks})", *(a.key for a in accounts)
    )
    return {row["key"]: row for row in rows}


def _limit_of(tx: Transaction, why: Row) -> _Limit | None:
    account = Account(why["scope"], why["agent_id"], why["key"])
    limits = _limits(tx, [account])
    return next((limit for limit in limits if limit.unit == why["unit"]), None)


def _counted(unit: str, meter: Row | None) -> tuple[int, int]:
    """What is spent and reserved of a unit; of seconds nothing is ever reserved."""
    if meter is None:
        return 0, 0
    column = _COLUMNS[unit]
    return meter[f"spent_{column}"], meter.get(f"reserved_{column}", 0)


def _wake(tx: Transaction, accounts: Iterable[Account]) -> None:
    """Queue the turns that were refused here and have room now."""
    targets = {account.target for account in accounts}
    for row in tx.execute(
        "SELECT DISTINCT tasks.id, tasks.waiting_for FROM waits JOIN tasks"
        " ON tasks.id = waits.task_id AND tasks.status = 'waiting'"
        f" WHERE waits.target_id IN ({', '.join('?' * len(targets))})"
        " ORDER BY tasks.id",
        *targets,
    ):
        if has_room(tx, json.load(row["waiting_for"])):
            waking.queue_again(tx, row["id"])


def _warn(tx: Transaction, limits: Iterable[_Limit], turn_id: str) -> None:
    for limit in limits:
        if 0 < limit.amount * _WARN_OF_FIVE <= limit.spent * 5:
            _tell(tx, limit, turn_id, is_reached=False)


def _tell(tx: Transaction, limit: _Limit, turn_id: str, *, is_reached: bool) -> None:
    """Tell people once for each limit and key."""
    what = "reached" if is_reached else "warning"
    account = limit.account
    limit_shown = _shown(limit.unit, limit.amount)
    spent = _shown(limit.unit, limit.spent)
    payload = {
        "scope": account.scope,
        "agent_id": account.agent_id,
        "key": account.key,
        "unit": limit.unit,
        "limit": limit_shown,
        "spent": spent,
        "reserved": _shown(limit.unit, limit.reserved),
        "turn_id": turn_id,
    }
    events.append(
        tx,
        NewEvent(
            stream=Stream.SIGNALS,
            scope=f"agent/{account.agent_id}",
            kind="budget_reached" if is_reached else "budget_warning",
            body=(
                f"{account.key} has used {_said(spent)} of its {_said(limit_shown)}"
                f" {limit.unit}."
            ),
            payload=payload,
            key=f"{KIND}/{what}/{account.key}/{limit.unit}/{limit.amount}",
        ),
    )


def _parts(unit: str, value: float) -> int:
    return round(value * UNITS[unit])


def _shown(unit: str, parts: int) -> float:
    return parts if UNITS[unit] == 1 else parts / UNITS[unit]


def _said(amount: float) -> str:
    """Write a number as people do, to a millionth."""
    return f"{amount:.6f}".rstrip("0").rstrip(".")


def _today() -> str:
    return str(datetime.fromtimestamp(now_us() / SECOND_US, UTC).date())


def _midnight() -> int:
    """When the next day begins."""
    today = datetime.fromtimestamp(now_us() / SECOND_US, UTC).date()
    return int(
        datetime.combine(
            today + timedelta(days=1), datetime.min.time(), UTC
        ).timestamp()
        * SECOND_US
    )
