"""What tools may ask of the world outside the loop; `workers` fulfils it."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How a wait ended: the first task that is over (or the first asked for), those
    that are not, and the event that cut the wait short, if one did."""

    task: TaskView
    pending: tuple[str, ...]
    wake: dict[str, Any] | None = None


class RuntimeRefused(Exception):
    """The runtime cannot do what a tool asked; the message is for the model."""


class Runtime(Protocol):
    """The verbs that tools have. `key` makes each of them happen once, however often it
    is asked for; a refusal is a RuntimeRefused."""

    def start_exec(self, key: str, code: str, id: str | None) -> TaskView:
        """Queue an exec of TypeScript."""

    def wait_for(self, step: int, task_ids: Sequence[str], seconds: float) -> Waited:
        """Park the turn until the first of these is over, the time is, or a waking
        message has come."""

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        """Say something to an agent, or write a line to an exec's input."""

    def delegate(self, key: str, agent_id: str, text: str) -> TaskView:
        """Ask another agent (made if it is new); return the turn that will answer."""

    def kill(self, task_id: str, reason: str | None) -> None:
        """Kill a task and its children."""
