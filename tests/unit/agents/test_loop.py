"""The loop: what it asks, what it does, what it writes down, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agents.control import (
    Abandoned,
    Cancelled,
    HandedOver,
    Interrupt,
    Parked,
    Waiting,
)
from agents.loop import LimitReached, think
from agents.messages import (
    CUT_OFF,
    OUTCOME_UNKNOWN,
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
from agents.thinker import Limits
from agents.tools.registry import ToolContext, tool


@tool(effect="pure")
def double(context: ToolContext, n: int) -> ToolResult:
    """Double a number."""
    return ToolResult(text=str(2 * n))


@tool(effect="idempotent")
def show_key(context: ToolContext) -> ToolResult:
    """Show what a handler knows of its call."""
    known = (context.key, context.step, context.agent_id, context.turn_id)
    return ToolResult(text=" ".join(map(str, known)))


@tool(effect="at_most_once")
def launch(context: ToolContext) -> ToolResult:
    """Launch."""
    return ToolResult(text="launched")


@tool(effect="pure")
def broken(context: ToolContext) -> ToolResult:
    """Break."""
    raise ZeroDivisionError("by nothing")


@tool(effect="pure")
def park(context: ToolContext) -> ToolResult:
    """Wait."""
    wait = Waiting(step=context.step, target_ids=("exec-1",), deadline_at=None, why={})
    raise Parked(wait)


def says(text: str) -> list[Message]:
    return [UserMessage(content=[{"type": "text", "text": text}])]


def calls(*named: str | tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A response that calls tools: each a name, or a name with arguments."""
    pairs = [(each, {}) if isinstance(each, str) else each for each in named]
    return {"tool_calls": [{"name": n, "arguments": a} for n, a in pairs], **more}


def results(own: list[Message]) -> list[tuple[str, str]]:
    return [
        (message.result.status, message.result.text)
        for message in own
        if isinstance(message, ToolMessage)
    ]


# Plain answers.


@pytest.mark.line("P2")
def test_an_answer_is_streamed_written_down_and_returned(thinker, journal) -> None:
    own = says("hello")
    usage = {"input_tokens": 5, "output_tokens": 2}
    thought = think(thinker([{"text": "hi there", "usage": usage}]), [], own)
    assert (thought.text, thought.usage, thought.is_interrupted) == (
        "hi there",
        Usage(input_tokens=5, output_tokens=2),
        False,
    )
    assert journal.told == [
        ("start_answer", 1, "scripted"),
        ("delta", 1, "text", "hi"),
        ("delta", 1, "text", " there"),
        ("finish_answer", 1, "hi there", {}),
    ]
    assert own[1:] == [AssistantMessage(answer=Answer(text="hi there", usage=USAGE))]


USAGE = Usage(input_tokens=5, output_tokens=2)


@pytest.mark.line("P27")
def test_a_turn_that_has_its_reply_asks_nobody(thinker, journal) -> None:
    own = [*says("hello"), AssistantMessage(answer=Answer(text="hi"))]
    assert think(thinker([]), [], own).text == "hi"
    assert journal.told == []


@pytest.mark.line("P1")
def test_the_model_is_given_the_past_the_turn_the_system_and_the_tools(thinker) -> None:
    asked: list[Request] = []

    class Asked:
        name = "asked"

        def stream(
            self, request: Request, emit: Callable[..., None], interrupt: Interrupt
        ) -> Answer:
            asked.append(request)
            return Answer(text="ok")

    past, own = says("before"), says("now")
    think(thinker(Asked(), double), past, own)
    (request,) = asked
    assert request.system == "Be brief."
    assert request.messages == (*past, *own[:1])
    assert [spec.name for spec in request.tools] == ["double"]
    assert past == says("before")


# Tools.


@pytest.mark.line("P2")
def test_a_call_is_written_down_before_and_after_and_its_result_is_read(
    thinker, journal
) -> None:
    own = says("2 * 21?")
    script = [calls(("double", {"n": 21})), {"text": "42."}]
    thought = think(thinker(script, double), [], own)
    assert thought.text == "42."
    assert journal.told == [
        ("start_answer", 1, "scripted"),
        ("delta", 1, "tool_call", '{"n": 21}'),
        ("finish_answer", 1, "", {"call_1_0": "pure"}),
        ("start_call", 2, "double"),
        ("finish_call", 2, "succeeded", "42"),
        ("start_answer", 3, "scripted"),
        ("delta", 3, "text", "42."),
        ("finish_answer", 3, "42.", {}),
    ]


@pytest.mark.line("P2", "P31")
def test_calls_of_one_answer_are_made_one_by_one_in_their_order(
    thinker, journal
) -> None:
    own = says("go")
    script = [calls(("double", {"n": 1}), ("double", {"n": 2})), {"text": "ok"}]
    think(thinker(script, double), [], own)
    acts = [told[:2] for told in journal.told if told[0].endswith("_call")]
    assert acts == [
        ("start_call", 2),
        ("finish_call", 2),
        ("start_call", 3),
        ("finish_call", 3),
    ]
    assert results(own) == [("succeeded", "2"), ("succeeded", "4")]


