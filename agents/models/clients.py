"""SDK clients, kept for as long as the process: each has a pool of connections.

A client belongs to the event loop that opened it, and is asked for on that loop. A
forked child leaves its parent's clients alone: to close one would end the parent's
connections, which are the same sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# Short-lived keys make new clients; beyond these, the oldest that rest are closed.
KEPT: Final = 8

Client = TypeVar("Client")
Address = tuple[str | None, str]


@dataclass(slots=True)
class _Kept(Generic[Client]):
    client: Client
    calls: int = 0


class Clients(Generic[Client]):
    """The clients of one SDK, by server and key."""

    def __init__(
        self,
        open_client: Callable[[str | None, str], Client],
        close_client: Callable[[Client], Awaitable[None]],
    ) -> None:
        self._open, self._close = open_client, close_client
        self._of_loop: dict[
            asyncio.AbstractEventLoop, dict[Address, _Kept[Client]]
        ] = {}

    @asynccontextmanager
    async def lend(self, base_url: str | None, key: str) -> AsyncIterator[Client]:
        """Lend the client for a server and a key to one call."""
        all_kept = self._of_loop.setdefault(asyncio.get_running_loop(), {})
        address = (base_url, key)
        kept = all_kept.pop(address, None) or _Kept(self._open(base_url, key))
        all_kept[address] = kept  # the last is the one lent last
        kept.calls += 1
        try:
            yield kept.client
        finally:
            kept.calls -= 1
            for old in self._outdated(all_kept):
                await self._close(old)

    def _outdated(self, all_kept: dict[Address, _Kept[Client]]) -> list[Client]:
        surplus = list(all_kept)[: max(len(all_kept) - KEPT, 0)]
        at_rest = [each for each in surplus if all_kept[each].calls == 0]
        return [all_kept.pop(each).client for each in at_rest]
