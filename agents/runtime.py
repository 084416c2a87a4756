"""What tools may ask of the world outside the loop; `workers` fulfils it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as a tool sees it."""

    id: str
    status: str
    result: Any = None
    error: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has reached a final state."""
        return self.status in ("completed", "failed", "cancelled")


class RuntimeRefused(Exception):
    """The runtime cannot do what a tool asked; the message is for the model."""


class Runtime(Protocol):
    """The verbs that tools have. `key` makes each of them happen once, however often it
    is asked for; a refusal is a RuntimeRefused."""

    def start_exec(self, key: str, code: str, id: str | None) -> TaskView:
        """Queue an exec of TypeScript."""

    def wait_for(self, step: int, task_id: str, seconds: float) -> TaskView:
        """Return the task when it is over or the time is; park the turn until then."""

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        """Say something to an agent, or write a line to an exec's input."""

    def delegate(self, key: str, agent_id: str, text: str) -> TaskView:
        """Ask another agent (made if it is new); return the turn that will answer."""

    def kill(self, task_id: str, reason: str | None) -> None:
        """Kill a task and its children."""
