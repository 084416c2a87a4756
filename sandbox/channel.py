"""The channel by which the bootstrap reports; everything on it is untrusted.

One JSON object a line: `started` once the bootstrap runs, then `result` (the last one
counts) or `unserialisable`. No more than one line is ever held.
"""

import json
from typing import Any, NoReturn

from sandbox.outcome import JSON, Failure, Limit
from sandbox.policy import Policy

RESULT_PREFIX = b'{"result":'
# The bootstrap cuts its message at 1,000 characters, each at most 6 bytes of JSON.
MESSAGE_BYTES = 8192


class Channel:
    """Take in what the job writes; tell what it comes to when the job has ended."""

    def __init__(self, policy: Policy) -> None:
        self.started = False
        self._policy = policy
        self._line = bytearray()
        self._last = b""

    def feed(self, data: bytes) -> Failure | None:
        """Take in bytes; a failure when a line is longer than a result may be."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._line += piece
            if self._is_too_long():
                return self._too_large()
            self._take(bytes(self._line))
            self._line.clear()
        self._line += rest
        return self._too_large() if self._is_too_long() else None

    def result(self) -> tuple[JSON, Failure | None]:
        """Parse the last report strictly: the result, or why there is none."""
        try:
            report = json.loads(self._last, parse_constant=_refuse)
            if isinstance(report, dict) and "result" in report:
                _refuse_lone_surrogates(self._last, report)
                return report["result"], None
        except (ValueError, RecursionError) as error:
            return None, _bad(f"failed to read the result: {error}")
        if isinstance(report, dict) and isinstance(report.get("unserialisable"), str):
            return None, _bad(
                "globalThis.result is not JSON:"
                f" {_printable(report['unserialisable'])}; set it to plain data"
            )
        return None, _bad("failed to read the result: the code's process left none")

    def _take(self, line: bytes) -> None:
        self.started = True
        self._last = line

    def _is_too_long(self) -> bool:
        room = max(self._policy.result_bytes, MESSAGE_BYTES)
        if self._line.startswith(RESULT_PREFIX):
            room = self._policy.result_bytes
        return len(self._line) > room + len(RESULT_PREFIX) + 1

    def _too_large(self) -> Failure:
        limit = Limit(name="result_bytes", value=self._policy.result_bytes)
        return Failure(
            type="result_too_large",
            message=f"globalThis.result is larger than {limit.value:,} bytes"
            " (result_bytes): keep the large part in a file or return a part of it",
            limit=limit,
        )


def _bad(message: str) -> Failure:
    return Failure(type="bad_result", message=message)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _refuse_lone_surrogates(line: bytes, report: Any) -> None:
    """Half a surrogate pair is valid JSON but no text: nothing could store it."""
    if b"\\ud" in line.lower():
        json.dumps(report, ensure_ascii=False).encode()


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()[:1000]
