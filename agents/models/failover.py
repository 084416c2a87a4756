"""Failover: the first of several models that can answer, does.

A model is passed over while its provider is known to be down, and for a conversation
with images when another of the list can see them. (The smallest window of the list
counts for all, so what one can take, each can.) When one fails before it has said a
word, the next is asked at once. When it has begun to speak, the try fails as always:
the runtime tries the step again, and comes back here with what has been learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from agents.control import Interrupt
from agents.messages import Answer, Message, ToolMessage, UserMessage
from agents.models.base import CONTEXT_OVERFLOW, Delta, Model, ModelError, Request
from agents.models.catalogue import known

# What another provider may do better: this one is not set up, knows no such model, or
# has one that cannot call tools.
_ANOTHERS: Final = frozenset(
    {
        "missing_key",
        "missing_sdk",
        "unauthorized",
        "forbidden",
        "unknown_model",
        "unable",
    }
)
# Of these nobody was asked: they say nothing of how a provider is.
_UNASKED: Final = frozenset({"missing_key", "missing_sdk", "hook_failed", "unable"})


class Breakers(Protocol):
    """Which providers are down, as all processes have seen it."""

    def may_try(self, provider: str) -> float:
        """Return 0 when a call may be made, else for how many seconds it may not."""

    def went_well(self, provider: str) -> None:
        """A call has been answered."""

    def failed(self, provider: str, error: ModelError) -> None:
        """A call has failed for a reason that is the provider's."""


@dataclass(frozen=True, slots=True)
class Failover:
    """Several models behind the seam of one, in the order in which they are asked."""

    models: Sequence[Model]
    breakers: Breakers

    @property
    def name(self) -> str:
        """The names of all, with a comma between."""
        return ",".join(model.name for model in self.models)

    @property
    def context_tokens(self) -> int:
        """The smallest window: what is compacted for it fits all."""
        return min(model.context_tokens for model in self.models)

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer by the first model that can; raise the last one's error if none."""
        error: ModelError | None = None
        for model in self._fitting(request):
            spoken = _Spoken(emit)
            try:
                answer = self._ask(model, request, spoken, interrupt)
            except ModelError as failure:
                if spoken.has_begun or not _is_anothers(failure):
                    raise
                error = _sooner(error, failure)
            else:
                return replace(answer, model=model.name)
        assert error is not None
        raise error

    def _fitting(self, request: Request) -> Sequence[Model]:
        if not any(_has_image(message) for message in request.messages):
            return self.models
        seeing = [model for model in self.models if known(model.name).takes_images]
        return seeing or self.models

    def _ask(
        self, model: Model, request: Request, spoken: _Spoken, interrupt: Interrupt
    ) -> Answer:
        provider = model.name.partition("/")[0]
        if rest := self.breakers.may_try(provider):
            raise ModelError(
                f"{provider} has failed too often and is left alone for {rest:.0f} s.",
                kind="resting",
                is_retriable=True,
                retry_after_seconds=rest,
            )
        try:
            answer = model.stream(request, spoken, interrupt)
        except ModelError as error:
            if error.is_retriable:
                self.breakers.failed(provider, error)
            elif error.kind not in _UNASKED:
                self.breakers.went_well(provider)  # it has answered, if with a no
            raise
        self.breakers.went_well(provider)
        return answer


@dataclass(frozen=True, slots=True)
class Unopened:
    """A model of a list that cannot be opened here: the others may serve without."""

    name: str
    error: ModelError

    @property
    def context_tokens(self) -> int:
        """How many tokens a conversation with it might have."""
        return known(self.name).context_tokens

    def stream(
        self,
        request: Request,  # noqa: ARG002
        emit: Callable[[Delta], None],  # noqa: ARG002
        interrupt: Interrupt,  # noqa: ARG002
    ) -> Answer:
        """Say why it could not be opened."""
        raise ModelError(str(self.error), kind=self.error.kind, is_retriable=False)


class _Spoken:
    """Passes deltas on, and remembers whether there was one."""

    def __init__(self, emit: Callable[[Delta], None]) -> None:
        self._emit = emit
        self.has_begun = False

    def __call__(self, delta: Delta) -> None:
        self.has_begun = True
        self._emit(delta)


def _has_image(message: Message) -> bool:
    if isinstance(message, UserMessage):
        return any(block["type"] == "image" for block in message.content)
    return isinstance(message, ToolMessage) and any(
        block["type"] == "image" for block in message.result.blocks
    )


def _is_anothers(error: ModelError) -> bool:
    """Whether another provider may do better."""
    return error.kind in _ANOTHERS or (
        error.is_retriable and error.kind != CONTEXT_OVERFLOW
    )


def _sooner(known: ModelError | None, new: ModelError) -> ModelError:
    """Of several failures, the one that is mended by waiting, and by the least."""
    if known is None or (new.is_retriable and not known.is_retriable):
        return new
    if not new.is_retriable:
        return known
    return min(known, new, key=lambda error: error.retry_after_seconds or 0.0)
