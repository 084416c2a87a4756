"""The journal of a turn on the broker: each step one short, fenced transaction."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from agents.messages import Answer, ToolCall, ToolResult, Usage, UserMessage
from agents.models import Delta, ModelError
from agents.thinker import Estimate, Standing, StartedAnswer, StartedCall
from agents.transcript import answer_data
from broker import Broker, budgets, entries, events, leases, limits, steps, turns
from broker.budgets import Ask, Grant, Refusal, Used
from broker.database import Database, Row, Transaction
from broker.entries import NewEntry
from broker.errors import LeaseLost
from broker.steps import PlannedCall
from broker.turns import Turn
from workers.artifacts import shorten
from workers.batcher import Batcher
from workers.fence import fenced
from workers.metering import ask, parked, priced
from workers.prices import Prices


class TurnJournal:
    """Writes one claimed turn down; every refusal of a write abandons the turn."""

    def __init__(self, broker: Broker, turn: Turn, batcher: Batcher) -> None:
        self._database = broker.database
        self._turn = turn
        self._deltas = DeltaBuffer(broker, turn, batcher)
        self._prices = Prices(broker.settings.prices)
        self._limits = broker.settings.limits
        self._model_asked = ""
        self._tokens_expected = 0
        # What has been worked since then is not on the meters yet.
        self._metered_at = time.monotonic()

    def start_answer(
        self, model_name: str, heard: Sequence[UserMessage], estimate: Estimate
    ) -> StartedAnswer:
        """Reserve and journal a model call, and tell the stream that an answer begins,
        and to what. Parks the turn where no budget has room for the call."""
        turn = self._turn
        inputs = {"inputs": [message.text for message in heard]} if heard else {}
        asked = self._ask(model_name, estimate)
        with priced(), fenced(), self._database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            granted = budgets.reserve(tx, turn.id, turn.agent["id"], asked)
            if isinstance(granted, Grant):
                self._take_place(tx, asked)
                started = self._start(tx, model_name, inputs, granted)
        if isinstance(granted, Refusal):
            raise parked(granted)
        return started

    def _start(
        self, tx: Transaction, model_name: str, inputs: dict[str, Any], granted: Grant
    ) -> StartedAnswer:
        turn = self._turn
        number, attempt = steps.start_model(tx, turn.id, turn.epoch, model_name)
        budgets.hold(tx, turn.id, number, granted)
        shown = {"step": number, "attempt": attempt, "model": model_name, **inputs}
        self._emit(tx, "message_start", shown)
        return StartedAnswer(
            number=number,
            attempt=attempt,
            max_output_tokens=granted.max_output_tokens,
        )

    def _take_place(self, tx: Transaction, asked: Ask) -> None:
        """Take a place at the provider; without one, nothing is reserved either."""
        busy = limits.take(
            tx,
            self._limits,
            asked.model,
            (self._turn.id, self._turn.epoch),
            tokens=asked.input_tokens,
        )
        self._tokens_expected = asked.input_tokens
        if busy is not None:
            raise parked(busy)

    def _give_place_back(self, tx: Transaction, usage: Usage) -> None:
        used = sum(usage.as_json().values())
        unexpected = used - self._tokens_expected
        limits.settle(
            tx, self._limits, self._model_asked, self._turn.id, unexpected=unexpected
        )

    def _ask(self, model_name: str, estimate: Estimate) -> Ask:
        """What a call may use at the most, by its price."""
        self._model_asked = model_name
        worked = self._worked()
        return ask(self._prices, model_name, estimate, worked_seconds=worked)

    def _worked(self) -> float:
        """How long the turn has worked since it was last asked."""
        before, self._metered_at = self._metered_at, time.monotonic()
        return self._metered_at - before

    def delta(self, number: int, delta: Delta) -> None:
        """Buffer a piece of the answer."""
        with fenced():
            self._deltas.add(number, delta)

    def finish_answer(
        self, number: int, answer: Answer, effects: dict[str, str]
    ) -> None:
        """Journal the answer with its planned calls, and append it to the history."""
        turn, rest = self._turn, self._deltas.take()
        cost = self._prices.cost(answer.model or self._model_asked, answer.usage)
        used = _used(answer.usage, cost, self._worked())
        with fenced(), self._database.write() as tx:
            for payload in rest:
                self._emit(tx, "message_update", payload)
            steps.succeed_model(
                tx,
                turn.id,
                turn.epoch,
                number,
                {"text": answer.text, **answer_data(answer)},
                answer.usage.as_json(),
                _planned(answer, effects),
                cost_usd=cost,
                model=answer.model,
            )
            budgets.settle(tx, turn.id, turn.agent["id"], used)
            self._give_place_back(tx, answer.usage)
            self._append(tx, *_entries_of(number, answer))
            self._emit(tx, "message_end", _message_end(number, answer))

    def fail_answer(self, number: int, error: ModelError) -> None:
        """Journal that the model call failed."""
        self._deltas.take()
        turn, shown = self._turn, error.as_json()
        with fenced(), self._database.write() as tx:
            steps.fail_model(tx, turn.id, turn.epoch, number, shown)
            # Of a call that failed nobody is told what it has used, but its time.
            used = Used(seconds=self._worked())
            budgets.settle(tx, turn.id, turn.agent["id"], used)
            self._give_place_back(tx, Usage())
            self._emit(tx, "message_end", {"step": number, "error": shown})

    def start_call(self, call: ToolCall) -> StartedCall:
        """Journal a tool call; tell the stream only the first time."""
        turn = self._turn
        with fenced(), self._database.write() as tx:
            number, was_started = steps.start_tool(tx, turn.id, turn.epoch, call.id)
            if not was_started:
                shown = {"arguments": call.arguments}
                self._emit(
                    tx, "tool_execution_start", _call_shown(number, call) | shown
                )
        key = steps.key(turn.id, number)
        return StartedCall(number=number, key=key, was_started=was_started)

    def standing(self, calls: Sequence[ToolCall]) -> dict[str, Standing]:
        """Say how far each open call has come."""
        turn = self._turn
        with fenced(), self._database.write(durable=False) as tx:
            leases.guard(tx, turn.id, turn.epoch)
            rows = steps.open_calls(tx, turn.id, [call.id for call in calls])
        known = {row["tool_call_id"]: _standing(row) for row in rows}
        return {call.id: known.get(call.id, Standing()) for call in calls}

    def report(self, call: ToolCall, number: int, text: str) -> None:
        """Show how far a tool is to whoever watches the turn."""
        shown = {**_call_shown(number, call), "text": text}
        with fenced(), self._database.write(durable=False) as tx:
            turns.emit_fenced(tx, self._turn, [("tool_execution_update", shown)])

    def skip_call(self, call: ToolCall, result: ToolResult) -> None:
        """Journal that a call is not made, and show it begun and over."""
        turn = self._turn
        with fenced(), self._database.write() as tx:
            number = steps.number_of_call(tx, turn.id, call.id)
            shown = _call_shown(number, call) | {"arguments": call.arguments}
            self._emit(tx, "tool_execution_start", shown)
            self._record(tx, call, number, result)

    def record_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """Journal a result; the history gets it once those before it have theirs."""
        with fenced(), self._database.write() as tx:
            return self._record(tx, call, number, result)

    def append_results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> None:
        """Append journalled results to the history, in this order."""
        turn = self._turn
        with fenced(), self._database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            for call, result in results:
                number = steps.number_of_call(tx, turn.id, call.id)
                self._append(tx, _result_entry(call, number, result))

    def finish_call(
        self, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        """Journal a result and append it to the history."""
        with fenced(), self._database.write() as tx:
            shown = self._record(tx, call, number, result)
            self._append(tx, _result_entry(call, number, shown))
        return shown

    def _record(
        self, tx: Transaction, call: ToolCall, number: int, result: ToolResult
    ) -> ToolResult:
        turn = self._turn
        result = shorten(tx, turn, number, call, result)
        kept = {
            "text": result.text,
            "details": result.details,
            "blocks": list(result.blocks),
        }
        steps.finish_tool(tx, turn.id, turn.epoch, number, result.status, kept)
        ended = {**_call_shown(number, call), **_result_shown(result)}
        self._emit(tx, "tool_execution_end", ended)
        return result

    def _emit(self, tx: Transaction, kind: str, payload: dict[str, Any]) -> None:
        turn = self._turn
        events.emit_turn(
            tx, turn.agent["id"], turn.id, kind, payload, cause_id=turn.cause_id
        )

    def _append(self, tx: Transaction, *new: NewEntry) -> None:
        agent = self._turn.agent
        entries.append(tx, agent["id"], agent["generation"], self._turn.id, *new)


def _used(usage: Usage, cost_usd: float | None, seconds: float) -> Used:
    return Used(
        tokens=sum(usage.as_json().values()),
        cost_usd=cost_usd,
        rounds=1,
        seconds=seconds,
    )


class DeltaBuffer:
    """Collects deltas of one turn and emits them as `message_update` events."""

    def __init__(self, broker: Broker, turn: Turn, batcher: Batcher) -> None:
        self.database = broker.database
        self._turn = turn
        self._batcher = batcher
        self._lock = threading.Lock()
        # Held from the taking of a batch to its commit, so that batches keep their
        # order and none comes after the end of its message.
        self._writing = threading.Lock()
        self._pending: list[tuple[int, Delta]] = []
        self._flushed_at = 0.0

    def add(self, number: int, delta: Delta) -> None:
        """Take a delta; write it now if nothing was written within the interval."""
        with self._lock:
            self._pending.append((number, delta))
        self._batcher.schedule(self, _flush, self._flushed_at)

    def take(self) -> list[dict[str, Any]]:
        """Return what is not written yet, for the caller's own transaction; wait for
        the batch that is under way."""
        self._batcher.forget(self)
        with self._writing:
            return self._take()

    def _take(self) -> list[dict[str, Any]]:
        with self._lock:
            pending, self._pending = self._pending, []
        return _merged(pending)

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[dict[str, Any]]]:
        """Take what is not written yet for a batch, which is committed at the end."""
        self._flushed_at = time.monotonic()
        with self._writing:
            yield self._take()

    def emit(self, tx: Transaction, payloads: list[dict[str, Any]]) -> None:
        """Emit what was taken; a turn that lost its lease writes nothing more."""
        updates = [("message_update", payload) for payload in payloads]
        # When refused, the turn's own next write hears of it and abandons the turn.
        with contextlib.suppress(LeaseLost):
            turns.emit_fenced(tx, self._turn, updates)


def _flush(buffers: Sequence[DeltaBuffer]) -> None:
    """Write what the turns of this process have collected."""
    database = buffers[0].database
    # Rows that are locked one after the other would deadlock with whoever locks them
    # in another order; where a transaction has the database for itself, none can.
    if database.for_update:
        for each in buffers:
            _flush_together(database, [each])
    else:
        _flush_together(database, buffers)


def _flush_together(database: Database, buffers: Sequence[DeltaBuffer]) -> None:
    with contextlib.ExitStack() as stack:
        batch = [(each, stack.enter_context(each.taken())) for each in buffers]
        if any(payloads for _, payloads in batch):
            with database.write(durable=False) as tx:
                for each, payloads in batch:
                    if payloads:
                        each.emit(tx, payloads)


def _merged(pending: list[tuple[int, Delta]]) -> list[dict[str, Any]]:
    """Join neighbouring deltas of one kind."""
    merged: list[dict[str, Any]] = []
    for number, delta in pending:
        shown: dict[str, Any] = {"step": number, "kind": delta.kind}
        if delta.tool_call_id is not None:
            shown |= {"tool_call_id": delta.tool_call_id, "tool_name": delta.tool_name}
        if merged and {**merged[-1], "text": ""} == {**shown, "text": ""}:
            merged[-1]["text"] += delta.text
        else:
            merged.append({**shown, "text": delta.text})
    return merged


def _standing(row: Row) -> Standing:
    if row["status"] not in ("succeeded", "failed", "uncertain"):
        return Standing(is_started=row["status"] == "started")
    kept = row["result"]
    result = ToolResult(
        text=kept["text"],
        status=row["status"],
        details=kept["details"],
        blocks=tuple(kept.get("blocks", ())),
    )
    return Standing(is_started=True, result=result)


def _result_entry(call: ToolCall, number: int, result: ToolResult) -> NewEntry:
    return NewEntry(
        type="tool_result",
        role="tool",
        content=[{"type": "text", "text": result.text}, *result.blocks],
        step=number,
        tool_call_id=call.id,
        tool_name=call.name,
        status=result.status,
    )


def _planned(answer: Answer, effects: dict[str, str]) -> list[PlannedCall]:
    return [
        PlannedCall(
            tool_call_id=call.id,
            name=call.name,
            arguments=call.arguments or {},
            effect=effects[call.id],
        )
        for call in answer.tool_calls
    ]


def _entries_of(number: int, answer: Answer) -> list[NewEntry]:
    """An answer in the history: its reasoning, itself, and each call it makes."""
    said = [{"type": "text", "text": answer.text}] if answer.text else []
    new = [
        NewEntry(
            type="assistant_message",
            role="assistant",
            content=said,
            step=number,
            status=answer.stop_reason,
            usage=answer.usage.as_json(),
            data=answer_data(answer),
        )
    ]
    if answer.reasoning:
        thought = [{"type": "text", "text": answer.reasoning}]
        new.insert(
            0,
            NewEntry(type="reasoning", role="assistant", content=thought, step=number),
        )
    for offset, call in enumerate(answer.tool_calls, start=1):
        new.append(
            NewEntry(
                type="tool_call",
                role="assistant",
                content=[{"type": "json", "json": call.arguments}],
                step=number + offset,
                tool_call_id=call.id,
                tool_name=call.name,
            )
        )
    return new


def _message_end(number: int, answer: Answer) -> dict[str, Any]:
    return {
        "step": number,
        "text": answer.text,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in answer.tool_calls
        ],
        "stop_reason": answer.stop_reason,
        "usage": answer.usage.as_json(),
    }


def _result_shown(result: ToolResult) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "is_error": result.is_error,
        "status": result.status,
        "text": result.text,
    }
    if result.blocks:
        shown["blocks"] = list(result.blocks)
    # Where the text is the details as JSON, once is enough.
    if result.details and json.dumps(result.details, ensure_ascii=False) != result.text:
        shown["details"] = result.details
    return shown


def _call_shown(number: int, call: ToolCall) -> dict[str, Any]:
    return {"step": number, "tool_call_id": call.id, "tool_name": call.name}
