"""The scripted sandbox gives what its script says, and nothing else."""

import pytest

from sandbox import Control, Job, Outcome, Output, Policy, ScriptError
from sandbox.scripted import ScriptedSandbox

DONE = Outcome(status="completed", result=1)


def test_outcomes_come_in_order_and_jobs_are_recorded() -> None:
    other = Outcome(status="failed")
    job = Job(id="exec-1", code="1")
    outputs: list[Output] = []
    started: list[Control] = []
    control = Control()
    with ScriptedSandbox(
        [DONE, other], outputs=[Output(stream="stdout", text="hello")]
    ) as sandbox:
        first = sandbox.run(
            job,
            Policy(),
            emit=outputs.append,
            control=control,
            on_start=started.append,
        )
        second = sandbox.run(job, Policy(), emit=outputs.append, control=control)
    assert [first, second] == [DONE, other]
    assert outputs == [Output(stream="stdout", text="hello")]
    assert started == [control]
    assert sandbox.jobs == [job, job]


def test_a_job_too_many_is_an_error() -> None:
    sandbox = ScriptedSandbox([])
    with pytest.raises(ScriptError, match="exec-1"):
        sandbox.run(Job(id="exec-1", code=""), Policy(), emit=print, control=Control())


def test_an_outcome_no_job_took_is_an_error() -> None:
    with pytest.raises(ScriptError, match="1 scripted"), ScriptedSandbox([DONE]):
        pass


def test_an_exception_inside_is_not_covered_up() -> None:
    with pytest.raises(KeyError), ScriptedSandbox([DONE]):
        raise KeyError
