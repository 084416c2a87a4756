"""The `demo` model: rules instead of a network, so that Roost works with no key.

It is a real provider behind the same seam: it streams token by token, calls the real
tools and reads their real results. Its first reply to an agent says what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from agents.models.base import Delta, Request

TOKEN_SECONDS: Final = 0.02
SLOW_SECONDS: Final = 10.0
SLOW_WORDS: Final = 50
EXEC_WAIT_SECONDS: Final = 60
DELEGATE_WAIT_SECONDS: Final = 120

INTRODUCTION: Final = (
    "(I am Roost's demo model: a few rules, no key, no network. "
    "Set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or ROOST_MODEL "
    "for a real one.)"
)
HELP: Final = (
    "I can: compute an expression such as `17 * 23 + 4`; run a fenced ```ts block "
    "in the sandbox (it sets globalThis.result); `wait 5` (sleeps in a sandbox); "
    "`fail` (runs code that throws); `slow` (streams for ten seconds, so that you can "
    "interrupt me); `spawn NAME: TEXT` (asks another agent and reports its answer)."
)

_FENCE: Final = re.compile(r"```(?:ts|typescript)[^\n]*\n(.*?)```", re.DOTALL)
_EXPRESSION: Final = re.compile(r"[\d(][\d\s.+\-*/%^()]*[\d)]")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_OPERATOR: Final = re.compile(r"\d\)*\s*[-+*/%^]")
_WAIT: Final = re.compile(r"\s*wait\s+(\d+(?:\.\d+)?)\s*(?:s|seconds?)?\s*", re.I)
_SPAWN: Final = re.compile(r"\s*spawn\s+([a-z][a-z0-9-]*)\s*:\s*(.+)", re.I | re.DOTALL)
_TOKEN: Final = re.compile(r"\s*\S+\s*$|\s*\S+")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a message asks for: the tool call it needs, and how to tell its result."""

    tool: str
    arguments: dict[str, Any]
    tell: Callable[[dict[str, Any]], str]


