"""What models were sent and what they said, in a file for each turn (G117).

For whoever debugs an adapter, a prompt or a bill; switched on by ROOST_MODEL_DEBUG_DIR.
A file is JSON lines, `<agent>-<turn>.jsonl`, mode 0600: whoever takes the turn over
appends to it, and a line that a dying process left half stays alone. Keys are redacted,
conversations are not. A dump that cannot be written costs the turn nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from agents.control import Interrupt
from agents.messages import Answer
from agents.models import PROVIDERS, Delta, Model, ModelError, Request
from agents.models.redaction import redact
from broker import json
from broker.settings import Settings
from broker.times import now_us, rfc3339
from workers.variables import Variables

log = structlog.get_logger(__name__)

FindModel = Callable[[str | None], Model]
Kind = Literal["request", "event", "answer", "error"]

# Variables that hold what nobody may read.
_SECRET_NAME: Final = re.compile(r"(_KEY|_TOKEN|_SECRET|_PASSWORD)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumps:
    """The directory of the dumps; `find_secrets` is asked for every line, since keys
    may be short-lived."""

    directory: Path
    find_secrets: Callable[[], Iterable[str | None]]

    def recording(
        self, agent_id: str, turn_id: str, find_model: FindModel
    ) -> FindModel:
        """Return a `find_model` whose models write down what they are sent and say."""
        record = Record(
            path=self.directory / f"{agent_id}-{turn_id}.jsonl",
            about={"agent_id": agent_id, "turn_id": turn_id},
            find_secrets=self.find_secrets,
        )
        return lambda name: Dumped(find_model(name), record)


def dumps_of(settings: Settings, variables: Variables) -> Dumps | None:
    """Return where these settings want dumps; None where they want none."""
    if settings.model_debug_directory is None:
        return None
    given = [
        value for name, value in settings.environ.items() if _SECRET_NAME.search(name)
    ]
    seen = {*given, settings.token}
    names = [each.key_name for each in PROVIDERS.values() if each.key_name]

    def find_secrets() -> Iterable[str | None]:
        seen.update(variables.find(name) for name in names)
        return seen

    return Dumps(directory=settings.model_debug_directory, find_secrets=find_secrets)


@dataclass(slots=True, kw_only=True)
class Record:
    """The dump of one turn."""

    path: Path
    about: dict[str, str]
    find_secrets: Callable[[], Iterable[str | None]]
    _lines: int | None = field(default=None, init=False)

    def add(
        self, kind: Kind, payload: dict[str, Any], created_at: str | None = None
    ) -> None:
        """Append an entry; a disk that refuses is logged."""
        try:
            self._append(kind, payload, created_at or _now())
        except OSError as error:
            log.warning(
                "A model call could not be dumped; the turn goes on.",
                path=str(self.path),
                error=str(error),
            )

    def _append(self, kind: Kind, payload: dict[str, Any], created_at: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file:
            start = b""
            if self._lines is None:
                written = file.readall()
                start = b"" if written.endswith(b"\n") or not written else b"\n"
                self._lines = written.count(b"\n") + len(start)
            entry = {
                **self.about,
                "index": self._lines,
                "kind": kind,
                "created_at": created_at,
                "payload": redact(payload, self.find_secrets()),
            }
            file.write(start + json.dump(entry).encode() + b"\n")
            self._lines += 1


@dataclass(frozen=True, slots=True)
class Dumped:
    """A model behind its own seam, whose calls are written down."""

    model: Model
    record: Record

    @property
    def name(self) -> str:
        """`provider/model`."""
        return self.model.name

    @property
    def context_tokens(self) -> int:
        """How many tokens a conversation with it may have."""
        return self.model.context_tokens

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the request; see `Model`."""

        def show(payload: dict[str, Any]) -> None:
            self.record.add("request", payload)
            if request.on_payload is not None:
                request.on_payload(payload)

        pieces = _Pieces(self.record, emit)
        try:
            answer = self.model.stream(
                replace(request, on_payload=show), pieces, interrupt
            )
        except ModelError as error:
            pieces.write()
            self.record.add("error", error.as_json())
            raise
        pieces.write()
        self.record.add("answer", asdict(answer))
        return answer


class _Pieces:
    """Passes deltas on and keeps them until the call is over: who hears them must not
    block. Neighbours of one kind are one entry: a key that a model says in pieces would
    be found in none of them."""

    def __init__(self, record: Record, emit: Callable[[Delta], None]) -> None:
        self._record, self._emit = record, emit
        self._kept: list[tuple[str, list[Delta]]] = []

    def __call__(self, delta: Delta) -> None:
        if not self._kept or _place(self._kept[-1][1][0]) != _place(delta):
            self._kept.append((_now(), []))
        self._kept[-1][1].append(delta)
        self._emit(delta)

    def write(self) -> None:
        """Write down what has come."""
        for at, deltas in self._kept:
            text = "".join(each.text for each in deltas)
            self._record.add("event", asdict(replace(deltas[0], text=text)), at)


def _place(delta: Delta) -> tuple[str, str | None]:
    return delta.kind, delta.tool_call_id


def _now() -> str:
    return str(rfc3339(now_us()))
