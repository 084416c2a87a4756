"""Every priority in every phase of a turn, and what became of both messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agents.messages import ToolResult as Result
from agents.messages import UserMessage, close_abandoned_calls
from agents.models.base import Delta, Request
from agents.models.scripted import ScriptedModel
from agents.tools.registry import ToolContext, tool
from agents.transcript import to_messages
from broker import agents, entries, generations, recovery, tasks
from broker.agents import AgentChange
from broker.states import Priority
from broker.times import now_us
from sandbox.outcome import Outcome
from sandbox.output import Output

LONG_SECONDS = 20
INTERRUPT, WAKE, NORMAL, LOW = Priority
ALL = [INTERRUPT, WAKE, NORMAL, LOW]

# What becomes of the first turn and of the second message, where it came in while …
# `own`: it has a turn of its own, after the first. `joined`: the first turn answers it.
# `later`: it waits for a turn that somebody else wakes.
Fate = tuple[str, str]
INTERRUPTED: Fate = ("", "own")
FATES: dict[tuple[str, Priority], Fate] = {
    # … the model had not said a word yet,
    ("silent", INTERRUPT): INTERRUPTED,
    ("silent", WAKE): ("first", "own"),
    ("silent", NORMAL): ("first\n\nsecond", "joined"),
    ("silent", LOW): ("first", "later"),
    # … the model was speaking,
    ("streaming", INTERRUPT): ("fi", "own"),
    ("streaming", WAKE): ("fi rst", "own"),
    ("streaming", NORMAL): ("fi rst\n\nsecond", "joined"),
    ("streaming", LOW): ("fi rst", "later"),
    # … the first of two calls was made, one by one,
    ("calling", INTERRUPT): INTERRUPTED,
    ("calling", WAKE): ("second", "joined"),
    ("calling", NORMAL): ("first\n\nsecond", "joined"),
    ("calling", LOW): ("first", "later"),
    # … it waited for an exec,
    ("waiting", INTERRUPT): INTERRUPTED,
    ("waiting", WAKE): ("second", "joined"),
    ("waiting", NORMAL): ("first\n\nsecond", "joined"),
    ("waiting", LOW): ("first", "later"),
    # … it waited for its prompt,
    ("prompting", INTERRUPT): INTERRUPTED,
    ("prompting", WAKE): ("first", "own"),
    ("prompting", NORMAL): ("first\n\nsecond", "joined"),
    ("prompting", LOW): ("first", "later"),
    # … and its past was being summarised.
    ("compacting", INTERRUPT): INTERRUPTED,
    ("compacting", WAKE): ("first", "own"),
    ("compacting", NORMAL): ("first\n\nsecond", "joined"),
    ("compacting", LOW): ("first", "later"),
}


@dataclass
class Disturbed:
    """A scripted model during whose first call something happens: before its first
    token, after it, or while it summarises."""

    responses: list[dict[str, Any]]
    phase: str
    act: Callable[[], None] = lambda: None
    name: str = "disturbed"
    context_tokens: int = 200_000
    asked: list[Request] = field(default_factory=list)

    def stream(self, request: Request, emit: Any, interrupt: Any) -> Any:
        self.asked.append(request)
        is_summary = not request.tools
        is_first = len([each for each in self.asked if each.tools]) == 1
        if is_summary and self.phase == "compacting":
            self.act()
        if is_summary:
            return ScriptedModel([{"text": "A summary."}]).stream(
                request, emit, interrupt
            )
        if is_first and self.phase == "silent":
            self.act()

        def heard(delta: Delta) -> None:
            emit(delta)
            if is_first and self.phase == "streaming" and delta.text == "fi":
                self.act()

        return ScriptedModel(self.responses).stream(request, heard, interrupt)


def script(phase: str, priority: Priority) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"text": "first"}
    if phase == "silent" and priority is INTERRUPT:
        first["delay_seconds"] = LONG_SECONDS
    if phase == "streaming":
        first = {"text": "fi rst"}
        if priority is INTERRUPT:
            first["token_seconds"] = 0.2
    if phase == "calling":
        first = {"tool_calls": [{"name": n, "arguments": {}} for n in ("one", "two")]}
    if phase == "waiting":
        arguments = {"code": "4", "wait_seconds": 600}
        first = {"tool_calls": [{"name": "exec", "arguments": arguments}]}
    return [
        {"when": {"matches": "^go$"}, **first},
        {"when": {"matches": "^second$"}, "text": "second"},
        {"when": {"contains": "second"}, "text": "second, and what came before"},
        {"when": {"matches": "."}, "text": "first"},
    ]


@pytest.mark.line("P26", "G16", "G17", "G18", "G62")
@pytest.mark.parametrize("priority", ALL)
@pytest.mark.parametrize(
    "phase",
    ["silent", "streaming", "calling", "waiting", "prompting", "compacting"],
)
def test_a_message_of_any_priority_in_any_phase_is_lost_by_nobody(
    house, workshop, sandbox, phase: str, priority: Priority
) -> None:
    model = Disturbed(script(phase, priority), phase)
    model.act = lambda: posted.append(house.post("second", priority=priority))
    posted: list[Any] = []

    @tool(effect="pure")
    def one(context: ToolContext) -> Result:
        """Act."""
        if phase == "calling":
            model.act()
        return Result(text="one")

    @tool(effect="pure")
    def two(context: ToolContext) -> Result:
        """Act."""
        return Result(text="two")

    taker = workshop.taker(model, tools=(one, two))
    taker.keeper.start()
    with house.write() as tx:
        agents.update(
            tx, "scout", AgentChange(metadata={"tool_execution": "sequential"})
        )
    if phase == "compacting":
        house.post("an earlier message")
        workshop.work(workshop.taker(ScriptedModel([{"text": "an earlier answer"}])))
        with house.write() as tx:
            generations.compact(tx, "scout", None)
    if phase == "prompting":
        taker.home = house.broker.settings.home
        (taker.home / "PROMPT.ts").write_text("console.log('Be brief.')")
    first = house.post("go").turn_id
    ended = Outcome(status="completed", result=4, exit_code=0)
    cage = sandbox(
        ended,
        outputs=[Output(stream="stdout", text="Be brief.\n")],
    )
    run = [house.hints.pop()]
    while run:
        taker.take(run.pop())
    if phase in ("waiting", "prompting"):
        assert house.status(first) == "waiting"
        model.act()
        let_waits_end(house)
        work(house, taker)
        if waits := waited_for(house):
            with cage:
                house.hints[:] = waits
                workshop.work(taker, workshop.runner(cage))
    workshop.work(taker)

    text, fate = FATES[phase, priority]
    result = json.loads(house.task(first)["result"])
    assert result.get("text") == text
    assert result.get("interrupted", False) == (priority is INTERRUPT)
    second = posted[0].turn_id
    if fate == "later":
        assert (second, unread(house)) == (None, 1)
    elif fate == "own":
        assert json.loads(house.task(second)["result"]) == {"text": "second"}
    elif second is not None:
        assert json.loads(house.task(second)["result"]) == {
            "text": text,
            "absorbed_by": first,
        }
    assert fate == "later" or unread(house) == 0
    assert house.state() == "idle"
    check_history(house)


def waited_for(house: Any) -> list[str]:
    rows = house.database.read("SELECT target_id FROM waits")
    return [row["target_id"] for row in rows]


def work(house: Any, taker: Any) -> None:
    """Take the turns that are hinted now; leave the execs."""
    while turns := [id for id in house.hints if id.startswith("turn-")]:
        house.hints[:] = [id for id in house.hints if not id.startswith("turn-")]
        for id in turns:
            taker.take(id)


def let_waits_end(house: Any) -> None:
    """Let the grace pass that a message gives to what is waited for."""
    with house.write() as tx:
        soon = now_us() + 1_000_000
        tx.execute("UPDATE waits SET deadline_at = 1 WHERE deadline_at < ?", soon)
        recovery.wake_due(tx)


def unread(house: Any) -> int:
    return int(agents.get(house.database, "scout")["unread"])


def check_history(house: Any) -> None:
    """No call without its result, and no entry twice."""
    found = entries.list_after(house.database, "scout")
    said = to_messages(found)
    assert close_abandoned_calls(said) == said
    parents = [entry["parent_id"] for entry in found]
    assert len(parents) == len(set(parents))
    leased = house.database.read(
        "SELECT id FROM tasks WHERE lease_owner IS NOT NULL AND type = 'turn'"
    )
    assert leased == []


# What a background task has to say (G69).


@pytest.mark.line("G69")
@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_the_end_of_a_task_in_the_background_begins_a_turn(
    house, workshop, sandbox, ends: str
) -> None:
    script = [
        {
            "when": {"matches": "^go$"},
            "tool_calls": [
                {"name": "exec", "arguments": {"code": "4", "wait_seconds": 0}}
            ],
        },
        {"when": {"contains": "pending"}, "text": "started"},
        {"when": {"contains": f"exec-1: {ends}"}, "text": "I see."},
    ]
    taker = workshop.taker(ScriptedModel(script))
    first = house.post("go").turn_id
    outcome = Outcome(status=ends, result=4, exit_code=0 if ends == "completed" else 1)
    with sandbox(outcome, outputs=[]) as cage:
        workshop.work(taker, workshop.runner(cage))
    assert json.loads(house.task(first)["result"]) == {"text": "started"}
    assert json.loads(house.task("turn-2")["result"]) == {"text": "I see."}
    (told,) = [
        event
        for event in house.events()
        if event["kind"] == "task_update" and event["priority"] == "wake"
    ]
    assert (told["stream"], told["scope"], told["subject"]) == (
        "task_output",
        "agent/scout",
        "exec-1",
    )


@pytest.mark.line("G37")
def test_the_end_of_a_task_that_a_turn_waits_for_wakes_nobody_else(
    house, workshop, sandbox
) -> None:
    script = [
        {
            "when": {"matches": "^go$"},
            "tool_calls": [
                {"name": "exec", "arguments": {"code": "4", "wait_seconds": 60}}
            ],
        },
        {"when": {"contains": "completed"}, "text": "four"},
    ]
    taker = workshop.taker(ScriptedModel(script))
    house.post("go")
    with sandbox(
        Outcome(status="completed", result=4, exit_code=0), outputs=[]
    ) as cage:
        workshop.work(taker, workshop.runner(cage))
    assert tasks.find(house.database, "turn-2") is None
    assert unread(house) == 0


def test_a_task_that_its_agent_killed_does_not_wake_it(house, workshop) -> None:
    script = [
        {
            "when": {"matches": "^go$"},
            "tool_calls": [
                {"name": "exec", "arguments": {"code": "4", "wait_seconds": 0}}
            ],
        },
        {
            "when": {"contains": "pending"},
            "tool_calls": [{"name": "kill_task", "arguments": {"task_id": "exec-1"}}],
        },
        {"when": {"contains": "true"}, "text": "killed"},
    ]
    house.post("go")
    workshop.work(workshop.taker(ScriptedModel(script)))
    assert house.status("exec-1") == "cancelled"
    assert tasks.find(house.database, "turn-2") is None


# What was absorbed and could not be answered.


@pytest.mark.line("G22")
def test_a_message_that_a_failed_turn_had_read_has_its_own_turn_after(
    house, workshop
) -> None:
    @tool(effect="pure")
    def one(context: ToolContext) -> Result:
        """Act."""
        posted.append(house.post("second").turn_id)
        return Result(text="one")

    posted: list[str] = []
    model = Disturbed(
        [
            {
                "when": {"matches": "^go$"},
                "tool_calls": [{"name": "one", "arguments": {}}],
            },
        ],
        "none",
    )
    first = house.post("go").turn_id
    taker = workshop.taker(model, tools=(one,))
    taker.take(house.hints.pop())  # nothing fits `second`: the script fails the turn
    assert house.status(first) == "failed"
    assert (house.status(posted[0]), unread(house)) == ("queued", 2)
    model.responses.append({"when": {"contains": "second"}, "text": "now"})
    taker.take(posted[0])
    assert json.loads(house.task(posted[0])["result"]) == {"text": "now"}
    check_history(house)
    with house.write() as tx:
        tasks.retry(tx, first)
    model.responses.append({"when": {"contains": "Another turn"}, "text": "and this"})
    taker.take(first)
    assert json.loads(house.task(first)["result"]) == {"text": "and this"}
    assert [m.text for m in model.asked[-1].messages if isinstance(m, UserMessage)][
        -1
    ] == "(A message stood here. Another turn has answered it.)"
