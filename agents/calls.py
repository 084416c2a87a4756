"""The tool calls of one answer: made together or one by one, answered in their order.

Each result is written down as soon as it is there, and the history gets them in the
order of the calls, so a crash in between repeats nothing: what has a result is not made
again, what had begun is resumed under its key or called uncertain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait

from agents.control import Parked, Waiting
from agents.messages import (
    CUT_OFF,
    INTERRUPTED,
    OUTCOME_UNKNOWN,
    SKIPPED,
    Answer,
    ToolCall,
    ToolMessage,
    ToolResult,
)
from agents.thinker import Standing, StartedCall, Thinker
from agents.tools.registry import ToolContext


def answer_calls(
    thinker: Thinker, calls: Sequence[ToolCall], answer: Answer
) -> list[ToolMessage]:
    """Make the open calls of an answer; return their results in the calls' order.

    Raises Parked with all that they wait for when some must wait, after the others are
    written down.
    """
    standing = thinker.journal.standing(calls)
    if len(calls) == 1 or thinker.pool is None:
        return _one_by_one(thinker, calls, answer, standing)
    return _together(thinker, calls, answer, standing)


def _one_by_one(
    thinker: Thinker,
    calls: Sequence[ToolCall],
    answer: Answer,
    standing: Mapping[str, Standing],
) -> list[ToolMessage]:
    done = []
    for call in calls:
        thinker.stop.check()
        result = _settled(thinker, call, answer, standing[call.id])
        if result is not None:
            thinker.journal.append_results([(call, result)])
        else:
            started = thinker.journal.start_call(call)
            made = _result_of(thinker, call, started)
            result = thinker.journal.finish_call(call, started.number, made)
        done.append(_message(call, result))
    return done


def _together(
    thinker: Thinker,
    calls: Sequence[ToolCall],
    answer: Answer,
    standing: Mapping[str, Standing],
) -> list[ToolMessage]:
    assert thinker.pool is not None
    results = {
        call.id: _settled(thinker, call, answer, standing[call.id]) for call in calls
    }
    running: dict[str, Future[ToolResult]] = {}
    for call in calls:  # begun in their order, and then all at once
        if results[call.id] is None:
            started = thinker.journal.start_call(call)
            running[call.id] = thinker.pool.submit(_make, thinker, call, started)
    wait(running.values())
    _leave_if_any_must([each.exception() for each in running.values()])
    made = [(call, results[call.id] or running[call.id].result()) for call in calls]
    thinker.journal.append_results(made)
    return [_message(call, result) for call, result in made]


def _make(thinker: Thinker, call: ToolCall, started: StartedCall) -> ToolResult:
    result = _result_of(thinker, call, started)
    return thinker.journal.record_call(call, started.number, result)


def _leave_if_any_must(errors: Sequence[BaseException | None]) -> None:
    """Raise what ended the calls that have no result: all waits as one."""
    raised = [error for error in errors if error is not None]
    for error in raised:
        if not isinstance(error, Parked):
            raise error
    waits = [each for error in raised for each in _waits(error)]
    if waits:
        raise Parked(*waits)


def _waits(error: BaseException) -> tuple[Waiting, ...]:
    return error.waits if isinstance(error, Parked) else ()


def _settled(
    thinker: Thinker, call: ToolCall, answer: Answer, stands: Standing
) -> ToolResult | None:
    """Return the result of a call that is not (or not again) to be made."""
    if stands.result is not None or stands.is_started:
        return stands.result
    is_urgent = thinker.inbox.is_urgent()
    if thinker.stop.interrupt.is_raised:
        result = ToolResult(text=INTERRUPTED, status="failed")
    elif answer.stop_reason == "length":
        result = ToolResult(text=CUT_OFF, status="failed")
    elif is_urgent:
        result = ToolResult(text=SKIPPED, status="failed")
    else:
        return None
    thinker.journal.skip_call(call, result)
    return result


def _result_of(thinker: Thinker, call: ToolCall, started: StartedCall) -> ToolResult:
    if started.was_started and _happens_once(thinker, call):
        return ToolResult(text=OUTCOME_UNKNOWN, status="uncertain")
    context = ToolContext(
        key=started.key,
        step=started.number,
        agent_id=thinker.agent_id,
        turn_id=thinker.turn_id,
        runtime=thinker.runtime,
        stop=thinker.stop,
        report=lambda text: thinker.journal.report(call, started.number, text),
    )
    made = thinker.hooks.before(call, context)
    if isinstance(made, ToolResult):
        return made
    if started.was_started and _happens_once(thinker, made):
        return ToolResult(text=OUTCOME_UNKNOWN, status="uncertain")
    if refusal := thinker.tools.refuse(made):
        return refusal
    return thinker.hooks.after(made, thinker.tools.execute(made, context))


def _happens_once(thinker: Thinker, call: ToolCall) -> bool:
    return thinker.tools.effect_of(call.name) == "at_most_once"


def _message(call: ToolCall, result: ToolResult) -> ToolMessage:
    return ToolMessage(call_id=call.id, name=call.name, result=result)
