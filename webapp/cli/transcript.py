"""Events as a person reads them: tokens as they come, everything else line by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import click

from webapp.cli.follow import Event, turn_of
from webapp.cli.output import on_terminal, safe

# What a conversation is made of; the rest is for those who watch.
TALK: Final = frozenset(
    {
        "message_start",
        "message_update",
        "message_end",
        "tool_execution_start",
        "tool_execution_update",
        "tool_execution_end",
    }
)
# What another line tells already: a turn frames itself, and a tool's end is its task's.
TOLD_TWICE: Final = frozenset(
    {
        "agent_run_start",
        "agent_run_complete",
        "agent_run_error",
        "command",
        "task_update",
    }
)
ARGUMENT_CHARACTERS: Final = 160  # about two lines of a terminal


class Transcript:
    """Writes events to stdout; keeps track of whether a line is still open.

    With `talk_only`, only what agents say and do is shown, without times and names.
    """

    def __init__(self, *, talk_only: bool = False) -> None:
        self._talk_only = talk_only
        self._speaker: str | None = None  # whose line is open
        self._streamed = False  # whether the message at hand came in pieces
        self._views: dict[str, Callable[[Event], None]] = {
            "message_start": self._message_start,
            "message_update": self._message_update,
            "message_end": self._message_end,
            "tool_execution_start": self._tool_start,
            "tool_execution_update": self._tool_update,
            "tool_execution_end": self._tool_end,
        }

    def show(self, event: Event) -> None:
        """Write one event."""
        if event["kind"] in TOLD_TWICE or (self._talk_only and not _is_talk(event)):
            return
        self._views.get(event["kind"], self._other)(event)

    def close(self) -> None:
        """End the line that is open, if one is."""
        if self._speaker is not None:
            click.echo()
        self._speaker = None

    def _message_start(self, _event: Event) -> None:
        self.close()
        self._streamed = False

    def _message_update(self, event: Event) -> None:
        payload = _payload(event)
        text, part = payload.get("text") or "", payload.get("kind") or "text"
        if part == "text":
            self._streamed = True
            self._speak(event, text)
        elif part == "reasoning" and not self._talk_only:
            self._speak(event, text, part)

    def _message_end(self, event: Event) -> None:
        if not self._streamed and (text := _payload(event).get("text")):
            self._speak(event, text)
        self.close()
        self._streamed = False

    def _tool_start(self, event: Event) -> None:
        payload = _payload(event)
        arguments = json.dumps(payload.get("arguments"), ensure_ascii=False)
        self._line(event, "cyan", f"{payload.get('tool_name')} {_short(arguments)}")

    def _tool_update(self, event: Event) -> None:
        self._line(event, "bright_black", _payload(event).get("text") or "")

    def _tool_end(self, event: Event) -> None:
        payload = _payload(event)
        colour, verdict = (
            ("red", "error") if payload.get("is_error") else ("green", "ok")
        )
        text = f"{payload.get('tool_name') or ''} {verdict} {payload.get('text') or ''}"
        self._line(event, colour, text.strip())

    def _other(self, event: Event) -> None:
        said = event.get("body") or turn_of(event) or event.get("subject")
        parts = (said, _payload(event).get("status"), _error(event))
        text = " ".join(str(part) for part in parts if part)
        colour = "red" if _error(event) else "bright_black"
        self._line(event, "yellow" if event["kind"] == "message" else colour, text)

    def _speak(self, event: Event, text: str, what: str = "message") -> None:
        speaker = f"{event.get('scope')} {turn_of(event)} {what}"
        if self._speaker != speaker:
            self.close()
            click.echo(self._head(event, what), nl=False)
        self._speaker = speaker
        click.echo(safe(text), nl=False)

    def _line(self, event: Event, colour: str, text: str) -> None:
        self.close()
        click.echo(
            self._head(event, event["kind"]) + click.style(safe(text), fg=colour)
        )

    def _head(self, event: Event, what: str) -> str:
        if self._talk_only:
            return ""
        who = str(event.get("scope") or NO_SCOPE).removeprefix("agent/")
        time = click.style(_clock(event.get("created_at")), dim=True)
        return f"{time} {click.style(safe(who), bold=True)} {safe(what)} "


NO_SCOPE: Final = "global"


def _is_talk(event: Event) -> bool:
    # Why a turn failed is said once, at its end.
    ended_badly = event["kind"] == "turn_end" and _error(event) is not None
    return event["kind"] in TALK or ended_badly


def _payload(event: Event) -> dict[str, Any]:
    payload = event.get("payload")
    return payload if isinstance(payload, dict) else {}


def _error(event: Event) -> str | None:
    error = _payload(event).get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return str(said) if said else None


def _short(text: str) -> str:
    if on_terminal() and len(text) > ARGUMENT_CHARACTERS:
        return text[: ARGUMENT_CHARACTERS - 1] + "…"
    return text


def _clock(created_at: object) -> str:
    """Return the local time of day on a terminal, the whole instant elsewhere."""
    text = str(created_at or "")
    if not on_terminal():
        return text
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return text
