"""Whatever comes in, is said, goes wrong or dies: no history becomes invalid, and
nobody waits for ever.

A story is drawn: what people say and when, what the model answers, what happens while
it thinks and while its tools run, and at which write a worker dies. It is played on a
real database by workers one after another; then what is left is worked off in peace,
and all that has to hold is judged.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.control import Interrupt
from agents.messages import (
    Answer,
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
    mend,
)
from agents.models.base import CONTEXT_OVERFLOW, ModelError, Request
from agents.tools import Tool, ToolContext, tool
from agents.transcript import to_messages
from broker import agents, entries, generations, recovery, tasks, turns
from broker.agents import AgentChange
from broker.errors import Conflict
from broker.states import Priority

STORIES = 150
# A turn is tried four times; a story has fewer messages than this many turns.
ENOUGH = 400
PAUSE = "x" * 240  # with a small window, enough to be compacted now and then

# --- What a story is made of ----------------------------------------------------------

# What happens while the model thinks or a tool runs: somebody says something, asks for
# a new generation, the worker dies, or it is taken for dead and goes on nevertheless.
ACTS = st.sampled_from(
    ["nothing"] * 6 + ["interrupt", "wake", "normal", "low", "compact", "die", "bury"]
)
TOOLS = st.sampled_from(["look", "book", "mail", "broken", "unknown", "wrong", "exec"])


# What people do between two workers: say something, press stop, ask for a new
# generation, put dead letters back.
SAYINGS = ["wake", "wake", "interrupt", "normal", "low", "stop", "new", "retry"]


@dataclass(frozen=True)
class Play:
    """One answer of the model, and what happens before it."""

    act: str
    kind: str  # text, calls, cut (calls in an answer that was cut off), or an error
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scene:
    """Somebody says something, and then a worker works until it dies, if it does."""

    says: tuple[str, ...]
    dies_at: int | None


PLAYS = st.builds(
    Play,
    act=ACTS,
    kind=st.sampled_from(
        ["text"] * 3 + ["calls"] * 5 + ["cut", "ill", "refused", "too_long"]
    ),
    calls=st.lists(st.tuples(TOOLS, ACTS), min_size=1, max_size=3).map(tuple),
)
SCENES = st.builds(
    Scene,
    says=st.lists(
        st.sampled_from(SAYINGS),
        min_size=1,
        max_size=3,
    ).map(tuple),
    dies_at=st.none() | st.integers(1, 25),
)


# --- Who plays it ---------------------------------------------------------------------


class Died(BaseException):
    """The process is gone: nothing of it runs any more, not even a handler."""


@dataclass
class Mortal:
    """A database until its worker dies, at a write or by an act; then none."""

    database: Any
    dies_at: int | None
    is_dead: bool = False
    writes: Iterator[int] = field(default_factory=lambda: count(1))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    @contextmanager
    def write(self, **more: Any) -> Iterator[Any]:
        number = next(self.writes)
        self.is_dead |= self.dies_at == number
        if self.is_dead:
            raise Died
        with self.database.write(**more) as tx:
            yield tx
        # The next number is the place behind the commit.
        self.is_dead |= self.dies_at == next(self.writes)
        if self.is_dead:
            raise Died


@dataclass
class Stage:
    """A house with an agent of its own, and what has happened there."""

    house: Any
    workshop: Any
    id: str
    plays: list[Play]
    window: int
    posted: list[int] = field(default_factory=list)
    mailed: Counter[str] = field(default_factory=Counter)
    acted: set[str] = field(default_factory=set)
    retried: Counter[str] = field(default_factory=Counter)
    is_peaceful: bool = False
    requests: list[Request] = field(default_factory=list)
    worker: str = ""
    database: Mortal | None = None

    # The model.

    name: str = "player"

    @property
    def context_tokens(self) -> int:
        return self.window

    def stream(
        self, request: Request, emit: Callable[..., None], interrupt: Interrupt
    ) -> Answer:
        if not request.tools:
            return Answer(text="A summary.")
        self.requests.append(request)
        play = self.plays.pop(0) if self.plays else Play("nothing", "text")
        self.act(play.act)
        if play.act == "interrupt":
            interrupt.set()  # as the keeper does
        if interrupt.is_raised:
            said = "As far as" if play.kind == "text" else ""
            return Answer(text=said, stop_reason="interrupted")
        return self._answer(play)

    def _answer(self, play: Play) -> Answer:
        if play.kind in ("ill", "refused", "too_long"):
            is_ill = play.kind == "ill"
            kind = CONTEXT_OVERFLOW if play.kind == "too_long" else "http"
            raise ModelError(play.kind, kind=kind, is_retriable=is_ill)
        usage = Usage(input_tokens=len(self.requests[-1].messages))
        if play.kind == "text":
            return Answer(text=PAUSE, usage=usage)
        calls = tuple(
            # Ids that come again in every answer, as those of some providers do.
            ToolCall(id=f"call_{index}", name=name, arguments=_arguments(name, act))
            for index, (name, act) in enumerate(play.calls)
        )
        stop: Any = "length" if play.kind == "cut" else "tool_use"
        return Answer(text="", tool_calls=calls, stop_reason=stop, usage=usage)

    # The tools.

    @property
    def tools(self) -> list[Tool]:
        @tool(effect="pure")
        def look(context: ToolContext, act: str) -> ToolResult:
            """Look."""
            self.act_once(context, act)
            return ToolResult(text=PAUSE)

        @tool(effect="idempotent")
        def book(context: ToolContext, act: str) -> ToolResult:
            """Book under the key."""
            self.act_once(context, act)
            return ToolResult(text=context.key)

        @tool(effect="at_most_once")
        def mail(context: ToolContext, act: str) -> ToolResult:
            """Mail."""
            self.mailed[context.key] += 1
            self.act_once(context, act)
            return ToolResult(text="mailed")

        @tool(effect="pure")
        def broken(context: ToolContext, act: str) -> ToolResult:
            """Break."""
            self.act_once(context, act)
            raise ZeroDivisionError

        return [look, book, mail, broken]

    # The world.

    def act_once(self, context: ToolContext, act: str) -> None:
        """Act, but not in peace, nor when the call is made again after a death."""
        if context.key not in self.acted and not self.is_peaceful:
            self.acted.add(context.key)
            self.act(act)

    def act(self, act: str) -> None:
        if act in list(Priority):
            self.post(Priority(act))
        elif act == "die":
            assert self.database is not None
            self.database.is_dead = True
            raise Died
        elif act == "bury":
            self.workshop.bury(self.worker)
        elif act in ("compact", "new"):
            with self.house.write() as tx:
                generations.compact(tx, self.id, None)
        elif act == "stop":
            self._interrupt()
        elif act == "retry":
            self._retry()

    def post(self, priority: Priority) -> None:
        text = f"message {len(self.posted)}"
        self.posted.append(
            self.house.post(text, to=self.id, priority=priority).event_id
        )

    def _retry(self) -> None:
        """A person puts every dead letter back."""
        for row in self.house.database.read(
            "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn'"
            " AND status = 'failed'",
            self.id,
        ):
            with self.house.write() as tx:
                tasks.retry(tx, row["id"])
            self.retried[row["id"]] += 1

    def _interrupt(self) -> None:
        try:
            with self.house.write() as tx:
                turns.interrupt(tx, self.id)
        except Conflict:
            pass  # nothing to interrupt

    def work(self, dies_at: int | None) -> None:
        """Let a worker work until nothing is left that it may do, or it dies."""
        self.worker = f"{self.id}-{len(self.requests)}-{dies_at}"
        self.database = Mortal(self.house.database, dies_at)
        taker = self.workshop.taker(self, name=self.worker, tools=self.tools)
        taker.broker = replace(self.house.broker, database=self.database)
        try:
            for _ in range(ENOUGH):
                if not (waiting := self._next()):
                    return
                taker.take(waiting)
                if self.database.is_dead:
                    raise Died  # a tool's thread has died, and the process with it
        except Died:
            pass
        finally:
            taker.pool.shutdown()
            self.workshop.bury(self.worker)
        assert dies_at is not None or self.plays == [] or self.database.is_dead

    def _next(self) -> str | None:
        """End what turns wait for, let back-offs pass; a turn that may be taken."""
        for row in self.house.database.read(
            "SELECT id FROM tasks WHERE agent_id = ? AND type = 'exec'"
            " AND status = 'queued'",
            self.id,
        ):
            claimed = self.house.claim(row["id"], by="exec-worker")
            with self.house.write() as tx:
                tasks.complete(tx, row["id"], claimed["epoch"], 4)
        with self.house.write() as tx:
            tx.execute("UPDATE waits SET deadline_at = 1 WHERE deadline_at IS NOT NULL")
            recovery.wake_due(tx)
            tx.execute(
                "UPDATE tasks SET not_before_at = NULL WHERE agent_id = ?", self.id
            )
        row = self.house.database.read_one(
            "SELECT id FROM tasks WHERE agent_id = ? AND type = 'turn'"
            " AND status = 'queued' AND absorbed_by IS NULL ORDER BY rank, seq LIMIT 1",
            self.id,
        )
        return row["id"] if row else None


def _arguments(name: str, act: str) -> dict[str, Any] | None:
    if name == "exec":
        return {"code": "4", "wait_seconds": 60 if act == "nothing" else 0}
    return {"how": act} if name == "wrong" else {"act": act}


# --- What has to hold -----------------------------------------------------------------


def judge(stage: Stage) -> None:
    for request in stage.requests:
        check_conversation(request.messages)
    history = entries.list_after(stage.house.database, stage.id, limit=10_000)
    check_entries(history)
    rows = stage.house.database.read(
        "SELECT * FROM tasks WHERE agent_id = ? AND type = 'turn'", stage.id
    )
    check_turns(stage, rows)
    check_messages(stage, history, {row["id"]: row["status"] for row in rows})
    assert max(stage.mailed.values(), default=0) <= 1, "mailed twice"


def check_conversation(messages: tuple[Message, ...]) -> None:
    """What a provider is sent: each call has one result, behind its answer, in order;
    a person begins and does not leave the word to the model before it was asked."""
    assert list(messages) == mend(messages)
    assert isinstance(messages[0], UserMessage)
    if isinstance(messages[-1], AssistantMessage):
        pytest.fail("the model is asked to go on where it has answered")
    check_results(list(messages))


def check_results(messages: list[Message]) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message, AssistantMessage):
            continue
        called = [call.id for call in message.answer.tool_calls]
        behind = messages[index + 1 : index + 1 + len(called)]
        answered = [each.call_id for each in behind if isinstance(each, ToolMessage)]
        assert answered == called
    results = sum(isinstance(message, ToolMessage) for message in messages)
    calls = sum(
        len(message.answer.tool_calls)
        for message in messages
        if isinstance(message, AssistantMessage)
    )
    assert results == calls


def check_entries(history: list[dict[str, Any]]) -> None:
    """A line without forks; within a turn, results only behind their calls, in order,
    and none missing but at the end of a turn that did not end well."""
    parents = [entry["parent_id"] for entry in history]
    assert len(parents) == len(set(parents))
    for turn_id in {entry["turn_id"] for entry in history} - {None}:
        said = to_messages([e for e in history if e["turn_id"] == turn_id])
        check_results(mend(said))
        # All that mending adds is at the end, and it takes nothing away.
        assert mend(said)[: len(said)] == said


def check_turns(stage: Stage, rows: list[dict[str, Any]]) -> None:
    """Every turn is over, once and once for each retry, and holds nothing."""
    assert {row["status"] for row in rows} <= {"completed", "failed", "cancelled"}
    assert [row for row in rows if row["lease_owner"] is not None] == []
    agent = agents.get(stage.house.database, stage.id)
    assert (agent["state"], agent["unread"]) == ("idle", _unread_of_the_dead(stage))
    told = stage.house.events(scope=f"agent/{stage.id}")
    ended = Counter(e["subject"] for e in told if e["kind"] == "agent_end")
    assert ended == Counter(row["id"] for row in rows) + stage.retried
    left = stage.house.database.read(
        "SELECT steps.* FROM steps JOIN tasks ON tasks.id = steps.task_id"
        " WHERE tasks.agent_id = ? AND tasks.status = 'completed'"
        " AND steps.status IN ('planned', 'started')",
        stage.id,
    )
    assert left == []
    waits = stage.house.database.read(
        "SELECT waits.* FROM waits JOIN tasks ON tasks.id = waits.task_id"
        " WHERE tasks.agent_id = ?",
        stage.id,
    )
    assert waits == []


def _unread_of_the_dead(stage: Stage) -> int:
    """A failed turn keeps its inputs unread, for a retry."""
    rows = stage.house.database.read(
        "SELECT COUNT(*) AS n FROM marks JOIN tasks ON tasks.id = marks.turn_id"
        " WHERE marks.reader = ? AND tasks.status = 'failed'"
        " AND marks.read_at IS NULL",
        stage.id,
    )
    return int(rows[0]["n"])


def check_messages(
    stage: Stage, history: list[dict[str, Any]], status: dict[str, str]
) -> None:
    """Each message is answered by exactly one turn, unless its turn failed."""
    heard: dict[int, list[str]] = {event_id: [] for event_id in stage.posted}
    for entry in history:
        for event_id in (entry["data"] or {}).get("event_ids", []):
            if event_id in heard:
                heard[event_id].append(entry["turn_id"])
    marks = stage.house.database.read(
        "SELECT event_id, turn_id FROM marks WHERE reader = ?", stage.id
    )
    taken = {row["event_id"]: row["turn_id"] for row in marks}
    for event_id, by in heard.items():
        # A dead letter that a person puts back had taken in what another turn has
        # answered since; its model reads a note in that place (test_steering.py).
        answered = [
            id
            for id in by
            if status[id] == "completed"
            and (id == taken[event_id] or id not in stage.retried)
        ]
        if status[taken[event_id]] == "failed":
            assert answered == []
        else:
            assert answered == [taken[event_id]], (event_id, by, status)


# --- The play -------------------------------------------------------------------------


@pytest.fixture
def stage(house, workshop) -> Callable[..., Stage]:
    """An agent of its own for each story, in one house."""
    numbers = count(1)

    def make(plays: list[Play], *, mode: str, window: int) -> Stage:
        id = f"actor-{next(numbers)}"
        with house.write() as tx:
            agents.upsert(tx, id, AgentChange(metadata={"tool_execution": mode}))
        return Stage(house, workshop, id, list(plays), window)

    return make


@settings(
    max_examples=STORIES,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    plays=st.lists(PLAYS, max_size=12),
    scenes=st.lists(SCENES, min_size=1, max_size=4),
    mode=st.sampled_from(["parallel", "sequential"]),
    window=st.sampled_from([200_000, 1_000]),
)
def test_whatever_happens_every_history_is_valid_and_every_message_answered_once(
    stage, plays: list[Play], scenes: list[Scene], mode: str, window: int
) -> None:
    played = stage(plays, mode=mode, window=window)
    for scene in scenes:
        for each in scene.says:
            played.act(each)
        played.work(scene.dies_at)
    played.plays, played.is_peaceful = [], True
    played.work(None)
    played.post(Priority.WAKE)  # takes along what never wakes by itself
    played.work(None)
    judge(played)


# --- What it has found ----------------------------------------------------------------


def test_a_generation_asked_for_between_two_workers_leaves_no_result_without_its_call(
    stage,
) -> None:
    calls = [Play("nothing", "calls", (("look", "nothing"),))]
    played = stage(calls, mode="sequential", window=200_000)
    played.post(Priority.WAKE)
    played.work(dies_at=8)  # the call is begun
    played.act("new")
    played.work(None)
    played.post(Priority.WAKE)
    played.work(None)
    kinds = [type(message).__name__ for message in played.requests[-1].messages]
    assert kinds == [
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
        "AssistantMessage",
        "UserMessage",
    ]
    judge(played)


def test_a_turn_that_is_interrupted_after_a_death_leaves_no_step_begun(stage) -> None:
    played = stage([], mode="parallel", window=200_000)
    played.post(Priority.WAKE)
    played.work(dies_at=6)  # the model is asked
    played.post(Priority.INTERRUPT)
    played.work(None)
    judge(played)
