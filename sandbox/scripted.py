"""A sandbox that runs nothing: a shipped double behind the same protocol."""

from collections.abc import Callable, Sequence

from sandbox.control import Control
from sandbox.errors import ScriptError
from sandbox.job import Job, nothing
from sandbox.outcome import Outcome, Output
from sandbox.policy import Policy


class ScriptedSandbox:
    """Give the outcomes of a script, one a job, in order.

    `outputs` are emitted before the first outcome. `jobs` and `policies` record what
    was asked for. As a context manager, or by `finish`, an outcome that no job took is
    an error, as is a job too many.
    """

    level = "scripted"
    detail = "scripted: no code is run"

    def __init__(
        self, outcomes: Sequence[Outcome], *, outputs: Sequence[Output] = ()
    ) -> None:
        self.jobs: list[Job] = []
        self.policies: list[Policy] = []
        self._outcomes = list(outcomes)
        self._outputs = list(outputs)

    def run(
        self,
        job: Job,
        policy: Policy,
        *,
        emit: Callable[[Output], None],
        control: Control,
        on_start: Callable[[Control], None] = nothing,
    ) -> Outcome:
        """Take the next outcome. Raises `ScriptError` when the script is at its end."""
        if not self._outcomes:
            raise ScriptError(f"job {job.id} is not in the script: it is at its end")
        self.jobs.append(job)
        self.policies.append(policy)
        on_start(control)
        for output in self._outputs:
            emit(output)
        self._outputs.clear()
        return self._outcomes.pop(0)

    def finish(self) -> None:
        """Raise `ScriptError` when outcomes are left."""
        if self._outcomes:
            raise ScriptError(f"{len(self._outcomes)} scripted outcomes were not taken")

    def __enter__(self) -> "ScriptedSandbox":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
