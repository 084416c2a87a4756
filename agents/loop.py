"""The agent loop: model, tools, model again, until there is an answer.

A pure function of the conversation: no database, no clock, no network of its own. What
happens is told to a `Journal` before and after, so that a resume is the same call on a
longer conversation: an answer with open calls goes on with the calls, an answer without
is the reply, anything else is a question for the model. Between rounds an `Inbox` says
what has come in; docs/explanation/steering.md tells what becomes of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.calls import answer_calls
from agents.compaction import estimate_all, tokens_in
from agents.hooks import HookFailed, Hooks
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    Usage,
    open_calls,
    with_own_ids,
)
from agents.models.base import CONTEXT_OVERFLOW, ModelError, Request, ToolSpec
from agents.models.catalogue import known
from agents.runtime import Runtime, RuntimeRefused
from agents.thinker import Conversation, Estimate, Limits, Thinker


class LimitReached(Exception):
    """The turn used all that it may."""

    def __init__(self, name: str, value: int, said: str) -> None:
        super().__init__(f"The turn reached its limit of {value} {said}.")
        self.name, self.value = name, value

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        limit = {"name": self.name, "value": self.value}
        return {"type": "limit", "message": str(self), "limit": limit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """How a turn came out: the reply, and what its own answers used."""

    text: str
    usage: Usage
    is_interrupted: bool


def think(thinker: Thinker, past: list[Message], own: list[Message]) -> Thought:
    """Go on from a conversation to the turn's reply; `own` is this turn's part of it.

    Raises ModelError or LimitReached when there can be none, and a TurnControl when the
    turn has to leave: parked, handed over, cancelled, out of time or abandoned.
    """
    conversation = Conversation(past, own)
    while True:
        thinker.stop.check()
        if calls := open_calls(conversation.own):
            conversation.own += answer_calls(thinker, calls, conversation.answers[-1])
        elif thinker.stop.interrupt.is_raised or _was_interrupted(conversation):
            return _thought(conversation, is_interrupted=True)
        elif conversation.reply is None:
            _check(thinker.limits, conversation)
            if conversation.answers:
                conversation.own += thinker.inbox.take()
            _ask(thinker, conversation)
        elif more := thinker.inbox.follow_up():
            conversation.own += more
        else:
            return _thought(conversation, is_interrupted=False)


def _was_interrupted(conversation: Conversation) -> bool:
    reply = conversation.reply
    return reply is not None and reply.stop_reason == "interrupted"


def _thought(conversation: Conversation, *, is_interrupted: bool) -> Thought:
    """What the turn has said: each answer that called nothing, and its last word."""
    answers = conversation.answers
    said = [
        answer.text
        for answer in answers
        if not answer.tool_calls or (is_interrupted and answer is answers[-1])
    ]
    return Thought(
        text="\n\n".join(text for text in said if text),
        usage=sum((answer.usage for answer in answers), Usage()),
        is_interrupted=is_interrupted,
    )


def _check(limits: Limits, conversation: Conversation) -> None:
    answers = conversation.answers
    if len(answers) >= limits.rounds:
        raise LimitReached("rounds", limits.rounds, "model calls without an answer")
    said = sum(answer.usage.output_tokens for answer in answers)
    if limits.output_tokens is not None and said >= limits.output_tokens:
        raise LimitReached("output_tokens", limits.output_tokens, "tokens of output")


def _ask(thinker: Thinker, conversation: Conversation) -> None:
    """Ask the model; once more, with less, if it refused so long a conversation."""
    thinker.context.before_call(conversation)
    thinker.inbox.is_urgent()  # raises an interrupt that came while room was made
    if thinker.stop.interrupt.is_raised:
        return  # the loop's next look ends the turn
    try:
        answer = _answer(thinker, conversation)
    except ModelError as error:
        is_too_long = error.kind == CONTEXT_OVERFLOW
        if not is_too_long or not thinker.context.after_overflow(conversation):
            raise
        answer = _answer(thinker, conversation)
    conversation.own.append(AssistantMessage(answer=answer))


def _answer(thinker: Thinker, conversation: Conversation) -> Answer:
    prompt = thinker.prompt()
    system, tools = prompt.system, prompt.tools
    shown = thinker.hooks.context_of([*conversation.past, *conversation.own])
    name = thinker.model.name
    started = thinker.journal.start_answer(
        name, conversation.heard, _estimate(name, system, shown, tools)
    )
    request = Request(
        system=system,
        messages=shown,
        tools=tools,
        attempt=started.attempt,
        thinking=thinker.thinking,
        max_output_tokens=started.max_output_tokens,
        cache_key=thinker.agent_id,
        image_bytes=_find_image(thinker.runtime),
        on_payload=_show_payload(thinker.hooks),
    )
    try:
        answer = thinker.model.stream(
            request,
            lambda delta: thinker.journal.delta(started.number, delta),
            thinker.stop.interrupt,
        )
    except ModelError as error:
        thinker.journal.fail_answer(started.number, error)
        raise
    thinker.stop.check()
    told = [*conversation.past, *conversation.own]
    answer = with_own_ids(answer, told, started.number)
    effects: dict[str, str] = {
        call.id: thinker.tools.effect_of(call.name) for call in answer.tool_calls
    }
    thinker.journal.finish_answer(started.number, answer, effects)
    return answer


def _estimate(
    name: str, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> Estimate:
    """Of several models (with a comma between) the one that says most counts."""
    told = json.dumps([(t.name, t.description, t.parameters) for t in tools])
    return Estimate(
        input_tokens=tokens_in(len(system) + len(told)) + estimate_all(messages),
        output_tokens=max(known(each).output_tokens for each in name.split(",")),
    )


def _show_payload(hooks: Hooks) -> Callable[[dict[str, Any]], None] | None:
    """A hook that fails is a model call that failed: it is written down as one."""
    if not hooks.on_payload:
        return None

    def show(payload: dict[str, Any]) -> None:
        try:
            hooks.show(payload)
        except HookFailed as failed:
            said = failed.as_json()
            raise ModelError(
                said["message"], kind=said["type"], is_retriable=False
            ) from failed

    return show


def _find_image(runtime: Runtime) -> Callable[[str], bytes]:
    def find(handle: str) -> bytes:
        try:
            return runtime.artifact_bytes(handle)
        except RuntimeRefused as error:
            raise LookupError(handle) from error

    return find
