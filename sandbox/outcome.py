"""What comes out of a job: output while it runs, one outcome at its end.

Plain values. Everything in them that a job can influence (result, text, exit code)
is untrusted input to whoever reads it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

FailureType: TypeAlias = Literal[
    "exec_failed",
    "timeout",
    "output_limit",
    "result_too_large",
    "bad_result",
    "memory_limit",
    "cpu_limit",
    "killed",
    "setup_failed",
    "missing_code",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of what the job printed; characters and blank tails are never split."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The policy field that ended a job, and its value."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job did not complete, in a sentence for the model and the log."""

    type: FailureType
    message: str
    limit: Limit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended.

    `completed`: exit 0 and a readable result. `killed`: `Control.kill` ended it.
    `failed`: everything else, limits included; `error` says which. `result` is what
    the code had set by then, `None` when nothing. `exit_code` is 128 + N for a death
    by signal N, `None` when no process ran.
    """

    status: Literal["completed", "failed", "killed"]
    result: JSON = None
    exit_code: int | None = None
    error: Failure | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    output_truncated: bool = False
