"""A vendor's model, guarded: nobody is asked to do what it certainly cannot (A2), and
its key stays out of what is said about its failures.

The first use of a model in a process asks whether it can call tools; see `probe`. What
is not known goes on, and is not asked about again. A model that cannot is asked about
again: somebody may have pulled it meanwhile, or set another address.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agents.control import Interrupt
from agents.messages import Answer
from agents.models.base import Delta, Model, ModelError, Request
from agents.models.probe import Probe, probe
from agents.models.provider import Access
from agents.models.redaction import redact

Address = tuple[str, str | None]


@dataclass(slots=True, eq=False)
class Probes:
    """Which models a process has asked about; those of one address wait for one."""

    ask: Callable[[str, Access], Probe] = probe
    _passed: set[Address] = field(default_factory=set)
    _locks: defaultdict[Address, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def refuse_if_unable(self, name: str, access: Access) -> None:
        """Raise ModelError when a model certainly cannot call tools; takes no longer
        than a probe, once."""
        address = (name, access.base_url)
        if address in self._passed:
            return
        with self._locks[address]:
            if address in self._passed:
                return
            found = self.ask(name, access)
            if found.ok is False:
                raise ModelError(
                    f"{found.detail} Then retry this turn.",
                    kind="unable",
                    is_retriable=False,
                )
            self._passed.add(address)


PROBES: Final = Probes()


@dataclass(frozen=True, slots=True)
class Guarded:
    """A model behind the seam that it has itself."""

    model: Model
    access: Access
    probes: Probes = field(default=PROBES, compare=False)

    @property
    def name(self) -> str:
        """`provider/model`."""
        return self.model.name

    @property
    def context_tokens(self) -> int:
        """How many tokens a conversation with it may have."""
        return self.model.context_tokens

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        """Answer the request; see `Model`."""
        if request.tools:
            self.probes.refuse_if_unable(self.name, self.access)
        try:
            return self.model.stream(request, emit, interrupt)
        except ModelError as error:
            # Some servers repeat the key that they refuse.
            error.args = (redact(str(error), [self.access.find_key()]),)
            raise
