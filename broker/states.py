"""The states and their transitions, once in Python; the schema's CHECKs and the diagram
in docs/explanation/states.md are proved equal to these by a test."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskStatus(StrEnum):
    """Where a task is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
)

# running → queued: a lease ran out, a drain handed over, or a failure is retried.
# queued → completed: the turn that ran has read its message, and answered for it.
# failed → queued: a person retries a dead letter.
TASK_TRANSITIONS: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    TaskStatus.QUEUED: frozenset(
        {
            TaskStatus.RUNNING,
            TaskStatus.COMPLETED,
            TaskStatus.FAILED,
            TaskStatus.CANCELLED,
        }
    ),
    TaskStatus.RUNNING: frozenset(
        {
            TaskStatus.QUEUED,
            TaskStatus.WAITING,
            TaskStatus.COMPLETED,
            TaskStatus.FAILED,
            TaskStatus.CANCELLED,
        }
    ),
    TaskStatus.WAITING: frozenset(
        {TaskStatus.QUEUED, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset({TaskStatus.QUEUED}),
    TaskStatus.CANCELLED: frozenset(),
}


class AgentState(StrEnum):
    """What an agent is doing; it never completes."""

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"


class StepStatus(StrEnum):
    """How far one journalled effect has come."""

    PLANNED = "planned"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


STEP_TRANSITIONS: Final[dict[StepStatus, frozenset[StepStatus]]] = {
    StepStatus.PLANNED: frozenset({StepStatus.STARTED, StepStatus.FAILED}),
    StepStatus.STARTED: frozenset(
        {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.UNCERTAIN}
    ),
    StepStatus.SUCCEEDED: frozenset(),
    StepStatus.FAILED: frozenset({StepStatus.STARTED}),
    StepStatus.UNCERTAIN: frozenset(),
}


class Priority(StrEnum):
    """How much an event hurries whoever it is for."""

    INTERRUPT = "interrupt"
    WAKE = "wake"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent; what the database orders by."""
        return _RANKS[self]

    @property
    def wakes(self) -> bool:
        """Whether an event of this priority starts a turn."""
        return self in (Priority.INTERRUPT, Priority.WAKE)


_RANKS: Final = {priority: rank for rank, priority in enumerate(Priority)}


class Stream(StrEnum):
    """The event streams."""

    TASK_INPUT = "task_input"
    TASK_OUTPUT = "task_output"
    SIGNALS = "signals"
    ERRORS = "errors"
    EXTERNAL = "external"
    HISTORY = "history"
