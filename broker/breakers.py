"""Circuit breakers: which model provider is down, as all processes have seen it.

After some failures in a row a provider is left alone for a while, which doubles with
each further one. Then one call of one process is let through (half-open): if it goes
well the circuit is closed, else it is open again. A conversation never waits for what
is known to be down, and what comes up again is not trampled.
"""

from __future__ import annotations

from typing import Final

from broker.database import Database, Row, Transaction
from broker.times import SECOND_US, now_us

# So many failures in a row open the circuit.
FAILURES_LIMIT: Final = 5
REST_SECONDS: Final = 15.0
REST_LIMIT_SECONDS: Final = 300.0
# A try that has not come back by then is taken for dead with its process.
PROBE_SECONDS: Final = 130.0


def may_try(tx: Transaction, provider: str) -> float:
    """Return 0 when a call may be made, else for how many seconds it may not.

    With the circuit half open, whoever gets a 0 has to say how the call went.
    """
    row = _find(tx, provider)
    if row is None or row["opens_at"] is None:
        return 0.0
    now = now_us()
    if row["opens_at"] > now:
        return float((row["opens_at"] - now) / SECOND_US)
    claimed = tx.one(
        "UPDATE breakers SET probed_at = ?, updated_at = ? WHERE provider = ?"
        " AND opens_at IS NOT NULL AND (probed_at IS NULL OR probed_at < ?)"
        " RETURNING provider",
        now,
        now,
        provider,
        now - int(PROBE_SECONDS * SECOND_US),
    )
    return 0.0 if claimed else 1.0


def went_well(tx: Transaction, provider: str) -> None:
    """Close the circuit."""
    tx.execute("DELETE FROM breakers WHERE provider = ?", provider)


def failed(tx: Transaction, provider: str, error: str) -> None:
    """Count a failure; open the circuit when there were too many in a row."""
    now = now_us()
    row = tx.execute(
        "INSERT INTO breakers (provider, failures, error, updated_at)"
        " VALUES (?, 1, ?, ?) ON CONFLICT (provider) DO UPDATE"
        " SET failures = breakers.failures + 1, error = excluded.error,"
        " updated_at = excluded.updated_at, probed_at = NULL RETURNING failures",
        provider,
        error,
        now,
    )[0]
    beyond = row["failures"] - FAILURES_LIMIT
    if beyond >= 0:
        rest = min(REST_SECONDS * 2 ** min(beyond, 10), REST_LIMIT_SECONDS)
        tx.execute(
            "UPDATE breakers SET opens_at = ? WHERE provider = ?",
            now + int(rest * SECOND_US),
            provider,
        )


def has_failed(database: Database, provider: str) -> bool:
    """Whether there is anything to be closed: nothing is written for a call that goes
    well as always."""
    found = database.read("SELECT 1 AS x FROM breakers WHERE provider = ?", provider)
    return bool(found)


def _find(tx: Transaction, provider: str) -> Row | None:
    return tx.one("SELECT * FROM breakers WHERE provider = ?", provider)


def list_open(database: Database) -> list[Row]:
    """List the providers with failures: `{provider, state, failures, error,
    rests_for_seconds}`."""
    now = now_us()
    return [
        {
            "provider": row["provider"],
            "state": _state(row, now),
            "failures": row["failures"],
            "error": row["error"],
            "rests_for_seconds": _rest(row, now),
        }
        for row in database.read("SELECT * FROM breakers ORDER BY provider")
    ]


def _state(row: Row, now: int) -> str:
    if row["opens_at"] is None:
        return "closed"
    return "open" if row["opens_at"] > now else "half_open"


def _rest(row: Row, now: int) -> float:
    return round(max((row["opens_at"] or now) - now, 0) / SECOND_US, 1)