@pytest.mark.line("P7")
def test_a_handler_knows_its_key_its_step_its_agent_and_its_turn(thinker) -> None:
    own = says("go")
    think(thinker([calls("show_key"), {"text": "ok"}], show_key), [], own)
    assert results(own) == [("succeeded", "turn-1/2 2 scout turn-1")]


@pytest.mark.line("P3", "P34")
def test_a_tool_that_throws_is_a_result_that_the_model_reads(thinker) -> None:
    own = says("go")
    script = [calls("broken"), {"when": {"contains": "ZeroDivisionError"}, "text": "!"}]
    assert think(thinker(script, broken), [], own).text == "!"
    assert results(own) == [("failed", "broken failed: ZeroDivisionError: by nothing")]


@pytest.mark.line("P3", "P5", "P34")
def test_an_unknown_tool_is_a_result_that_names_the_known_ones(thinker) -> None:
    own = says("go")
    think(thinker([calls("fly"), {"text": "ok"}], double, launch), [], own)
    assert results(own) == [
        ("failed", "unknown tool: fly. The tools are: double, launch.")
    ]


@pytest.mark.line("P3", "P4", "P34")
@pytest.mark.parametrize(
    ("arguments", "says_what"),
    [
        ({"n": "seven"}, "- n: 'seven' is not of type 'integer'"),
        ({}, "- 'n' is a required property"),
        ({"n": 1, "m": 2}, "'m' was unexpected"),
    ],
)
def test_wrong_arguments_are_refused_with_the_field_named(
    thinker, arguments, says_what
) -> None:
    own = says("go")
    think(thinker([calls(("double", arguments)), {"text": "ok"}], double), [], own)
    ((status, text),) = results(own)
    assert status == "failed"
    assert text.startswith("Nothing was run: the arguments of double are wrong.")
    assert says_what in text


@pytest.mark.line("P3")
def test_arguments_that_are_no_json_are_refused_with_what_came(thinker) -> None:
    own = says("go")
    call = {"name": "double", "arguments": None, "raw_arguments": '{"n": 1'}
    think(thinker([{"tool_calls": [call]}, {"text": "ok"}], double), [], own)
    assert results(own) == [
        ("failed", 'The arguments of double are not a JSON object: {"n": 1')
    ]


@pytest.mark.line("P2")
def test_calls_of_an_answer_that_was_cut_off_are_not_made(thinker) -> None:
    own = says("go")
    cut = calls("launch", ("double", {"n": 1}), stop_reason="length")
    think(thinker([cut, {"text": "ok"}], launch, double), [], own)
    assert results(own) == [("failed", CUT_OFF), ("failed", CUT_OFF)]


def test_an_answer_that_was_cut_off_without_calls_is_the_reply(thinker) -> None:
    script = [{"text": "as far as", "stop_reason": "length"}]
    assert think(thinker(script), [], says("go")).text == "as far as"


@pytest.mark.line("P40")
def test_the_usage_of_every_answer_is_counted(thinker) -> None:
    script = [
        calls(("double", {"n": 1}), usage={"input_tokens": 1, "output_tokens": 2}),
        {"text": "ok", "usage": {"input_tokens": 10, "cache_read_tokens": 5}},
    ]
    thought = think(thinker(script, double), [], says("go"))
    assert thought.usage == Usage(input_tokens=11, output_tokens=2, cache_read_tokens=5)


@pytest.mark.line("P2")
def test_a_model_that_keeps_calling_is_stopped(thinker, journal) -> None:
    script = [calls(("double", {"n": n})) for n in range(5)]
    thinking = thinker(script, double, limits=Limits(rounds=3))
    with pytest.raises(LimitReached, match="limit of 3 model calls") as raised:
        think(thinking, [], says("go"))
    assert [told[0] for told in journal.told].count("start_answer") == 3
    assert raised.value.as_json()["limit"] == {"name": "rounds", "value": 3}


# A turn that is resumed.


def resumed(*named: str, stop_reason: Any = "tool_use") -> list[Message]:
    """A turn whose answer called these and then its worker died."""
    made = [ToolCall(id=f"id-{n}", name=n, arguments={}) for n in named]
    answer = Answer(tool_calls=tuple(made), stop_reason=stop_reason)
    return [*says("go"), AssistantMessage(answer=answer)]


