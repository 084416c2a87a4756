"""What a turn's model calls may use and have used, for `broker.budgets`.

Used by the journal for the turn's answers, and here for the summaries within it, which
no step stands for. Wherever a budget has no room, the turn is parked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agents.control import Parked, Waiting
from agents.messages import Usage
from agents.models import ModelError
from agents.models.catalogue import known
from agents.thinker import Estimate
from broker import Broker, budgets, leases
from broker.budgets import Ask, Grant, Refusal, Used
from broker.errors import UnknownPrice
from broker.limits import Busy
from broker.turns import Turn
from workers.fence import fenced
from workers.prices import Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryMeter:
    """Reserves and counts the model calls of a turn that write summaries. They are no
    rounds, and their time is counted with the answer that they made room for."""

    broker: Broker
    turn: Turn

    def before(self, model_name: str, input_tokens: int) -> int | None:
        """Reserve a call; return how long its answer may be, if that is bounded."""
        turn = self.turn
        estimate = Estimate(
            input_tokens=input_tokens,
            output_tokens=max(known(n).output_tokens for n in model_name.split(",")),
        )
        asked = ask(self._prices, model_name, estimate, rounds=0)
        with priced(), fenced(), self.broker.database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            granted = budgets.reserve(tx, turn.id, turn.agent["id"], asked)
            if isinstance(granted, Grant):
                budgets.hold(tx, turn.id, budgets.STEP, granted)
        if isinstance(granted, Refusal):
            raise parked(granted)
        return granted.max_output_tokens

    def after(self, model_name: str, usage: Usage) -> float | None:
        """Count what a call has used in place of that; return what it has cost."""
        turn, cost = self.turn, self._prices.cost(model_name, usage)
        tokens = sum(usage.as_json().values())
        with fenced(), self.broker.database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            spent = Used(tokens=tokens, cost_usd=cost)
            budgets.settle(tx, turn.id, turn.agent["id"], spent)
        return cost

    @property
    def _prices(self) -> Prices:
        return Prices(self.broker.settings.prices)


def ask(
    prices: Prices,
    model_name: str,
    estimate: Estimate,
    *,
    worked_seconds: float = 0.0,
    rounds: int = 1,
) -> Ask:
    """Say what a call may use at the most, and what that costs."""
    rate = prices.rate(model_name, estimate.input_tokens)
    return Ask(
        model=model_name,
        input_tokens=estimate.input_tokens,
        output_tokens=estimate.output_tokens,
        input_usd=rate.input_usd if rate else None,
        output_token_usd=rate.output_token_usd if rate else None,
        worked_seconds=worked_seconds,
        rounds=rounds,
    )


def parked(refused: Refusal | Busy) -> Parked:
    """Return what parks a turn until there is room; raise it after the commit."""
    return Parked(
        Waiting(
            step=budgets.STEP,
            target_ids=(refused.target,),
            deadline_at=refused.deadline_at,
            why=refused.why,
        )
    )


@contextmanager
def priced() -> Iterator[None]:
    """Fail the turn, with what to do, where a limit is in money and no price known."""
    try:
        yield
    except UnknownPrice as error:
        raise ModelError(
            error.detail, kind="unknown_price", is_retriable=False
        ) from error
