"""The `demo` model: rules instead of a network, so that Roost works with no key.

It is a real provider behind the same seam: it streams token by token, calls the real
tools and reads their real results. Its first reply to an agent says what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents import summaries
from agents.control import Interrupt
from agents.messages import (
    INTERRUPTED,
    SKIPPED,
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from agents.models.base import Delta, ModelError, Request
from agents.transcript import COMPACTED

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

# A call that was not made at all has yet to be made.
NOT_MADE: Final = (SKIPPED, INTERRUPTED)
# How the runtime tells that a task in the background is over.
_NEWS: Final = re.compile(r"Task [a-z0-9-]+: (completed|failed)")
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
    context_tokens = 200_000

    def __init__(self, token_seconds: float = TOKEN_SECONDS) -> None:
        self._token_seconds = token_seconds

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer each message that came since the last reply, in their order."""
        if request.system == summaries.SYSTEM:
            raise ModelError(
                "The demo model has no rule for summaries.",
                kind="unsupported",
                is_retriable=False,
            )
        span = _since_last_reply(request.messages)
        asked = [each for each in span if isinstance(each, UserMessage)]
        made = _Calls(span)
        wanted = [_next_call(_text_of(each), made) for each in asked]
        if calls := [rule for rule in wanted if rule is not None]:
            return _call(calls, request, emit)
        is_slow = [_text_of(each).strip().lower() for each in asked] == ["slow"]
        words = "\n\n".join(_words(_text_of(each), made) for each in asked)
        pause = SLOW_SECONDS / SLOW_WORDS if is_slow else self._token_seconds
        return _say(_introduced(words, request), pause, request, emit, interrupt)


class _Calls:
    """The calls since the last reply, and what each came to."""

    def __init__(self, span: Sequence[Message]) -> None:
        results = {m.call_id: m.result for m in span if isinstance(m, ToolMessage)}
        self._made = [
            (call, _outcome(results[call.id]))
            for message in span
            if isinstance(message, AssistantMessage)
            for call in message.answer.tool_calls
            if call.id in results and results[call.id].text not in NOT_MADE
        ]

    def find(self, rule: Rule) -> dict[str, Any] | None:
        """Return what the newest call by this rule came to."""
        found = None
        for call, outcome in self._made:
            if call.name == rule.tool and call.arguments == rule.arguments:
                found = outcome
        return found

    def end_of(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Return what came of it later, if it was waited for again."""
        for call, later in self._made:
            waited_for = (call.arguments or {}).get("task_id")
            if call.name == "await_task" and waited_for == outcome.get("task_id"):
                outcome = later
        return outcome


def _next_call(text: str, made: _Calls) -> Rule | None:
    """Return the call that a message still needs, if it needs one."""
    rule = _rule_for(text)
    if rule is None:
        return None
    outcome = made.find(rule)
    if outcome is None:
        return rule
    outcome = made.end_of(outcome)
    if outcome.get("pending") and outcome.get("wake_event_id"):
        return _await_rule(outcome["task_id"])
    return None


def _words(text: str, made: _Calls) -> str:
    rule = _rule_for(text)
    if rule is not None and (outcome := made.find(rule)) is not None:
        return rule.tell(made.end_of(outcome))
    if text.strip().lower() == "slow":
        return _slow_words()
    return text if _NEWS.match(text) else HELP


def _since_last_reply(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    start = 0
    for index, message in enumerate(messages):
        if _is_reply(message) or _is_summary(message):
            start = index + 1
    return messages[start:]


def _is_reply(message: Message) -> bool:
    return isinstance(message, AssistantMessage) and not message.answer.tool_calls


def _is_summary(message: Message) -> bool:
    if not isinstance(message, UserMessage):
        return False
    return _text_of(message).startswith(COMPACTED)


def _text_of(message: UserMessage) -> str:
    """What woke the agent: the first block; what came without hurry follows it."""
    texts = [block["text"] for block in message.content if block["type"] == "text"]
    return texts[0] if texts else ""


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
    """A message ended our wait; what we waited for goes on."""
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
    if outcome.get("pending"):
        return f"Task {outcome.get('task_id')} is still {outcome.get('status')}."
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


def _call(
    rules: Sequence[Rule], request: Request, emit: Callable[[Delta], None]
) -> Answer:
    calls = []
    for index, rule in enumerate(rules):
        id, raw = f"call_{len(request.messages)}_{index}", json.dumps(rule.arguments)
        emit(Delta(kind="tool_call", text=raw, tool_call_id=id, tool_name=rule.tool))
        calls.append(
            ToolCall(id=id, name=rule.tool, arguments=rule.arguments, raw_arguments=raw)
        )
    said = " ".join(call.raw_arguments for call in calls)
    usage = _usage(request, said)
    return Answer(tool_calls=tuple(calls), stop_reason="tool_use", usage=usage)


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


def _outcome(result: ToolResult) -> dict[str, Any]:
    try:
        outcome = json.loads(result.text)
    except ValueError:
        outcome = result.text
    if isinstance(outcome, dict):
        return outcome
    return {"status": "failed", "error": {"message": result.text}}
