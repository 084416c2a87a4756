"""The `replay/FILE` model: the answers of a recorded turn, in order, as it had them.

FILE is a cassette (`roost record TURN`). Only the model is replayed: the tools are
called again, and what they return may differ. Everything else has to be as it was: each
answer comes after as many messages as in the record, and after one result for each call
of the answer before. A conversation that departs from the record fails the turn.

As with a script, the place in the record is the number of answers in the conversation,
so it survives any crash, and a conversation begins with the record's first message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agents.control import Interrupt
from agents.messages import Answer, AssistantMessage, Message, ToolMessage, UserMessage
from agents.models.base import Delta, Request
from agents.models.scripted import (
    Response,
    ScriptError,
    answers_in,
    play,
    read_script,
    refuse_unknown_fields,
)

FIELDS: Final = frozenset(
    ["inputs", "text", "reasoning", "tool_calls", "stop_reason", "usage"]
)


class ReplayModel:
    """Replays a cassette; see the module."""

    context_tokens = 200_000

    def __init__(self, answers: Sequence[Response], name: str = "replay") -> None:
        refuse_unknown_fields(answers, FIELDS, name)
        self.name = name
        self._answers = answers

    @classmethod
    def from_file(cls, path: Path) -> ReplayModel:
        """Read a cassette; raise ScriptError when it cannot be used."""
        cassette = read_script(path)
        answers = cassette.get("answers") if isinstance(cassette, dict) else None
        if not isinstance(answers, list):
            raise ScriptError(
                f"The cassette {path} has no list of `answers`; "
                f"`roost record TURN > {path}` makes one."
            )
        return cls(answers, name=f"replay/{path}")

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Replay the answer that the conversation has come to."""
        return play(self._find(request.messages), request, emit, interrupt)

    def _find(self, messages: Sequence[Message]) -> Response:
        place = answers_in(messages)
        if place >= len(self._answers):
            raise ScriptError(
                f"{self.name}: unexpected call {place + 1}; the record has "
                f"{len(self._answers)} answers."
            )
        answer = self._answers[place]
        last = self._answers[place - 1] if place else {}
        newest = _since_the_last_answer(messages)
        self._compare(place, "messages", UserMessage, newest, answer.get("inputs", ()))
        self._compare(
            place, "tool results", ToolMessage, newest, last.get("tool_calls", ())
        )
        return answer

    def _compare(
        self,
        place: int,
        what: str,
        kind: type[Message],
        newest: Sequence[Message],
        recorded: Sequence[object],
    ) -> None:
        found = sum(isinstance(message, kind) for message in newest)
        if found != len(recorded):
            raise ScriptError(
                f"{self.name}: the conversation departs from the record before answer "
                f"{place + 1}: {found} {what} where it had {len(recorded)}."
            )


def _since_the_last_answer(messages: Sequence[Message]) -> list[Message]:
    newest: list[Message] = []
    for message in reversed(messages):
        if isinstance(message, AssistantMessage):
            break
        newest.append(message)
    return newest
