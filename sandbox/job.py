"""What goes into a sandbox: the job, and the protocol every level speaks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.control import Control
from sandbox.outcome import Outcome, Output
from sandbox.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """TypeScript to run once.

    `home` is the directory whose `core/` and `tools/` the code may import, read-only.
    `bindings` are earlier results that the code finds as `$results`, `$last` and
    `$result1` …: a line each, oldest first, of its number, a space and one-line JSON; a
    number alone is a result that there was no room for.
    """

    id: str
    code: str
    home: Path | None = None
    bindings: bytes | None = None


def nothing(_control: Control) -> None:
    """Do nothing: the `on_start` of a caller that records no process."""


class Sandbox(Protocol):
    """A place to run jobs in.

    `level` is its name (`bubblewrap`, `bare`, `scripted`); `detail` is a sentence for
    `doctor` and the dashboard that says what holds and what is weaker here.
    """

    @property
    def level(self) -> str: ...

    @property
    def detail(self) -> str: ...

    def run(
        self,
        job: Job,
        policy: Policy,
        *,
        emit: Callable[[Output], None],
        control: Control,
        on_start: Callable[[Control], None] = nothing,
    ) -> Outcome:
        """Run the job to its end in the calling thread.

        The thread must live as long as the job: the job dies with it. `on_start` is
        called once `control.pid` is known, before the code has been let loose for
        long; `emit` is called for each piece of output. An exception from either
        kills the job and passes through.
        """
        ...
