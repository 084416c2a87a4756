"""Taking a turn: claim, think, settle. Each leaves the database whole.

The claim is one transaction, so is every step of the thinking, so is the settling; the
process may die between any two of them, and another worker goes on from the last.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from agents.control import (
    Abandoned,
    Cancelled,
    HandedOver,
    OutOfTime,
    Parked,
    Stop,
)
from agents.hooks import HookFailed, Hooks
from agents.loop import LimitReached, Thought, think
from agents.messages import Message, mend
from agents.models import THINKING, Model, ModelError, Thinking, open_model
from agents.thinker import Limits, Prompt, Thinker
from agents.tools import Registry, Tool, builtin_tools
from agents.transcript import to_messages
from broker import Broker, json, steering, tasks, turns
from broker.errors import LeaseLost
from broker.leases import Worker
from broker.turns import Park, Reply, Turn
from workers import http_tools
from workers.batcher import Batcher
from workers.compaction import Compactor
from workers.dumps import Dumps
from workers.http_tools import ToolsError
from workers.inbox import TurnInbox
from workers.keeper import Keeper
from workers.logbook import LoggedJournal
from workers.prompt import PROMPT_STEP, PromptFailed, PromptMaker
from workers.runtime import TurnRuntime

log = structlog.get_logger(__name__)

# A turn may work for this long at a stretch; what it waits for does not count.
TURN_SECONDS: Final = 3600.0
# Tool calls of all turns of a process that run at the same time.
CALLS_AT_ONCE: Final = 16
# An agent's metadata may ask for its tool calls one by one (P31).
TOOL_EXECUTION: Final = "tool_execution"
# And how much its model is to think before it answers (P36).
THINKING_LEVEL: Final = "thinking"


@dataclass(slots=True)
class TurnHolder:
    """How the keeper talks to a running turn."""

    control: Stop
    ends_at: float = field(default_factory=lambda: time.monotonic() + TURN_SECONDS)

    def tick(self) -> None:
        """End the turn when it has worked for too long."""
        if time.monotonic() > self.ends_at:
            self.control.ask(OutOfTime(TURN_SECONDS))

    def lost(self) -> None:
        """Write nothing more."""
        self.control.ask(Abandoned())

    def stop(self, verb: str, reason: str | None) -> None:
        """Cut a model call short; when cancelled, leave at the next boundary, too."""
        if verb == "cancel":
            self.control.ask(Cancelled(reason))
        else:
            self.control.interrupt.set()

    def drain(self) -> None:
        """Hand over at the next boundary."""
        self.control.ask(HandedOver())

    def drain_now(self) -> None:
        """Cut the model call short, and hand over."""
        self.control.cut_short()


@dataclass(slots=True, kw_only=True)
class TurnTaker:
    """Takes turns in one `agents` process."""

    broker: Broker
    worker: Worker
    keeper: Keeper
    batcher: Batcher
    default_model: str | None
    home: Path | None = None
    find_model: Callable[[str | None], Model] = open_model
    tools: tuple[Tool, ...] = field(default_factory=builtin_tools)
    hooks: Hooks = field(default_factory=Hooks)
    limits: Limits = field(default_factory=Limits)
    dumps: Dumps | None = None
    pool: Executor = field(
        default_factory=lambda: ThreadPoolExecutor(CALLS_AT_ONCE, "call")
    )

    def take(self, hinted_id: str) -> None:
        """Handle a hint: claim a turn of that agent and take it, or drop the hint."""
        turn = self._claim(hinted_id)
        if turn is None:
            return
        stop = Stop()
        if turn.is_interrupted:
            stop.interrupt.set()
        with self.keeper.holding(turn.id, turn.epoch, TurnHolder(stop)):
            self._take(turn, stop)

    def _claim(self, hinted_id: str) -> Turn | None:
        try:
            with self.broker.database.write() as tx:
                return turns.claim(tx, hinted_id, self.worker)
        except Exception as error:
            log.exception("A turn cannot be claimed.", task_id=hinted_id)
            failure = _as_failure(error)
            self._write(lambda tx: turns.claim_failed(tx, hinted_id, failure))
            return None

    def _take(self, turn: Turn, stop: Stop) -> None:
        bound = log.bind(task_id=turn.id, agent_id=turn.agent["id"])
        bound.info(
            "A turn is taken.",
            action="inbound",
            attempt=turn.attempts,
            events=[
                {"id": each["id"], "kind": each["kind"], "source": each["source"]}
                for each in turn.inputs
            ],
        )
        try:
            self._settle(turn, stop)
        except (Abandoned, LeaseLost):
            bound.warning("The turn lost its lease; another worker has it.")

    def _settle(self, turn: Turn, stop: Stop) -> None:
        """Think, and write down how it came out, whatever that is."""
        try:
            thought = self._think(turn, stop)
        except Parked as parked:
            self._park(turn, parked)
        except HandedOver:
            self._write(lambda tx: tasks.hand_over(tx, turn.id, turn.epoch))
        except Cancelled as cancelled:
            reason = cancelled.reason
            self._write(lambda tx: turns.cancel(tx, turn, reason))
        except ModelError as error:
            self._fail(turn, error.as_json(), is_retriable=error.is_retriable)
        except (LimitReached, OutOfTime, PromptFailed, ToolsError, HookFailed) as error:
            self._fail(turn, error.as_json(), is_retriable=False)
        except LeaseLost:
            raise
        except Exception as error:
            log.exception("A turn failed.", task_id=turn.id)
            self._fail(turn, _as_failure(error), is_retriable=True)
        else:
            self._complete(turn, thought)

    def _think(self, turn: Turn, stop: Stop) -> Thought:
        find_model = self._find_model(turn)
        model = find_model(turn.model or self.default_model)
        tools = self._tools(turn)
        compactor = Compactor(
            broker=self.broker,
            turn=turn,
            stop=stop,
            model=model,
            find_model=find_model,
            split=split,
        )
        thinker = Thinker(
            model=model,
            tools=tools,
            journal=LoggedJournal(self.broker, turn, self.batcher),
            runtime=TurnRuntime(self.broker, turn, stop),
            stop=stop,
            inbox=TurnInbox(self.broker, turn, stop),
            prompt=self._prompt(turn, tools),
            agent_id=turn.agent["id"],
            turn_id=turn.id,
            hooks=self.hooks,
            limits=self.limits,
            context=compactor,
            pool=self._pool(turn),
            thinking=_thinking(turn),
        )
        return think(thinker, *split(turn))

    def _find_model(self, turn: Turn) -> Callable[[str | None], Model]:
        if self.dumps is None:
            return self.find_model
        return self.dumps.recording(turn.agent["id"], turn.id, self.find_model)

    def _tools(self, turn: Turn) -> Registry:
        declared = http_tools.load(self.home)
        named = json.load(turn.agent["tools"])
        return Registry((*self.tools, *declared)).only(named)

    def _prompt(self, turn: Turn, tools: Registry) -> Callable[[], Prompt]:
        """Find or make the prompt when it is needed, once for a generation."""
        prompts = PromptMaker(broker=self.broker, home=self.home)
        known: dict[int, Prompt] = {}

        def prompt() -> Prompt:
            generation = int(turn.agent["generation"])
            if generation not in known:
                known[generation] = prompts.prompt_for(turn, tools)
            return known[generation]

        return prompt

    def _pool(self, turn: Turn) -> Executor | None:
        mode = json.load(turn.agent["metadata"]).get(TOOL_EXECUTION)
        return None if mode == "sequential" else self.pool

    def _complete(self, turn: Turn, thought: Thought) -> None:
        reply = Reply(
            text=thought.text,
            usage=thought.usage.as_json(),
            is_interrupted=thought.is_interrupted,
        )
        self._write(lambda tx: steering.complete(tx, turn, reply))
        log.info(
            "A turn is done.",
            action="outbound",
            task_id=turn.id,
            agent_id=turn.agent["id"],
            interrupted=thought.is_interrupted,
            **thought.usage.as_json(),
        )

    def _park(self, turn: Turn, parked: Parked) -> None:
        waits = [
            Park(
                step=wait.step,
                target_ids=wait.target_ids,
                deadline_at=wait.deadline_at,
                why=wait.why,
            )
            for wait in parked.waits
        ]
        heeds = all(wait.step > PROMPT_STEP for wait in waits)
        self._write(lambda tx: turns.park(tx, turn, waits, heeds=heeds))

    def _fail(self, turn: Turn, error: dict[str, Any], *, is_retriable: bool) -> None:
        self._write(lambda tx: turns.fail(tx, turn, error, retriable=is_retriable))
        log.warning(
            "A turn failed; it is tried again unless it has been too often.",
            action="error",
            task_id=turn.id,
            agent_id=turn.agent["id"],
            error=error["message"],
            attempt=turn.attempts,
        )

    def _write(self, act: Callable[..., object]) -> None:
        with self.broker.database.write() as tx:
            act(tx)


def split(turn: Turn) -> tuple[list[Message], list[Message]]:
    """Split the history into what was before this turn and the turn's own part."""
    past = [entry for entry in turn.history if entry["turn_id"] != turn.id]
    own = [entry for entry in turn.history if entry["turn_id"] == turn.id]
    return mend(to_messages(past)), to_messages(own)


def _thinking(turn: Turn) -> Thinking | None:
    wanted = json.load(turn.agent["metadata"]).get(THINKING_LEVEL)
    if wanted is None:
        return None
    for level in THINKING:
        if level == wanted:
            return level
    raise ModelError(
        f"The agent's metadata has `thinking` {wanted!r}; it must be one of "
        f"{', '.join(THINKING)}. Change it, then retry this turn.",
        kind="bad_thinking",
        is_retriable=False,
    )


def _as_failure(error: Exception) -> dict[str, Any]:
    return {
        "type": "turn_failed",
        "message": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error))[-8_000:],
    }
