"""Hooks: pure functions that look at, change or stop what a turn is about to do.

They chain: each gets what the one before it made. `transform_context` and
`convert_to_llm` see the whole conversation before every model call, in that order; what
they leave is made valid again (`agents.messages.mend`), so no hook can make a provider
see a call without its result. `on_payload` sees what is sent to a provider, and changes
nothing. A hook that raises is never skipped, because it may be there to guard
something: the call fails, or the turn does.

Calls of one answer run together, so hooks of tool calls run in several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from agents.messages import Message, ToolCall, ToolResult, mend
from agents.tools.registry import ToolContext

ContextHook = Callable[[Sequence[Message]], Sequence[Message]]
# A ToolResult blocks or replaces the call, a ToolCall rewrites it, None lets it be.
BeforeToolCall = Callable[[ToolCall, ToolContext], ToolCall | ToolResult | None]
# A ToolResult replaces the result, None lets it be.
AfterToolCall = Callable[[ToolCall, ToolResult], ToolResult | None]
# Sees a provider's request body; what it returns counts for nothing.
PayloadHook = Callable[[dict[str, Any]], object]


class HookFailed(Exception):
    """A hook of the context or the payload failed, so the model was not asked."""

    def __init__(self, hook: object, why: str) -> None:
        name = f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__name__', '?')}"
        super().__init__(
            f"The hook {name} failed: {why}. Mend it, restart, then retry the turn."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        return {"type": "hook_failed", "message": str(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Chains of hooks; two sets add up, the left one first."""

    transform_context: tuple[ContextHook, ...] = ()
    convert_to_llm: tuple[ContextHook, ...] = ()
    before_tool_call: tuple[BeforeToolCall, ...] = ()
    after_tool_call: tuple[AfterToolCall, ...] = ()
    on_payload: tuple[PayloadHook, ...] = ()

    def __add__(self, other: Hooks) -> Hooks:
        """Chain another set behind this one."""
        return Hooks(
            transform_context=self.transform_context + other.transform_context,
            convert_to_llm=self.convert_to_llm + other.convert_to_llm,
            before_tool_call=self.before_tool_call + other.before_tool_call,
            after_tool_call=self.after_tool_call + other.after_tool_call,
            on_payload=self.on_payload + other.on_payload,
        )

    def context_of(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return what the model is to be shown of a conversation.

        Raises HookFailed when a hook raises, or returns what is no conversation.
        """
        chain = (*self.transform_context, *self.convert_to_llm)
        if not chain:
            return tuple(messages)
        for hook in chain:
            messages = _shown(hook, messages)
        return tuple(mend(messages))

    def show(self, payload: dict[str, Any]) -> None:
        """Show each hook a copy of what is sent to a provider.

        Raises HookFailed when one raises: then nothing is sent.
        """
        for hook in self.on_payload:
            try:
                hook(deepcopy(payload))
            except Exception as error:
                raise HookFailed(hook, f"{type(error).__name__}: {error}") from error

    def before(self, call: ToolCall, context: ToolContext) -> ToolCall | ToolResult:
        """Return the call as it is to be made, or the result that stands for it.

        A hook that raises stops the call: it may have been there to guard it.
        """
        for hook in self.before_tool_call:
            try:
                found = hook(call, context)
            except Exception as error:  # noqa: BLE001 (foreign code; the call is blocked)
                return _refused("before", call, error)
            if isinstance(found, ToolResult):
                return found
            if not isinstance(found, ToolCall | None):
                return _refused("before", call, _wrong(found, "ToolCall"))
            call = found or call
        return call

    def after(self, call: ToolCall, result: ToolResult) -> ToolResult:
        """Return the result as it is to be kept; a hook that raises makes it fail."""
        for hook in self.after_tool_call:
            try:
                found = hook(call, result)
            except Exception as error:  # noqa: BLE001 (foreign code; the model is told)
                return _refused("after", call, error)
            if not isinstance(found, ToolResult | None):
                return _refused("after", call, _wrong(found, "ToolResult"))
            result = found or result
        return result


def _shown(hook: ContextHook, messages: Sequence[Message]) -> Sequence[Message]:
    try:
        found = tuple(hook(messages))
    except Exception as error:
        raise HookFailed(hook, f"{type(error).__name__}: {error}") from error
    for each in found:
        if not isinstance(each, Message):
            raise HookFailed(hook, str(_wrong(each, "Message")))
    return found


def _wrong(found: object, wanted: str) -> TypeError:
    return TypeError(f"it returned {found!r:.80}, which is no {wanted}")


def _refused(when: str, call: ToolCall, error: Exception) -> ToolResult:
    said = f"A hook {when} {call.name} failed: {type(error).__name__}: {error}"
    return ToolResult(text=said, status="failed")
