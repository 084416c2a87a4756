"""Every error that the broker raises on purpose, under one root.

The API maps these to problem documents, so each carries the values it speaks of.
"""

from __future__ import annotations

from typing import ClassVar


class BrokerError(Exception):
    """The broker refused."""

    slug: ClassVar[str] = "refused"
    status: ClassVar[int] = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(BrokerError):
    """Nothing has that id."""

    slug = "not-found"
    status = 404

    def __init__(self, noun: str, id: str, *, nearest: str | None = None) -> None:
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        super().__init__(f"There is no {noun} {id[:100]!r}.{hint}")
        self.noun, self.id = noun, id


class BadId(BrokerError):
    """An id of the caller's own does not follow the rule."""

    slug = "bad-id"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"The id {id[:80]!r} is not allowed: it must match "
            "^[a-z]([a-z0-9-]*[a-z0-9])?$ and have at most 64 characters."
        )
        self.id = id


class BadLabel(BrokerError):
    """A label does not follow the rule."""

    slug = "bad-label"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The label {name[:80]!r} is not allowed: it has letters, digits, dots, "
            "underscores and hyphens, begins with a letter or digit, and has at most "
            "64 characters."
        )
        self.name = name


class Conflict(BrokerError):
    """The row is not in a state that allows the verb."""

    slug = "conflict"
    status = 409


class WrongTransition(Conflict):
    """A task may not go from where it is to where it was sent."""

    slug = "wrong-transition"

    def __init__(self, task_id: str, status: str, wanted: str) -> None:
        super().__init__(f"Task {task_id} is {status}; it cannot become {wanted}.")
        self.task_id, self.task_status, self.wanted = task_id, status, wanted


class LeaseLost(Conflict):
    """The writer's lease is gone: another worker has, or had, the task."""

    slug = "lease-lost"

    def __init__(self, task_id: str, epoch: int) -> None:
        super().__init__(
            f"Epoch {epoch} of task {task_id} is over: the lease ran out, or the task "
            "ended. Drop the work; whoever holds the new epoch goes on with it."
        )
        self.task_id, self.epoch = task_id, epoch


class TooManyWaiting(BrokerError):
    """Back-pressure: what waits has reached its bound; nothing was accepted."""

    slug = "too-many-waiting"
    status = 429

    def __init__(self, what: str, limit: int, *, retry_after_seconds: int = 5) -> None:
        super().__init__(
            f"{what} has reached its limit of {limit}; nothing was accepted. "
            f"Try again in {retry_after_seconds} s."
        )
        self.limit, self.retry_after_seconds = limit, retry_after_seconds


class AgentLimit(Conflict):
    """An agent has reached a limit of what agents may start by themselves."""

    slug = "agent-limit"

    def __init__(self, what: str, limit: int, advice: str) -> None:
        super().__init__(f"{what}; the limit is {limit}. {advice}")
        self.limit = limit


class ChainStopped(Conflict):
    """Agents have written to one another for too long with no word of a person."""

    slug = "chain-stopped"

    def __init__(
        self,
        detail: str,
        *,
        chain: tuple[int, ...],
        agents: tuple[str, ...],
        hops: int,
        target: str,
    ) -> None:
        super().__init__(detail)
        self.chain, self.agents, self.hops = chain, agents, hops
        self.target = target


class UnknownPrice(Conflict):
    """A limit is in money, and nobody knows what the model costs."""

    slug = "unknown-price"

    def __init__(self, model: str, agent_id: str, scope: str) -> None:
        super().__init__(
            f"Agent {agent_id} has a limit in money ({scope}.usd), and nobody knows "
            f"what {model} costs. Set ROOST_PRICES to "
            f'{{"{model}": {{"input": USD, "output": USD}}}}, in dollars per million '
            "tokens, and restart; or take the limit away (roost budget "
            f"{agent_id} --clear {scope}.usd). Then retry this turn."
        )
        self.model, self.agent_id, self.scope = model, agent_id, scope


class SchemaError(BrokerError):
    """The database's schema and this Roost do not fit."""

    slug = "schema"
    status = 503


class SettingsError(BrokerError):
    """A setting has a value that Roost cannot use."""

    slug = "settings"
    status = 500
