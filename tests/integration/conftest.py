"""A whole house in one process: turns and execs are run as their hints come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agents.models.base import Model
from agents.models.scripted import ScriptedModel
from agents.tools import Tool, builtin_tools
from broker import recovery
from broker.leases import Worker
from broker.updates import CHANNEL
from sandbox.job import Sandbox
from sandbox.scripted import ScriptedSandbox
from workers.batcher import Batcher
from workers.execs import ExecRunner
from workers.keeper import Keeper
from workers.turns import TurnTaker


class Died(BaseException):
    """The process is gone: nothing of it runs any more, not even a handler."""


@dataclass
class Counted:
    """A model that counts how often it was asked, and may die instead of answering."""

    model: Model
    dies_at: int = 0
    asked: int = 0

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def context_tokens(self) -> int:
        return self.model.context_tokens

    def stream(self, *arguments: Any) -> Any:
        self.asked += 1
        if self.asked == self.dies_at:
            raise Died
        return self.model.stream(*arguments)


@dataclass
class Workshop:
    """Workers of one home. Each has a name; when it dies, its name loses its leases."""

    house: Any
    batcher: Batcher = field(default_factory=Batcher)
    drain: threading.Event = field(default_factory=threading.Event)

    def taker(
        self,
        model: Model | Callable[[str | None], Model],
        name: str = "worker-1",
        tools: Iterable[Tool] = (),
    ) -> TurnTaker:
        find = model if callable(model) else lambda _: model
        worker = Worker(owner=name)
        return TurnTaker(
            broker=self.house.broker,
            worker=worker,
            keeper=Keeper(self.house.broker, worker, self.drain),
            batcher=self.batcher,
            default_model=None,
            find_model=find,
            tools=(*builtin_tools(), *tools),
        )

    def runner(self, sandbox: Sandbox, name: str = "exec-worker") -> ExecRunner:
        worker = Worker(owner=name)
        return ExecRunner(
            broker=self.house.broker,
            worker=worker,
            keeper=Keeper(self.house.broker, worker, self.drain),
            batcher=self.batcher,
            sandbox=sandbox,
            home=self.house.broker.settings.home,
            bell=self.house.broker.bells.listen(CHANNEL),
        )

    def work(self, taker: TurnTaker, runner: ExecRunner | None = None) -> None:
        """Handle hints, and those that come of it, until there is none left."""
        while self.house.hints:
            id = self.house.hints.pop(0)
            if self.house.task(id)["type"] == "turn":
                taker.take(id)
            elif runner is not None:
                runner.run(id)

    def bury(self, name: str = "worker-1") -> None:
        """Do what the scheduler does when it sees a worker dead."""
        with self.house.write() as tx:
            recovery.expire(tx, owner=name)


@pytest.fixture
def workshop(house) -> Workshop:
    """Workers of an empty home with one agent, `scout`."""
    house.agent()
    return Workshop(house)


@pytest.fixture
def scripted() -> Callable[..., Counted]:
    """A counted model from a script."""

    def make(*responses: dict[str, Any], dies_at: int = 0) -> Counted:
        return Counted(ScriptedModel(list(responses)), dies_at=dies_at)

    return make


@pytest.fixture
def sandbox() -> Callable[..., ScriptedSandbox]:
    """A sandbox from outcomes."""

    def make(*outcomes: Any, **more: Any) -> ScriptedSandbox:
        return ScriptedSandbox(outcomes, **more)

    return make


@pytest.fixture
def died() -> type[Died]:
    """What a dying worker raises."""
    return Died


@pytest.fixture
def bare_sandbox(tmp_path: Path) -> Sandbox:
    """The real thing without its cage: a Bun process."""
    from sandbox import choose

    return choose("off", scratch=tmp_path / "scratch")
