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
    agent_id: str | None = None
    # The name under which later code of that agent has the result.
    variable: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has reached a final state."""
        return self.status in ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """How a wait ended: the first task that is over (or the first asked for), those
    that are not, and what cut the wait short, if something did: an event that wakes, or
    an interrupt of the turn."""

    task: TaskView
    pending: tuple[str, ...]
    wake: dict[str, Any] | None = None
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file from the home or from the net; `path` is relative to the home."""

    name: str
    content: bytes
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPage:
    """Characters of a text artifact; `next_offset` is None at its end."""

    text: str
    name: str
    media_type: str
    total_characters: int
    next_offset: int | None


class RuntimeRefused(Exception):
    """The runtime cannot do what a tool asked; the message is for the model."""


class Runtime(Protocol):
    """The verbs that tools have. `key` makes each of them happen once, however often it
    is asked for; a refusal is a RuntimeRefused."""

    def start_exec(
        self, key: str, code: str, id: str | None, *, waits: bool
    ) -> TaskView:
        """Queue TypeScript. Its end wakes the agent unless somebody waits."""

    def wait_for(self, step: int, task_ids: Sequence[str], seconds: float) -> Waited:
        """Park the turn until the first of these is over, the time is, or a waking
        message has come."""

    def send(self, key: str, target_id: str, body: str) -> dict[str, Any]:
        """Say something to an agent, or write a line to an exec's input."""

    def delegate(self, key: str, agent_id: str, text: str, *, waits: bool) -> TaskView:
        """Ask another agent (made if it is new); return the turn that will answer.
        Unless somebody waits, the answer comes as a message."""

    def kill(self, task_id: str, reason: str | None) -> None:
        """Kill a task and its children."""

    def read_artifact(self, handle: str, offset: int, limit: int) -> ArtifactPage:
        """Read a piece of a text artifact that this agent may read."""

    def artifact_bytes(self, handle: str) -> bytes:
        """Return the whole content of an artifact that this agent may read."""

    def keep_file(self, key: str, name: str, media_type: str, content: bytes) -> str:
        """Keep a file beside the result of the step of this key; return its handle."""

    def read_home_file(self, path: str, max_bytes: int) -> FoundFile:
        """Read a file of the home directory, and nothing outside of it."""

    def fetch(self, url: str, max_bytes: int) -> FoundFile:
        """Download from a public address."""

    def recall(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Find what was said in this agent's past: `{entry_id, at, who, snippet}`."""
