"""Instants: microseconds since 1970 in the database, RFC 3339 UTC outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SECOND_US = 1_000_000


def now_us() -> int:
    """Return this instant in microseconds since the epoch."""
    return time.time_ns() // 1000


def rfc3339(instant_us: int | None) -> str | None:
    """Render an instant, in UTC with microseconds; None stays None."""
    if instant_us is None:
        return None
    instant = datetime.fromtimestamp(instant_us / SECOND_US, UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