class DemoModel:
    """Answers by rule; see the module."""

    name = "demo"

    def __init__(self, token_seconds: float = TOKEN_SECONDS) -> None:
        self._token_seconds = token_seconds

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the last message, or tell what the tool it called came to."""
        text = _last_user_text(request.messages)
        is_slow = text.strip().lower() == "slow"
        rule = _rule_for(text)
        result = _last_result(request.messages)
        if rule is not None and result is None:
            return _call(rule, request, emit)
        if result is not None and result.get("pending") and result.get("wake_event_id"):
            return _call(_await_rule(result["task_id"]), request, emit)
        if rule is not None and result is not None:
            words = rule.tell(result)
        else:
            words = _slow_words() if is_slow else HELP
        pause = SLOW_SECONDS / SLOW_WORDS if is_slow else self._token_seconds
        return _say(_introduced(words, request), pause, request, emit, interrupt)


def _rule_for(text: str) -> Rule | None:
    if fence := _FENCE.search(text):
        return Rule("exec", _exec(fence[1]), _tell_result)
    if wait := _WAIT.fullmatch(text):
        return _wait_rule(float(wait[1]))
    if spawn := _SPAWN.fullmatch(text):
        return _spawn_rule(spawn[1].lower(), spawn[2].strip())
    if text.strip().lower() == "fail":
        code = 'throw new Error("this failed because you asked for it");'
        return Rule("exec", _exec(code), _tell_result)
    if expression := _find_expression(text):
        return _arithmetic_rule(expression)
    return None


def _find_expression(text: str) -> str | None:
    found = _EXPRESSION.search(_DATE.sub("", text))
    if found is None or not _OPERATOR.search(found[0]) or len(text) > 500:
        return None
    return found[0].strip()


def _arithmetic_rule(expression: str) -> Rule:
    code = f"globalThis.result = {expression.replace('^', '**')};"

    def tell(outcome: dict[str, Any]) -> str:
        if outcome.get("status") != "completed":
            return _tell_result(outcome)
        return f"{expression} = {_plain(outcome.get('result'))}"

    return Rule("exec", _exec(code), tell)


def _wait_rule(seconds: float) -> Rule:
    code = (
        f"await Bun.sleep({seconds * 1000:.0f});\n"
        f'globalThis.result = "waited {seconds:g} s";'
    )
    return Rule("exec", _exec(code, wait_seconds=seconds + 30), _tell_result)


def _await_rule(task_id: str) -> Rule:
    """A message woke us while we waited; it has its own turn after this one."""
    arguments = {"task_id": task_id, "wait_seconds": EXEC_WAIT_SECONDS}
    return Rule("await_task", arguments, _tell_result)


def _spawn_rule(name: str, text: str) -> Rule:
    arguments = {
        "agent_id": name,
        "text": text,
        "wait_seconds": DELEGATE_WAIT_SECONDS,
    }

    def tell(outcome: dict[str, Any]) -> str:
        if outcome.get("status") != "completed":
            return f"{name} has not answered: {_trouble(outcome)}"
        return f"{name} says: {outcome['result']['text']}"

    return Rule("delegate", arguments, tell)


def _exec(code: str, wait_seconds: float = EXEC_WAIT_SECONDS) -> dict[str, Any]:
    return {"code": code, "wait_seconds": wait_seconds}


def _tell_result(outcome: dict[str, Any]) -> str:
    if outcome.get("status") != "completed":
        return f"The code failed: {_trouble(outcome)}"
    return f"The result is {_plain(outcome.get('result'))}"


def _trouble(outcome: dict[str, Any]) -> str:
    error = outcome.get("error") or {}
    if isinstance(error, str):
        return error
    return str(error.get("message") or f"it is still {outcome.get('status')}")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _slow_words() -> str:
    return " ".join(f"word-{n}" for n in range(1, SLOW_WORDS + 1))


def _introduced(words: str, request: Request) -> str:
    has_spoken = any(
        isinstance(message, AssistantMessage) and message.answer.text
        for message in request.messages
    )
    return words if has_spoken else f"{words}\n\n{INTRODUCTION}"


def _call(rule: Rule, request: Request, emit: Callable[[Delta], None]) -> Answer:
    call_id = f"call_{len(request.messages)}"
    raw = json.dumps(rule.arguments)
    emit(Delta(kind="tool_call", text=raw, tool_call_id=call_id, tool_name=rule.tool))
    call = ToolCall(
        id=call_id, name=rule.tool, arguments=rule.arguments, raw_arguments=raw
    )
    return Answer(
        tool_calls=(call,), stop_reason="tool_use", usage=_usage(request, raw)
    )


def _say(
    words: str,
    pause: float,
    request: Request,
    emit: Callable[[Delta], None],
    interrupt: Interrupt,
) -> Answer:
    said = ""
    for token in _tokens(words):
        if interrupt.wait(pause):
            usage = _usage(request, said)
            return Answer(text=said, stop_reason="interrupted", usage=usage)
        said += token
        emit(Delta(kind="text", text=token))
    return Answer(text=said, usage=_usage(request, said))


def _tokens(words: str) -> Iterator[str]:
    return (match[0] for match in _TOKEN.finditer(words))


def _usage(request: Request, said: str) -> Usage:
    """Count words for tokens: there is no tokenizer, and nobody pays."""
    asked = sum(
        len(message.text.split())
        for message in request.messages
        if isinstance(message, UserMessage)
    )
    return Usage(input_tokens=asked, output_tokens=len(said.split()))


def _last_user_text(messages: tuple[Message, ...]) -> str:
    """What woke the agent: the first block; what came without hurry follows it."""
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            texts = [b["text"] for b in message.content if b["type"] == "text"]
            return texts[0] if texts else ""
    return ""


def _last_result(messages: tuple[Message, ...]) -> dict[str, Any] | None:
    last = messages[-1] if messages else None
    if not isinstance(last, ToolMessage):
        return None
    try:
        outcome = json.loads(last.result.text)
    except ValueError:
        outcome = last.result.text
    if isinstance(outcome, dict):
        return outcome
    return {"status": "failed", "error": {"message": last.result.text}}
