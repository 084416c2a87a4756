"""How long the client of an SDK is kept."""

from __future__ import annotations

import asyncio

from agents.models.clients import KEPT, Clients


class Opened:
    """Clients that are only names, and which of them were closed."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.clients: Clients[str] = Clients(self._open, self._close)

    def _open(self, base_url: str | None, key: str) -> str:
        self.opened.append(f"{base_url} {key}")
        return self.opened[-1]

    async def _close(self, client: str) -> None:
        self.closed.append(client)

    async def use(self, *keys: str) -> None:
        for key in keys:
            async with self.clients.lend("a", key) as client:
                assert client == f"a {key}"


KEYS = [str(number) for number in range(KEPT)]


def test_a_client_is_opened_once_for_a_server_and_a_key() -> None:
    opened = Opened()
    asyncio.run(opened.use("k", "k", "l", "k"))
    assert (opened.opened, opened.closed) == (["a k", "a l"], [])


def test_the_client_that_was_lent_longest_ago_is_closed() -> None:
    opened = Opened()
    asyncio.run(opened.use(*KEYS, "0", "new"))
    assert opened.closed == ["a 1"]


def test_a_client_is_not_closed_while_a_call_has_it() -> None:
    opened = Opened()

    async def overtaken() -> None:
        async with opened.clients.lend("a", "slow"):
            await opened.use(*KEYS, "new")
            assert opened.closed == ["a 0"]

    asyncio.run(overtaken())
    assert opened.closed == ["a 0", "a slow"]


def test_what_another_loop_opened_is_left_alone() -> None:
    opened = Opened()
    asyncio.run(opened.use("k"))
    asyncio.run(opened.use("k", *KEYS))
    assert opened.opened.count("a k") == 2
    assert opened.closed == ["a k"]
