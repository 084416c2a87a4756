"""Having a summary written: one or two model calls, or a digest by rule.

Whatever happens to the model, there is a summary: compaction never fails a turn. No
transaction is open meanwhile, and nothing is written down here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from agents import summaries
from agents.compaction import (
    CHARACTERS_PER_TOKEN,
    Cut,
    Item,
    Summary,
    estimate_all,
    threshold,
    tokens_in,
)
from agents.control import Stop
from agents.messages import Message, Usage, UserMessage
from agents.models.base import Model, ModelError, Request
from agents.summaries import Files
from broker.generations import Reason
from broker.settings import Settings
from workers.metering import SummaryMeter

# A summary in the full form may always be this long, however short what it replaces.
SUMMARY_CHARACTERS: Final = 2_000
# A digest of next to nothing still has its headings.
DIGEST_CHARACTERS: Final = 800
# What asks for a summary beside the transcript, generously.
ASK_CHARACTERS: Final = 3_000
DIGEST: Final = "digest"

log = structlog.get_logger(__name__)


class NoSummary(Exception):
    """The model gave no summary that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to be compacted, and why."""

    reason: Reason
    cut: Cut
    first_kept_entry_id: int
    previous: Summary | None
    instructions: str | None
    tokens_before: int

    @property
    def previous_text(self) -> str | None:
        """The summary so far."""
        return self.previous.text if self.previous else None

    @property
    def replaced_characters(self) -> int:
        """About how long the text is that the summary takes the place of."""
        said = estimate_all(messages_of(self.cut.summarised)) * CHARACTERS_PER_TOKEN
        return len(self.previous_text or "") + said

    @property
    def files(self) -> Files:
        """The files that were read and modified so far."""
        known = Files.of_details(self.previous.details if self.previous else {})
        return summaries.files_in(messages_of(self.cut.summarised), known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A summary, who wrote it, what that used and cost (None where nobody knows), and
    why it was not the model."""

    text: str
    by: str
    usage: Usage
    cost_usd: float | None = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summariser:
    """Has summaries written by the fast model, or the turn's own where none is set."""

    settings: Settings
    stop: Stop
    model: Model
    find_model: Callable[[str | None], Model]
    meter: SummaryMeter
    # What each call so far has used and cost: also those that came to nothing.
    _calls: list[tuple[Usage, float | None]] = field(default_factory=list, init=False)

    def write(self, plan: Plan) -> Written:
        """Return a summary, always; raise a TurnControl when the turn has to leave."""
        try:
            written = self._by_model(plan)
        except NoSummary as error:
            log.warning(
                "No summary was written; a digest by rule takes its place.",
                error=str(error),
            )
            written = _by_rule(plan, str(error))
        return replace(
            written,
            text=summaries.with_files(written.text, plan.files),
            usage=sum((usage for usage, _ in self._calls), Usage()),
            cost_usd=self._cost(),
        )

    def _cost(self) -> float | None:
        known = [cost for _, cost in self._calls if cost is not None]
        return None if len(known) < len(self._calls) else sum(known, 0.0)

    def _by_model(self, plan: Plan) -> Written:
        past, head = messages_of(plan.cut.past), messages_of(plan.cut.head)
        if plan.previous and not past and not head:  # asked for twice, nothing between
            return Written(text=plan.previous.text, by=plan.previous.by, usage=Usage())
        model = self._choose()
        room = self._room(model, plan.previous_text)
        said, about_head = plan.previous_text, None
        if past:
            ask = summaries.ask_for_summary(past, said, plan.instructions, room)
            said = self._ask(model, ask)
        if head:
            about_head = self._ask(model, summaries.ask_for_head(head, room))
        text = summaries.merge(said, about_head)
        if len(text) > max(plan.replaced_characters, SUMMARY_CHARACTERS):
            raise NoSummary("The summary is longer than what it would replace.")
        return Written(text=text, by=model.name, usage=Usage())

    def _choose(self) -> Model:
        name = self.settings.fast_model
        try:
            return self.find_model(name) if name else self.model
        except ModelError as error:
            raise NoSummary(str(error)) from error

    def _room(self, model: Model, previous: str | None) -> int:
        """How many characters of a transcript the model can take."""
        window = self.settings.context_tokens or model.context_tokens
        room = threshold(window) * CHARACTERS_PER_TOKEN - len(previous or "")
        return max(room - ASK_CHARACTERS, ASK_CHARACTERS)

    def _ask(self, model: Model, text: str) -> str:
        """Make a model call that no journal keeps: it has no effect but its text."""
        self.stop.check()
        length = tokens_in(len(summaries.SYSTEM) + len(text))
        request = Request(
            system=summaries.SYSTEM,
            messages=(UserMessage(content=[{"type": "text", "text": text}]),),
            tools=(),
            max_output_tokens=self.meter.before(model.name, length),
        )
        try:
            answer = model.stream(request, lambda _: None, self.stop.interrupt)
        except ModelError as error:
            self.stop.check()
            raise NoSummary(str(error)) from error
        except Exception as error:
            # The last resort holds whatever a model does, bugs in its adapter included:
            # an agent that cannot be compacted could not be talked to any more.
            log.exception("A model that was to write a summary broke.")
            raise NoSummary(f"{type(error).__name__}: {error}") from error
        cost = self.meter.after(answer.model or model.name, answer.usage)
        self._calls.append((answer.usage, cost))
        if answer.stop_reason == "interrupted":
            self.stop.check()
            raise NoSummary("The summary was interrupted.")
        if answer.stop_reason == "refusal" or not answer.text.strip():
            raise NoSummary(f"{model.name} answered without a summary.")
        return answer.text


def _by_rule(plan: Plan, why: str) -> Written:
    limit = max(plan.replaced_characters, DIGEST_CHARACTERS)
    text = summaries.digest(
        messages_of(plan.cut.summarised),
        plan.previous_text,
        min(limit, summaries.DIGEST_CHARACTERS),
    )
    return Written(text=text, by=DIGEST, usage=Usage(), error=why)


def messages_of(items: Sequence[Item]) -> list[Message]:
    """Return the items' messages."""
    return [item.message for item in items]
