"""The demo model: each of its rules, and that it streams and says what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from agents.models import open_model
from agents.models.base import Delta, ModelError, Request
from agents.models.demo import HELP, INTRODUCTION, DemoModel


def user(text: str) -> Message:
    return UserMessage(content=[{"type": "text", "text": text}])


def ask(*messages: Message, interrupt: Interrupt | None = None) -> Answer:
    request = Request(system="", messages=messages, tools=())
    return DemoModel(token_seconds=0).stream(
        request, lambda delta: None, interrupt or Interrupt()
    )


def call_for(text: str) -> tuple[str, dict[str, Any]]:
    (call,) = ask(user(text)).tool_calls
    assert call.arguments is not None
    assert json.loads(call.raw_arguments) == call.arguments
    return call.name, call.arguments


def tell(text: str, **outcome: Any) -> str:
    """What it says once its call for the text came to this."""
    calling = ask(user(text))
    result = ToolResult(text=json.dumps(outcome))
    done = ToolMessage(call_id=calling.tool_calls[0].id, name="exec", result=result)
    spoken = AssistantMessage(answer=Answer(text="I have spoken before."))
    return ask(spoken, user(text), AssistantMessage(answer=calling), done).text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("17 * 23 + 4", "globalThis.result = 17 * 23 + 4;"),
        ("What is (1+2)*3?", "globalThis.result = (1+2)*3;"),
        ("2^10 please", "globalThis.result = 2**10;"),
    ],
)
def test_an_expression_is_computed(text: str, code: str) -> None:
    name, arguments = call_for(text)
    assert (name, arguments["code"]) == ("exec", code)


def test_the_result_of_an_expression_is_told() -> None:
    assert tell("17 * 23 + 4", status="completed", result=395) == "17 * 23 + 4 = 395"


def test_a_fenced_block_is_run_as_it_is() -> None:
    name, arguments = call_for("Run\n```ts\nglobalThis.result = 1;\n```\nplease")
    assert (name, arguments["code"]) == ("exec", "globalThis.result = 1;\n")


def test_a_wait_sleeps_in_the_sandbox_and_is_waited_for_longer() -> None:
    name, arguments = call_for("wait 5")
    assert name == "exec"
    assert "Bun.sleep(5000)" in arguments["code"]
    assert arguments["wait_seconds"] == 35


def test_a_failure_is_asked_for_and_told() -> None:
    name, arguments = call_for("fail")
    assert (name, "throw" in arguments["code"]) == ("exec", True)
    told = tell("fail", status="failed", error={"message": "boom"})
    assert told == "The code failed: boom"


def test_another_agent_is_asked_and_its_answer_is_told() -> None:
    name, arguments = call_for("spawn ranger: wait 1")
    assert name == "delegate"
    assert (arguments["agent_id"], arguments["text"]) == ("ranger", "wait 1")
    told = tell("spawn ranger: hi", status="completed", result={"text": "hello"})
    assert told == "ranger says: hello"


def test_another_agent_that_does_not_answer_is_told() -> None:
    told = tell("spawn ranger: hi", status="running")
    assert told == "ranger has not answered: it is still running"


def test_a_wait_that_a_message_cut_short_is_waited_on() -> None:
    calling = ask(user("wait 5"))
    outcome = {"task_id": "exec-1", "pending": True, "wake_event_id": 7}
    result = ToolResult(text=json.dumps(outcome))
    done = ToolMessage(call_id=calling.tool_calls[0].id, name="exec", result=result)
    (call,) = ask(user("wait 5"), AssistantMessage(answer=calling), done).tool_calls
    assert call.name == "await_task"
    assert call.arguments is not None
    assert call.arguments["task_id"] == "exec-1"


@pytest.mark.parametrize("text", ["hello", "", "1", "call 555 0199", "waiter"])
def test_anything_else_gets_help(text: str) -> None:
    answer = ask(AssistantMessage(answer=Answer(text="before")), user(text))
    assert (answer.text, answer.tool_calls) == (HELP, ())


def test_the_first_reply_says_what_it_is_and_the_second_does_not() -> None:
    first = ask(user("hello"))
    second = ask(user("hello"), AssistantMessage(answer=first), user("hello"))
    assert first.text == f"{HELP}\n\n{INTRODUCTION}"
    assert second.text == HELP


def test_an_answer_streams_token_by_token() -> None:
    deltas: list[Delta] = []
    request = Request(system="", messages=(user("hello"),), tools=())
    answer = DemoModel(token_seconds=0).stream(request, deltas.append, Interrupt())
    assert "".join(delta.text for delta in deltas) == answer.text
    assert len(deltas) == len(answer.text.split())
    assert answer.usage.output_tokens == len(deltas)


def test_a_call_streams_its_arguments() -> None:
    deltas: list[Delta] = []
    request = Request(system="", messages=(user("1 + 1"),), tools=())
    (call,) = (
        DemoModel(token_seconds=0)
        .stream(request, deltas.append, Interrupt())
        .tool_calls
    )
    assert deltas == [
        Delta(
            kind="tool_call",
            text=call.raw_arguments,
            tool_call_id=call.id,
            tool_name="exec",
        )
    ]


def test_an_interrupt_ends_a_slow_answer_at_once() -> None:
    interrupt, deltas = Interrupt(), []

    def emit(delta: Delta) -> None:
        deltas.append(delta)
        if len(deltas) == 2:
            interrupt.set()

    request = Request(system="", messages=(user("slow"),), tools=())
    answer = DemoModel(token_seconds=0).stream(request, emit, interrupt)
    assert (answer.text, answer.stop_reason) == ("word-1 word-2", "interrupted")


@pytest.mark.line("P11")
def test_the_demo_is_the_model_that_no_name_names() -> None:
    assert (open_model(None).name, open_model("demo").name) == ("demo", "demo")


@pytest.mark.parametrize("name", ["nobody/knows", "scripted", "scripted/"])
def test_a_model_that_nobody_serves_fails_the_turn_that_asked(name: str) -> None:
    with pytest.raises(ModelError, match="There is no model") as raised:
        open_model(name)
    assert not raised.value.is_retriable
