"""Keeping keys out of what is written down: dumps, errors, logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"
# A shorter key is a test's, and would be found in every other word.
LEAST_CHARACTERS: Final = 8

_FIELDS: Final = frozenset(
    [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "api_key",
        "apikey",
    ]
)
_IN_TEXT: Final = (
    re.compile(r"([?&](?:api_)?key=)[^&\s\"'#]+", re.IGNORECASE),
    re.compile(r"(authorization\W{1,4}(?:(?:bearer|basic) )?)[^\s\"',]+", re.I),
    re.compile(r"(\bbearer )[\w.~+/=-]{8,}", re.IGNORECASE),
)


def redact(value: Any, secrets: Iterable[str | None]) -> Any:
    """Return JSON, or a text, without these secrets, without the values of `key=` in
    URLs and of headers that carry keys."""
    known = [each for each in secrets if each and len(each) >= LEAST_CHARACTERS]
    spelled = {*known, *(quote(each, safe="") for each in known)}
    return _redacted(value, sorted(spelled, key=len, reverse=True))


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return _text(value, secrets)
    if isinstance(value, dict):
        return {
            _text(str(name), secrets): REDACTED
            if str(name).lower() in _FIELDS and isinstance(each, str)
            else _redacted(each, secrets)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(each, secrets) for each in value]
    return value


def _text(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    for pattern in _IN_TEXT:
        text = pattern.sub(rf"\1{REDACTED}", text)
    return text
