"""The system prompt of a generation: made once, frozen, the same bytes at every call.

`PROMPT.ts` of the home runs as a task of its own on the exec queue (so it runs caged,
and no `agents` process needs Bun); what it prints is the prompt. The turn parks
meanwhile. `MEMORY.md`, the notes of two days and the agent's own system text follow it.
The result is an entry of the history, and stays until the next generation, so that
providers' caches stay warm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agents.control import Parked, Waiting
from agents.models import ToolSpec
from agents.prompt import compose
from agents.thinker import Prompt
from agents.tools import Registry
from broker import Broker, entries, json, leases, tasks, turns, updates
from broker.database import Row, Transaction
from broker.entries import NewEntry
from broker.states import Priority
from broker.tasks import NewTask
from broker.times import SECOND_US, now_us
from broker.turns import Turn
from workers.fence import fenced

PROMPT_SECONDS: Final = 30.0
# The step number under which a turn waits for its prompt: before every real step.
PROMPT_STEP: Final = 0
# What a prompt that failed is told of its error output, in characters from its end.
STDERR_CHARACTERS: Final = 2_000


class PromptFailed(Exception):
    """PROMPT.ts gave no prompt."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(
            f"PROMPT.ts gave no prompt ({task_id}): {why}\n"
            "Mend the file in ROOST_HOME, then retry the turn."
        )
        self.task_id = task_id

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        return {"type": "prompt_failed", "message": str(self), "task_id": self.task_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMaker:
    """Finds or makes the frozen prompt of a turn's generation."""

    broker: Broker
    home: Path | None
    now: Callable[[], int] = now_us

    def prompt_for(self, turn: Turn, tools: Registry) -> Prompt:
        """Return the prompt; park the turn while PROMPT.ts runs."""
        if frozen := self._frozen(turn, tools):
            return frozen
        memory = self._read("MEMORY.md") or ""
        system = turn.agent["system"]
        text = compose(self._printed(turn), memory, system, self._notes())
        self._freeze(turn, text, tools)
        return Prompt(system=text, tools=tools.specs())

    def _frozen(self, turn: Turn, tools: Registry) -> Prompt | None:
        """The prompt as it was made. Of its tools those are left out that the agent has
        no longer: who takes one away means now."""
        database, agent = self.broker.database, turn.agent
        text = entries.find_prompt(database, agent["id"], agent["generation"])
        if text is None:
            return None
        shown = entries.find_tools(database, agent["id"], agent["generation"])
        if shown is None:
            return Prompt(system=text, tools=tools.specs())
        there = {spec.name for spec in tools.specs()}
        kept = tuple(ToolSpec(**each) for each in shown if each["name"] in there)
        return Prompt(system=text, tools=kept)

    def _printed(self, turn: Turn) -> str | None:
        """What PROMPT.ts prints, or None where there is no PROMPT.ts."""
        code = self._read("PROMPT.ts")
        if code is None or not code.strip():
            return None
        with fenced(), self.broker.database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            task = _prompt_task(tx, turn, code)
        if task["finished_at"] is None:
            deadline_at = now_us() + int(2 * PROMPT_SECONDS * SECOND_US)
            why = {"kind": "prompt", "task_ids": [task["id"]]}
            raise Parked(
                Waiting(
                    step=PROMPT_STEP,
                    target_ids=(task["id"],),
                    deadline_at=deadline_at,
                    why=why,
                )
            )
        return self._output(task)

    def _output(self, task: Row) -> str:
        if task["status"] != "completed":
            raise PromptFailed(task["id"], json.load(task["error"])["message"])
        text = self._put_out(task["id"], "stdout")
        if not text:
            said = self._put_out(task["id"], "stderr")[-STDERR_CHARACTERS:]
            raise PromptFailed(task["id"], f"it printed nothing. {said}".strip())
        return text

    def _put_out(self, task_id: str, stream: str) -> str:
        """What its last run printed: one whose worker died may have printed, too."""
        printed: list[str] = []
        for update in updates.list_after(self.broker.database, task_id, limit=1000):
            if update["kind"] == "started":
                printed.clear()
            elif update["kind"] == stream:
                printed.append(update["payload"]["text"])
        return "".join(printed).strip()

    def _notes(self) -> dict[str, str]:
        """The notes of yesterday and of today, in UTC (G112)."""
        today = datetime.fromtimestamp(self.now() / SECOND_US, UTC).date()
        days = [str(today - timedelta(days=1)), str(today)]
        return {day: self._read(f"memory/{day}.md") or "" for day in days}

    def _read(self, name: str) -> str | None:
        path = self.home / name if self.home else None
        return path.read_text(errors="replace") if path and path.is_file() else None

    def _freeze(self, turn: Turn, text: str, tools: Registry) -> None:
        agent = turn.agent
        shown = [{"type": "json", "json": spec.as_json()} for spec in tools.specs()]
        with fenced(), self.broker.database.write() as tx:
            leases.guard(tx, turn.id, turn.epoch)
            turns.forget_wait(tx, turn.id, PROMPT_STEP)
            entries.append(
                tx,
                agent["id"],
                agent["generation"],
                None,
                NewEntry(type="tools_config", role=None, content=shown),
                NewEntry(
                    type="system_prompt",
                    role="system",
                    content=[{"type": "text", "text": text}],
                ),
            )


def _prompt_task(tx: Transaction, turn: Turn, code: str) -> Row:
    """Queue PROMPT.ts for this attempt of this generation, or find it queued."""
    agent = turn.agent
    row, _ = tasks.create(
        tx,
        NewTask(
            type="prompt",
            payload={"code": code, "timeout_seconds": PROMPT_SECONDS},
            agent_id=agent["id"],
            parent_id=turn.id,
            priority=Priority.WAKE,
            cause_id=turn.cause_id,
            key=f"prompt/{agent['id']}/{agent['generation']}/{turn.id}/{turn.attempts}",
        ),
    )
    return row
