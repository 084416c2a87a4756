"""What every adapter needs to reach its provider, and what it says when that fails.

Retries belong to the runtime (they are written down, and hold no thread), so no SDK may
retry by itself; here is only said which failures are worth another try.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from agents.models.base import CONTEXT_OVERFLOW, ModelError

# A delay that a provider asks for beyond this is no delay: the try fails at once (P39).
RETRY_AFTER_LIMIT_SECONDS: Final = 60.0

_RETRIABLE: Final = frozenset({408, 409, 425, 429})
_KINDS: Final[Mapping[int, str]] = {
    401: "unauthorized",
    403: "forbidden",
    404: "unknown_model",
    408: "timeout",
    413: "bad_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
# How providers say that a conversation is longer than the window; from their documents
# and from servers that speak their protocols.
_OVERFLOW: Final = re.compile(
    r"prompt is too long|context[ _]length|context[ _]window|maximum context"
    r"|exceeds? the (maximum|max|limit)[^.]*tokens?|too many (input )?tokens"
    r"|input token count|request_too_large|exceed(s|ed)? (the )?(available )?context",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one provider. `find_key` is asked for every call (P36): tokens may
    be short-lived. `key_name` is the variable that a person has to set."""

    provider: str
    key_name: str | None
    find_key: Callable[[], str | None]
    base_url: str | None = None

    def key(self) -> str:
        """Return the key; raise ModelError that names the variable."""
        key = self.find_key()
        if key:
            return key
        if self.key_name is None:
            return "none"  # a local server asks for none, and SDKs want a text
        raise ModelError(
            f"The provider {self.provider} needs a key: set {self.key_name} in the "
            "environment or in .env, then retry this turn.",
            kind="missing_key",
            is_retriable=False,
        )


def failure(
    provider: str,
    status: int | None,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    code: str | None = None,
) -> ModelError:
    """Judge an error that a provider has answered with; `status` is None for one that
    came inside of a stream, `code` is its own word for it."""
    said = f"{provider}: {message}"
    if _OVERFLOW.search(f"{code or ''} {message}") and status not in _RETRIABLE:
        return ModelError(said, kind=CONTEXT_OVERFLOW, is_retriable=False)
    if status is None:
        return ModelError(said, kind=code or "provider_error", is_retriable=True)
    is_retriable = status in _RETRIABLE or status >= 500
    kind = _KINDS.get(status, "provider_error" if status >= 500 else "bad_request")
    after = retry_after(headers or {}) if is_retriable else None
    if after is not None and after > RETRY_AFTER_LIMIT_SECONDS:
        return ModelError(
            f"{said} It asks to be left alone for {after:.0f} s, and no turn waits "
            f"longer than {RETRY_AFTER_LIMIT_SECONDS:.0f} s for that.",
            kind=kind,
            is_retriable=False,
            retry_after_seconds=after,
        )
    return ModelError(
        said, kind=kind, is_retriable=is_retriable, retry_after_seconds=after
    )


def broken(provider: str, error: Exception, *, is_timeout: bool) -> ModelError:
    """Judge a connection that could not be made, or that broke."""
    if is_timeout:
        return ModelError(
            f"{provider}: nothing came for too long ({type(error).__name__}).",
            kind="timeout",
            is_retriable=True,
        )
    return ModelError(
        f"{provider}: the connection failed ({type(error).__name__}).",
        kind="connection",
        is_retriable=True,
    )


def incomplete(provider: str) -> ModelError:
    """The stream ended, cleanly, before the provider said that the answer does. Every
    SDK takes that for the end of the answer; it is not one."""
    return ModelError(
        f"{provider}: the stream ended before the answer did.",
        kind="incomplete",
        is_retriable=True,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a provider asks to be left alone, in any of three forms."""
    found = {name.lower(): value for name, value in headers.items()}
    try:
        if "retry-after-ms" in found:
            return max(float(found["retry-after-ms"]) / 1000, 0.0)
        value = found.get("retry-after")
        return None if value is None else max(float(value), 0.0)
    except ValueError:
        return _until(found["retry-after"]) if "retry-after" in found else None


def _until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max((at - datetime.now(UTC)).total_seconds(), 0.0) if at.tzinfo else None
