"""The `scripted/FILE` model: a JSON list of responses, replayed.

A response may have `text`, `reasoning`, `tool_calls` (`{name, arguments}` or
`{name, raw_arguments}`), `usage`, `stop_reason`, `delay_seconds` (before the first
token), `token_seconds` (between tokens), `error` (`{status, message, kind,
retry_after_seconds}`; the kind `context_overflow` says that the conversation is too
long, as a provider would) and `cut_after_tokens` (the connection breaks there).

With `when` (`{"contains": …}` or `{"matches": regex}` on the last input: the newest
user message, with or without its frame, or tool result) a response is a rule, used as
often as it fits. Responses without `when` come in order: the n-th answer of a
conversation takes the n-th of them. The position is counted from the conversation
itself, so it survives any crash and needs no state; a response that is an error is
taken by one failed attempt.

A call that nothing fits is an error, and so is a response that nothing took: see
`unconsumed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from agents.models.base import Delta, ModelError, Request
from agents.models.provider import RETRY_AFTER_LIMIT_SECONDS

FIELDS: Final = frozenset(
    [
        "text",
        "reasoning",
        "tool_calls",
        "usage",
        "stop_reason",
        "delay_seconds",
        "token_seconds",
        "error",
        "cut_after_tokens",
        "when",
    ]
)
_RETRIABLE: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_TOKEN: Final = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")

Response = dict[str, Any]


class ScriptError(ModelError):
    """The script and the conversation do not fit."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="script", is_retriable=False)


class ScriptedModel:
    """Replays responses; see the module."""

    context_tokens = 200_000

    def __init__(self, responses: Sequence[Response], name: str = "scripted") -> None:
        refuse_unknown_fields(responses, FIELDS, name)
        self.name = name
        self._rules = [r for r in responses if "when" in r]
        self._line = [r for r in responses if "when" not in r]

    @classmethod
    def from_file(cls, path: Path) -> ScriptedModel:
        """Read a script; raise ScriptError when it cannot be used."""
        responses = read_script(path)
        if not isinstance(responses, list):
            raise ScriptError(f"The script {path} must be a JSON list of responses.")
        return cls(responses, name=f"scripted/{path}")

    def unconsumed(self, answers: int) -> list[Response]:
        """Return the responses in line that a conversation of so many answers left."""
        return self._line[_position(self._line, answers) :]

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Replay the response that fits."""
        response = self._choose(request)
        if interrupt.wait(response.get("delay_seconds", 0)):
            return Answer(stop_reason="interrupted")
        if error := response.get("error"):
            raise _as_error(error)
        return play(response, request, emit, interrupt)

    def _choose(self, request: Request) -> Response:
        last_inputs = _last_inputs(request.messages)
        for rule in self._rules:
            if any(_fits(rule["when"], each) for each in last_inputs):
                return rule
        answers = answers_in(request.messages)
        start = _position(self._line, answers)
        for attempt, response in enumerate(self._line[start:], start=1):
            if not _breaks(response) or attempt >= request.attempt:
                return response
        raise ScriptError(
            f"{self.name}: unexpected call {answers + 1}; the script has "
            f"{len(self._line)} responses in line and no rule fits "
            f"{last_inputs[0][:80]!r}."
        )


def read_script(path: Path) -> Any:
    """Read JSON from a file; raise ScriptError when there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ScriptError(f"The script {path} cannot be read: {error}") from error


def refuse_unknown_fields(
    responses: Sequence[Response], known: frozenset[str], name: str
) -> None:
    """Raise ScriptError for a field that would do nothing."""
    for response in responses:
        if unknown := set(response) - known:
            raise ScriptError(
                f"{name}: unknown field {sorted(unknown)[0]!r}; "
                f"a response may have {', '.join(sorted(known))}."
            )


def answers_in(messages: Sequence[Message]) -> int:
    """Count the answers of a conversation."""
    return sum(isinstance(message, AssistantMessage) for message in messages)


def play(
    response: Response,
    request: Request,
    emit: Callable[[Delta], None],
    interrupt: Interrupt,
) -> Answer:
    """Stream a response word by word; return it as an answer."""
    said = ""
    if reasoning := response.get("reasoning"):
        emit(Delta(kind="reasoning", text=reasoning))
    tokens = [match[0] for match in _TOKEN.finditer(response.get("text", ""))]
    for count, token in enumerate(tokens):
        if count == response.get("cut_after_tokens"):
            break
        if interrupt.wait(response.get("token_seconds", 0)):
            return Answer(text=said, stop_reason="interrupted")
        said += token
        emit(Delta(kind="text", text=token))
    if "cut_after_tokens" in response:
        raise ModelError(
            "The connection broke in mid-stream.", kind="cut", is_retriable=True
        )
    calls = _tool_calls(response, request, emit)
    return Answer(
        text=said,
        reasoning=response.get("reasoning", ""),
        tool_calls=calls,
        stop_reason=response.get("stop_reason", "tool_use" if calls else "end"),
        usage=Usage(**response.get("usage", {})),
    )


def _breaks(response: Response) -> bool:
    return "error" in response or "cut_after_tokens" in response


def _position(line: Sequence[Response], answers: int) -> int:
    """Where a conversation stands after so many answers."""
    if answers == 0:
        return 0
    whole = [index for index, response in enumerate(line) if not _breaks(response)]
    return whole[answers - 1] + 1 if answers <= len(whole) else len(line)


def _last_inputs(messages: Sequence[Message]) -> tuple[str, ...]:
    """The newest input: as it was sent, and as it stands in its frame."""
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return (message.text, message.framed or "")
        if isinstance(message, ToolMessage):
            return (message.result.text,)
    return ("",)


def _fits(when: dict[str, str], last_input: str) -> bool:
    if "contains" in when and when["contains"] not in last_input:
        return False
    return "matches" not in when or bool(re.search(when["matches"], last_input))


def _as_error(error: dict[str, Any]) -> ModelError:
    status = int(error.get("status", 500))
    after = error.get("retry_after_seconds")
    return ModelError(
        error.get("message", f"scripted error {status}"),
        kind=error.get("kind", f"http_{status}"),
        is_retriable=status in _RETRIABLE and (after or 0) <= RETRY_AFTER_LIMIT_SECONDS,
        retry_after_seconds=after,
    )


def _tool_calls(
    response: Response, request: Request, emit: Callable[[Delta], None]
) -> tuple[ToolCall, ...]:
    calls = []
    for index, call in enumerate(response.get("tool_calls", ())):
        arguments = call.get("arguments")
        raw = call.get("raw_arguments", json.dumps(arguments))
        id = call.get("id", f"call_{len(request.messages)}_{index}")
        emit(Delta(kind="tool_call", text=raw, tool_call_id=id, tool_name=call["name"]))
        calls.append(
            ToolCall(id=id, name=call["name"], arguments=arguments, raw_arguments=raw)
        )
    return tuple(calls)
