"""Who can reach a Roost: its owner, on this machine."""

from __future__ import annotations

import stat

from tests.acceptance import processes
from tests.acceptance.system import System

LOOPBACK = "0100007F"  # 127.0.0.1, as /proc/net/tcp writes it


def test_the_token_is_its_owners_alone(system: System) -> None:
    path = system.home / "token"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) >= 32


def test_the_database_is_its_owners_alone(system: System) -> None:
    modes = {
        path.name: oct(stat.S_IMODE(path.stat().st_mode) & 0o077)
        for path in system.home.glob("*.db*")
    }

    assert {"roost.db", "queue.db"} <= set(modes)
    assert set(modes.values()) == {oct(0)}


def test_nothing_listens_beyond_the_loopback(system: System) -> None:
    listening = processes.listening_addresses(system.processes())

    assert listening == {f"{LOOPBACK}:{system.port:04X}"}


def test_no_answer_and_no_page_names_the_token(system: System) -> None:
    token = system.api.token
    assert token is not None

    for path in ("/", "/docs", "/health", "/ready", "/metrics", "/openapi.json"):
        assert token not in system.api.send("GET", path).text
    assert token not in system.api.send("GET", "/api/v1/state").text
