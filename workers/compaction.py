"""Compaction of one claimed turn: it looks when there is no room, and makes some.

A summary is made outside any transaction and written in one, with the new generation
and the lease checked: a worker that dies before it leaves everything as it was, and the
next one makes the summary again; one that dies after it has left it whole.

Used by `workers.turns`, in the thread of the turn. The arithmetic is in
`agents.compaction`, the words in `agents.summaries`, the rows in `broker.generations`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agents.compaction import (
    Cut,
    Item,
    Summary,
    context_tokens,
    estimate_all,
    find_cut,
    find_summary,
    fresh_from,
    has_count,
    items_of,
    keep_limit,
    threshold,
    tokens_in,
)
from agents.control import Stop
from agents.messages import Answer, AssistantMessage, Message
from agents.models.base import Model
from agents.thinker import Conversation
from agents.transcript import to_messages
from broker import Broker, entries, events, generations, leases
from broker.database import Row, Transaction
from broker.entries import HISTORY_LIMIT
from broker.generations import Compaction, Reason
from broker.turns import Turn
from workers.fence import fenced
from workers.metering import SummaryMeter
from workers.summariser import Plan, Summariser, Written, messages_of

# So many entries of other turns are as good a reason as too many tokens: a turn reads
# no more than HISTORY_LIMIT of them, and what it does not read nobody would summarise.
PAST_ENTRIES: Final = HISTORY_LIMIT * 3 // 4
# A message is two or three entries (its reasoning, its calls), so this stays below.
KEPT_MESSAGES: Final = 100


@dataclass(slots=True, kw_only=True)
class Compactor:
    """Keeps one turn's conversation within its model's window: the loop's `Context`.

    It changes the turn and the conversation in place. `split` reads the two parts of a
    conversation out of a turn: what was before it, and its own.
    """

    broker: Broker
    turn: Turn
    stop: Stop
    model: Model
    find_model: Callable[[str | None], Model]
    split: Callable[[Turn], tuple[list[Message], list[Message]]]
    # What the conversation took when it was last read, how many of the turn's own
    # messages that was, and whether another threshold compaction would be in vain.
    _tokens_read: int = field(init=False, default=0)
    _own_read: int = field(init=False, default=0)
    _is_compacted: bool = field(init=False, default=False)
    _is_spent: bool = field(init=False, default=False)
    _is_first_call: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self._read()

    def before_call(self, conversation: Conversation) -> None:
        """Make the conversation shorter where it must be for the next model call; and
        before a worker's first, make the summary that a person asked for.

        Every call in it has its result, and every message its entry.
        """
        if self._is_first_call:
            self._is_first_call = False
            conversation.earlier = self._cut_off()
            self._do_as_asked(conversation)
        is_too_long = self._is_too_long(self._tokens(conversation))
        if (is_too_long or self._is_crowded()) and not self._is_in_vain(conversation):
            self._make_room("threshold", conversation)

    def after_overflow(self, conversation: Conversation) -> bool:
        """Make the conversation shorter because the model refused it; False when that
        was done just now, or cannot be done."""
        if not self._window or self._has_just_retried(conversation):
            return False
        return self._make_room("overflow", conversation)

    # --- How long it is ---------------------------------------------------------------

    @property
    def _generation(self) -> int:
        return int(self.turn.agent["generation"])

    @property
    def _window(self) -> int:
        """The model's window in tokens; 0 where nothing is compacted unasked."""
        said = self.broker.settings.context_tokens
        return self.model.context_tokens if said is None else said

    def _tokens(self, conversation: Conversation) -> int:
        return context_tokens(self._since(conversation), before=self._tokens_read)

    def _since(self, conversation: Conversation) -> list[Message]:
        """What has been said since the conversation was read."""
        return conversation.own[self._own_read :]

    def _is_too_long(self, tokens: int) -> bool:
        return self._window > 0 and tokens > threshold(self._window)

    def _is_crowded(self) -> bool:
        """Whether so much was said that a turn may soon not read all of it back."""
        past = [e for e in self.turn.history if e["turn_id"] != self.turn.id]
        return self._window > 0 and len(past) >= PAST_ENTRIES

    def _read(self) -> None:
        """Take the measure of the conversation as it stands in `turn.history`."""
        items = items_of(self.turn.history)
        summary = find_summary(self.turn.history)
        self._tokens_read = context_tokens(
            messages_of(items),
            before=_length(summary),
            fresh_from=self._believed_from(items),
        )
        self._own_read = len(self.split(self.turn)[1])
        self._is_compacted = self._is_by_this_turn(summary)
        self._is_spent = self._is_compacted and (
            self._is_too_long(self._tokens_read) or self._is_crowded()
        )

    def _believed_from(self, items: Sequence[Item]) -> int:
        """Where the counts begin that hold for this conversation with this model."""
        start = fresh_from(items, self._generation)
        counted = [item for item in items[start:] if has_count([item.message])]
        if not counted:
            return len(items)
        turn_id, step = counted[-1].entry["turn_id"], counted[-1].entry["step"]
        name = generations.model_of(self.broker.database, turn_id, step)
        asked_first = self.model.name.partition(",")[0]
        return start if name == asked_first else len(items)

    def _is_in_vain(self, conversation: Conversation) -> bool:
        """Whether this turn's compaction has not helped, as the first answer since then
        says: what is too long is not what can be summarised."""
        counted = [each for each in self._since(conversation) if has_count([each])]
        if self._is_compacted and len(counted) == 1:
            self._is_spent = True
        return self._is_spent

    def _is_by_this_turn(self, summary: Summary | None) -> bool:
        return summary is not None and summary.details.get("turn_id") == self.turn.id

    def _has_just_retried(self, conversation: Conversation) -> bool:
        """Whether the newest summary is this turn's, for an overflow, and nothing has
        been answered since."""
        summary = find_summary(self.turn.history)
        if summary is None or summary.reason != "overflow":
            return False
        since = self._since(conversation)
        has_answered = any(isinstance(message, AssistantMessage) for message in since)
        has_answered = has_answered or self._has_answer()
        return self._is_by_this_turn(summary) and not has_answered

    def _has_answer(self) -> bool:
        """Whether the generation has an answer."""
        return any(
            entry["type"] == "assistant_message"
            and entry["generation"] == self._generation
            for entry in self.turn.history
        )

    # --- Compacting -------------------------------------------------------------------

    def _do_as_asked(self, conversation: Conversation) -> None:
        """Head the generation that a person asked for with a summary of what was."""
        asked = generations.find_request(self.broker.database, self.turn)
        if asked is None or self._has_begun():
            return
        with self._fenced() as tx:
            plan = self._plan_as_asked(tx, asked or None)
            if plan is not None:
                self._emit_start(tx, plan)
        if plan is not None:
            self._compact(plan, conversation, self._head)

    def _has_begun(self) -> bool:
        """Whether the generation has its summary, or went on without one."""
        summary = find_summary(self.turn.history)
        has_summary = summary is not None and summary.generation == self._generation
        return has_summary or self._has_answer()

    def _plan_as_asked(self, tx: Transaction, instructions: str | None) -> Plan | None:
        """Summarise all that was said before the turn; None when nothing was."""
        before = generations.conversation_before(tx, self.turn)
        unfinished = generations.oldest_unfinished(tx, self.turn)
        first_kept = _older(self._first_own_entry_id(), unfinished)
        past = tuple(i for i in items_of(before) if i.entry_id < first_kept)
        previous = find_summary(before)
        if not past and previous is None:
            return None
        start = fresh_from(past, past[-1].entry["generation"]) if past else 0
        return Plan(
            reason="manual",
            cut=Cut(past=past, head=(), kept=()),
            first_kept_entry_id=first_kept,
            previous=previous,
            instructions=instructions,
            tokens_before=context_tokens(
                messages_of(past), before=_length(previous), fresh_from=start
            ),
        )

    def _first_own_entry_id(self) -> int:
        """Where the turn's own part begins, which stays."""
        own = (e["id"] for e in self.turn.history if e["turn_id"] == self.turn.id)
        return int(min(own))

    def _make_room(self, reason: Reason, conversation: Conversation) -> bool:
        """Begin a new generation; False when there is nothing to compact."""
        with self._fenced() as tx:
            plan = self._plan(tx, reason, self._tokens(conversation))
            if plan is not None:
                self._emit_start(tx, plan)
        if plan is None:
            return False
        # Between turns the new generation has its prompt made anew; within one, the
        # model goes on under the prompt that it began with.
        is_midway = bool(conversation.answers)

        def begin(tx: Transaction, new: Compaction) -> int:
            return generations.advance(tx, self.turn, new, with_prompt=is_midway)

        self._compact(plan, conversation, begin)
        return True

    def _head(self, tx: Transaction, compaction: Compaction) -> int:
        generations.summarise(tx, self.turn, compaction)
        return self._generation

    def _plan(self, tx: Transaction, reason: Reason, tokens: int) -> Plan | None:
        """Summarise all but the newest part; None when nothing can be cut off."""
        history = self._rebuild(tx, self._generation, generations.WHOLE)
        items = items_of(history)
        said = estimate_all(messages_of(items))
        unfinished = generations.oldest_unfinished(tx, self.turn)
        cut = find_cut(
            items,
            keep_limit(self._window, said),
            keep_messages=KEPT_MESSAGES,
            before_id=unfinished,
        )
        if cut is None:
            return None
        return Plan(
            reason=reason,
            cut=cut,
            first_kept_entry_id=_older(cut.first_kept_entry_id, unfinished),
            previous=find_summary(history),
            instructions=generations.find_later_request(tx, self.turn),
            tokens_before=tokens,
        )

    def _compact(
        self,
        plan: Plan,
        conversation: Conversation,
        commit: Callable[[Transaction, Compaction], int],
    ) -> None:
        """Have the summary written, commit it, and read what there is now."""
        began = time.monotonic()
        written = self._summariser().write(plan)
        took = round(time.monotonic() - began, 3)
        compaction = _compaction(plan, written, self.turn.id, took)
        with self._fenced() as tx:
            generation = commit(tx, compaction)
            self._emit_end(tx, compaction, generation, written.error)
            history = self._rebuild(tx, generation)
        self.turn.agent["generation"] = generation
        self.turn.history[:] = history
        conversation.past, conversation.own = self.split(self.turn)
        conversation.earlier = self._cut_off()
        self._read()
        self.stop.check()

    def _cut_off(self) -> list[Answer]:
        """The turn's answers that are not in its own part any more."""
        if not self._is_by_this_turn(find_summary(self.turn.history)):
            return []
        rows = generations.answers_cut_off(
            self.broker.database, self.turn, self._first_own_entry_id()
        )
        found = to_messages(rows)
        return [each.answer for each in found if isinstance(each, AssistantMessage)]

    def _summariser(self) -> Summariser:
        return Summariser(
            settings=self.broker.settings,
            stop=self.stop,
            model=self.model,
            find_model=self.find_model,
            meter=SummaryMeter(broker=self.broker, turn=self.turn),
        )

    def _rebuild(
        self, tx: Transaction, generation: int, limit: int = HISTORY_LIMIT
    ) -> list[Row]:
        agent_id = self.turn.agent["id"]
        return entries.rebuild(tx, agent_id, generation, self.turn.id, limit)

    def _emit_start(self, tx: Transaction, plan: Plan) -> None:
        agent_id, turn_id = self.turn.agent["id"], self.turn.id
        payload = {"reason": plan.reason}
        events.emit_turn(
            tx,
            agent_id,
            turn_id,
            "compaction_start",
            payload,
            cause_id=self.turn.cause_id,
        )

    def _emit_end(
        self,
        tx: Transaction,
        compaction: Compaction,
        generation: int,
        error: str | None,
    ) -> None:
        agent_id, turn_id = self.turn.agent["id"], self.turn.id
        payload = {
            "reason": compaction.reason,
            "generation": generation,
            "tokens_before": compaction.tokens_before,
            "summarised_by": compaction.summarised_by,
            "will_retry": compaction.reason == "overflow",
            **({"error": error} if error else {}),
        }
        events.emit_turn(
            tx,
            agent_id,
            turn_id,
            "compaction_end",
            payload,
            cause_id=self.turn.cause_id,
        )

    @contextmanager
    def _fenced(self) -> Iterator[Transaction]:
        """A transaction of the worker that holds the turn; else the end of the turn."""
        with fenced(), self.broker.database.write() as tx:
            leases.guard(tx, self.turn.id, self.turn.epoch)
            yield tx


def _older(entry_id: int, other: int | None) -> int:
    return entry_id if other is None else min(entry_id, other)


def _length(summary: Summary | None) -> int:
    return tokens_in(len(summary.text)) if summary else 0


def _compaction(
    plan: Plan, written: Written, turn_id: str, took_seconds: float
) -> Compaction:
    kept = estimate_all(messages_of(plan.cut.kept))
    return Compaction(
        reason=plan.reason,
        summary=written.text,
        first_kept_entry_id=plan.first_kept_entry_id,
        tokens_before=plan.tokens_before,
        summarised_by=written.by,
        details={
            **plan.files.as_json(),
            "turn_id": turn_id,
            "is_split": bool(plan.cut.head),
            "tokens_after": tokens_in(len(written.text)) + kept,
            "usage": written.usage.as_json(),
            "cost_usd": written.cost_usd,
            "took_seconds": took_seconds,
        },
    )
