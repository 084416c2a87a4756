"""One Roost that most tests share, one that tests may kill, and agents by the dozen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import JSON, Agent, Api, System, write_script

NewAgent = Callable[..., Agent]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running Roost for all tests that leave it alive; each uses its own agents."""
    shared = System(tmp_path_factory.mktemp("shared") / "home")
    try:
        shared.start()
        yield shared
    finally:
        shared.clean_up()


@pytest.fixture
def api(system: System) -> Api:
    """The API of the Roost that is shared."""
    return system.api


@pytest.fixture(scope="session")
def _mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    mortal = System(tmp_path_factory.mktemp("mortal") / "home")
    try:
        yield mortal
    finally:
        mortal.clean_up()


@pytest.fixture
def mortal(_mortal: System) -> System:
    """A running, idle Roost that a test may stop or kill; the next starts it again.

    Work that the test before has left would only draw every stop out.
    """
    if not _mortal.is_running:
        _mortal.start()
    for status in ("queued", "running", "waiting"):
        for task in _mortal.api.items("/tasks", status=status):
            _mortal.api.send("POST", f"/api/v1/tasks/{task['id']}/kill", json={})
    return _mortal


@pytest.fixture
def new_agent(tmp_path: Path) -> Callable[..., Agent]:
    """Make an agent of a system, with a script of its own if one is given."""

    def make(on: Api, script: Sequence[JSON] | None = None, **fields: Any) -> Agent:
        number = next(_numbers)
        if script is not None:
            fields["model"] = write_script(tmp_path / f"script-{number}.json", script)
        shown = on.post("/agents", {"id": f"tester-{number}", **fields})
        return Agent(on, shown["id"])

    return make


@pytest.fixture
def scripted(api: Api, new_agent: NewAgent) -> NewAgent:
    """Make an agent of the shared system that replays the responses given."""
    return lambda *script: new_agent(api, script)


@pytest.fixture
def demo(api: Api, new_agent: NewAgent) -> Agent:
    """A new agent of the shared system with the demo model."""
    return new_agent(api)