@pytest.mark.line("P27")
def test_open_calls_are_made_before_the_model_is_asked_again(thinker, journal) -> None:
    own = resumed("show_key", "launch")
    own.append(ToolMessage(call_id="id-show_key", name="x", result=ToolResult(text="")))
    journal.numbers = {"id-show_key": 2, "id-launch": 3}
    script = [{"text": "unused"}, {"text": "ok"}]
    assert think(thinker(script, show_key, launch), [], own).text == "ok"
    assert journal.told == [
        ("start_call", 3, "launch"),
        ("finish_call", 3, "succeeded", "launched"),
        ("start_answer", 4, "scripted"),
        ("delta", 4, "text", "ok"),
        ("finish_answer", 4, "ok", {}),
    ]


def test_a_call_that_may_happen_once_is_not_repeated_but_called_uncertain(
    thinker, journal
) -> None:
    own = resumed("launch")
    journal.started = {"id-launch"}
    script = [{"text": "unused"}, {"text": "ok"}]
    think(thinker(script, launch), [], own)
    assert results(own) == [("uncertain", OUTCOME_UNKNOWN)]


def test_a_call_that_may_be_repeated_is_repeated_under_its_key(
    thinker, journal
) -> None:
    own = resumed("show_key")
    journal.started, journal.numbers = {"id-show_key"}, {"id-show_key": 2}
    think(thinker([{"text": "unused"}, {"text": "ok"}], show_key), [], own)
    assert results(own) == [("succeeded", "turn-1/2 2 scout turn-1")]


def test_calls_that_were_cut_off_are_not_made_after_a_resume_either(thinker) -> None:
    own = resumed("launch", stop_reason="length")
    think(thinker([{"text": "unused"}, {"text": "ok"}], launch), [], own)
    assert results(own) == [("failed", CUT_OFF)]


# A turn that has to leave.


def test_a_tool_that_parks_leaves_the_turn_with_its_step_open(thinker, journal) -> None:
    own = says("go")
    with pytest.raises(Parked) as raised:
        think(thinker([calls("park")], park), [], own)
    (wait,) = raised.value.waits
    assert (wait.step, wait.target_ids) == (2, ("exec-1",))
    assert journal.told[-1] == ("start_call", 2, "park")
    assert results(own) == []


@pytest.mark.parametrize("why", [Abandoned(), HandedOver(), Cancelled("enough")])
def test_a_turn_that_was_asked_to_leave_leaves_at_the_boundary(
    thinker, journal, why
) -> None:
    leaving = thinker([{"text": "never"}])
    leaving.stop.ask(why)
    with pytest.raises(type(why)):
        think(leaving, [], says("go"))
    assert journal.told == []


def test_a_drain_lets_the_call_end_and_leaves_before_the_next(thinker, journal) -> None:
    leaving = None

    @tool(effect="pure")
    def drain(context: ToolContext) -> ToolResult:
        """Drain."""
        leaving.stop.ask(HandedOver())
        return ToolResult(text="ended")

    leaving = thinker([calls("drain", "drain"), {"text": "never"}], drain)
    with pytest.raises(HandedOver):
        think(leaving, [], says("go"))
    assert journal.told[-1] == ("finish_call", 2, "succeeded", "ended")


def test_an_answer_that_comes_after_the_lease_was_lost_is_not_written(
    thinker, journal
) -> None:
    leaving = None

    class Late:
        name = "late"

        def stream(
            self, request: Request, emit: Callable[..., None], interrupt: Interrupt
        ) -> Answer:
            leaving.stop.ask(Abandoned())
            return Answer(text="too late")

    leaving = thinker(Late())
    with pytest.raises(Abandoned):
        think(leaving, [], says("go"))
    assert [told[0] for told in journal.told] == ["start_answer"]


@pytest.mark.line("P37")
def test_an_interrupt_keeps_what_was_said_so_far(thinker, journal) -> None:
    interrupted = None

    class Once:
        """Interrupts the model once it has said a word."""

        name = "once"

        def stream(
            self, request: Request, emit: Callable[..., None], interrupt: Interrupt
        ) -> Answer:
            said = "one"
            emit(Delta(kind="text", text=said))
            threading.Thread(target=interrupted.stop.interrupt.set).start()
            assert interrupt.wait(10)
            return Answer(text=said, stop_reason="interrupted")

    interrupted = thinker(Once())
    own = says("go")
    thought = think(interrupted, [], own)
    assert (thought.text, thought.is_interrupted) == ("one", True)
    assert journal.told[-1] == ("finish_answer", 1, "one", {})


def test_a_model_that_fails_is_written_down_and_raised(thinker, journal) -> None:
    script = [{"error": {"status": 503, "message": "ill"}}]
    with pytest.raises(ModelError, match="ill") as raised:
        think(thinker(script), [], says("go"))
    assert raised.value.is_retriable
    assert journal.told == [
        ("start_answer", 1, "scripted"),
        ("fail_answer", 1, "http_503"),
    ]


def test_the_model_is_told_which_attempt_this_is(thinker, journal) -> None:
    journal.attempt = 2
    script = [{"error": {"status": 503}}, {"text": "better"}]
    assert think(thinker(script), [], says("go")).text == "better"
