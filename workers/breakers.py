"""The circuit breakers of all processes, on the database: failover's `Breakers`."""

from __future__ import annotations

import structlog

from agents.models import ModelError
from broker import Broker, breakers

log = structlog.get_logger(__name__)


class SharedBreakers:
    """Asks and tells the database; a provider that does well costs a read a call."""

    def __init__(self, broker: Broker) -> None:
        self._database = broker.database

    def may_try(self, provider: str) -> float:
        """Return 0 when a call may be made, else for how many seconds it may not."""
        if not breakers.has_failed(self._database, provider):
            return 0.0
        with self._database.write(durable=False) as tx:
            return breakers.may_try(tx, provider)

    def went_well(self, provider: str) -> None:
        """A call has been answered."""
        if breakers.has_failed(self._database, provider):
            with self._database.write(durable=False) as tx:
                breakers.went_well(tx, provider)
            log.info("A provider answers again.", provider=provider)

    def failed(self, provider: str, error: ModelError) -> None:
        """A call has failed for a reason that is the provider's."""
        with self._database.write(durable=False) as tx:
            breakers.failed(tx, provider, str(error))
