"""Hooks: they chain, block and rewrite, and no cut of theirs breaks a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.hooks import HookFailed, Hooks
from agents.loop import think
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    close_abandoned_calls,
    mend,
)
from agents.models import ModelError
from agents.models.scripted import ScriptedModel
from agents.tools.registry import ToolContext, tool


@tool(effect="pure")
def double(context: ToolContext, n: int) -> ToolResult:
    """Double a number."""
    return ToolResult(text=str(2 * n))


def says(text: str) -> list[Message]:
    return [UserMessage(content=[{"type": "text", "text": text}])]


CALL: dict[str, Any] = {"tool_calls": [{"name": "double", "arguments": {"n": 2}}]}


def result_of(thinker: Any, hooks: Hooks) -> ToolResult:
    own = says("go")
    think(thinker([CALL, {"text": "ok"}], double, hooks=hooks), [], own)
    (message,) = [each for each in own if isinstance(each, ToolMessage)]
    return message.result


@pytest.mark.line("P32")
def test_a_hook_before_a_call_may_block_it_with_a_reason(thinker) -> None:
    hooks = Hooks(
        before_tool_call=(
            lambda call, context: ToolResult(text="not on Sundays", status="failed"),
        )
    )
    assert result_of(thinker, hooks).text == "not on Sundays"


@pytest.mark.line("P32")
def test_a_hook_before_a_call_may_rewrite_it(thinker) -> None:
    def rewrite(call: ToolCall, context: ToolContext) -> ToolCall:
        return ToolCall(id=call.id, name=call.name, arguments={"n": 21})

    assert result_of(thinker, Hooks(before_tool_call=(rewrite,))).text == "42"


@pytest.mark.line("P4", "P32")
def test_a_call_that_a_hook_rewrote_is_checked_like_any_other(thinker) -> None:
    def rewrite(call: ToolCall, context: ToolContext) -> ToolCall:
        return ToolCall(id=call.id, name=call.name, arguments={"n": "many"})

    result = result_of(thinker, Hooks(before_tool_call=(rewrite,)))
    assert (result.status, "n:" in result.text) == ("failed", True)


@pytest.mark.line("P32")
def test_a_hook_after_a_call_may_replace_its_result(thinker) -> None:
    hooks = Hooks(
        after_tool_call=(lambda call, result: ToolResult(text=f"<{result.text}>"),)
    )
    assert result_of(thinker, hooks + hooks).text == "<<4>>"


@pytest.mark.parametrize("which", ["before_tool_call", "after_tool_call"])
def test_a_hook_that_throws_makes_the_call_fail_and_says_so(thinker, which) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("nothing there")

    result = result_of(thinker, Hooks(**{which: (broken,)}))
    assert (result.status, "KeyError" in result.text) == ("failed", True)


@pytest.mark.parametrize("which", ["before_tool_call", "after_tool_call"])
def test_a_hook_that_returns_what_it_may_not_makes_the_call_fail(
    thinker, which
) -> None:
    result = result_of(thinker, Hooks(**{which: (lambda *_: True,)}))
    assert (result.status, "it returned True" in result.text) == ("failed", True)


def test_a_call_rewritten_into_one_that_happens_once_is_not_repeated(
    thinker, journal
) -> None:
    made: list[str] = []

    @tool(effect="at_most_once")
    def launch(context: ToolContext) -> ToolResult:
        """Launch."""
        made.append(context.key)
        return ToolResult(text="launched")

    def rewrite(call: ToolCall, context: ToolContext) -> ToolCall:
        return ToolCall(id=call.id, name="launch", arguments={})

    own = says("go")
    journal.started.add("call_1_0")
    hooks = Hooks(before_tool_call=(rewrite,))
    think(thinker([CALL, {"text": "ok"}], double, launch, hooks=hooks), [], own)
    (message,) = [each for each in own if isinstance(each, ToolMessage)]
    assert (message.result.status, made) == ("uncertain", [])


def _nothing(messages: Sequence[Message]) -> Any:
    return None


def _text(messages: Sequence[Message]) -> Any:
    return ["no message"]


def _throws(messages: Sequence[Message]) -> Any:
    raise KeyError("nothing there")


@pytest.mark.parametrize(
    ("hook", "why"),
    [(_nothing, "TypeError"), (_text, "no Message"), (_throws, "KeyError")],
)
def test_a_context_hook_that_fails_is_named_and_the_model_is_not_asked(
    thinker, journal, hook: Any, why: str
) -> None:
    hooks = Hooks(transform_context=(hook,))
    with pytest.raises(HookFailed, match=rf"{hook.__name__} failed: .*{why}"):
        think(thinker([{"text": "never"}], hooks=hooks), [], says("go"))
    assert journal.told == []


@pytest.mark.line("P8", "P35")
def test_context_hooks_chain_in_their_order_and_change_no_history(thinker) -> None:
    seen: list[list[str]] = []

    def only_last(messages: Sequence[Message]) -> Sequence[Message]:
        return messages[-1:]

    def note(messages: Sequence[Message]) -> Sequence[Message]:
        seen.append([m.text for m in messages if isinstance(m, UserMessage)])
        return messages

    hooks = Hooks(transform_context=(only_last,), convert_to_llm=(note,))
    own = says("now")
    think(thinker([{"text": "ok"}, {"text": "ok"}], hooks=hooks), says("before"), own)
    assert seen == [["now"]]
    assert len(own) == 2


@pytest.mark.line("P8")
def test_a_window_that_cuts_between_a_call_and_its_result_leaves_no_orphan() -> None:
    call = ToolCall(id="1", name="double", arguments={"n": 2})
    said: list[Message] = [
        *says("go"),
        AssistantMessage(answer=Answer(tool_calls=(call,), stop_reason="tool_use")),
        ToolMessage(call_id="1", name="double", result=ToolResult(text="4")),
        *says("and now?"),
    ]
    hooks = Hooks(transform_context=(lambda messages: messages[-2:],))
    assert hooks.context_of(said) == tuple(says("and now?"))


messages = st.lists(
    st.one_of(
        st.just("user"),
        st.lists(st.sampled_from("abc"), max_size=3, unique=True),
        st.sampled_from("abc"),
    ),
    max_size=12,
)


@pytest.mark.line("P8", "P35")
@given(messages)
def test_whatever_a_hook_leaves_becomes_valid(shape: list[Any]) -> None:
    said: list[Message] = []
    for each in shape:
        if each == "user":
            said += says("hello")
        elif isinstance(each, str):
            result = ToolResult(text="4")
            said.append(ToolMessage(call_id=each, name="double", result=result))
        else:
            calls = tuple(ToolCall(id=id, name="double", arguments={}) for id in each)
            said.append(AssistantMessage(answer=Answer(tool_calls=calls)))
    mended = mend(said)
    assert close_abandoned_calls(mended) == mended
    open_ids: set[str] = set()
    for message in mended:
        if isinstance(message, ToolMessage):
            assert message.call_id in open_ids
            open_ids.discard(message.call_id)
        else:
            assert not open_ids
            if isinstance(message, AssistantMessage):
                open_ids = {call.id for call in message.answer.tool_calls}
    assert not open_ids


class Wired:
    """A scripted model that sends something, as adapters do."""

    name, context_tokens = "acme/model", 100_000

    def __init__(self, *responses: dict[str, Any]) -> None:
        self.model, self.sent = ScriptedModel(responses), []

    def stream(self, request: Any, *more: Any) -> Answer:
        payload = {"model": "model", "messages": [len(request.messages)]}
        request.show(payload)
        self.sent.append(payload)
        return self.model.stream(request, *more)


@pytest.mark.line("P39")
def test_a_hook_sees_each_payload_before_it_is_sent_and_cannot_change_it(
    thinker,
) -> None:
    model, seen = Wired(CALL, {"text": "ok"}), []

    def spoil(payload: dict[str, Any]) -> None:
        seen.append((len(model.sent), payload["messages"][0]))
        payload["messages"].append("more")
        payload.clear()

    hooks = Hooks(on_payload=(spoil,)) + Hooks(on_payload=(spoil,))
    think(thinker(model, double, hooks=hooks), [], says("go"))
    assert seen == [(0, 1), (0, 1), (1, 3), (1, 3)]
    assert model.sent == [{"model": "model", "messages": [n]} for n in (1, 3)]


@pytest.mark.line("P39")
def test_a_hook_of_the_payload_that_raises_fails_the_call_and_nothing_is_sent(
    thinker, journal
) -> None:
    def guard(payload: dict[str, Any]) -> None:
        raise ValueError("a card number")

    model = Wired({"text": "ok"})
    with pytest.raises(ModelError, match=r"guard failed: ValueError: a card") as raised:
        think(thinker(model, hooks=Hooks(on_payload=(guard,))), [], says("go"))
    assert (raised.value.kind, raised.value.is_retriable) == ("hook_failed", False)
    assert model.sent == []
    assert [each[0] for each in journal.told] == ["start_answer", "fail_answer"]
