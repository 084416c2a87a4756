"""What a generation begins with: its prompt, its memory, its tools (G55 to G58, G71,
G72, G112)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.messages import AssistantMessage, ToolMessage, ToolResult, UserMessage
from agents.models.base import Request, ToolSpec
from agents.models.scripted import ScriptedModel
from agents.prompt import BASE, MEMORY_CHARACTERS, NOTES_CHARACTERS, compose, cut_middle
from agents.tools import Registry, Tool, ToolContext, tool
from broker import agents, entries, generations, tasks
from broker.agents import AgentChange
from broker.times import SECOND_US
from workers.prompt import PromptMaker

NOON_US = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * SECOND_US


class Listening(ScriptedModel):
    """A script that remembers what it was asked."""

    def __init__(self, *responses: dict[str, Any]) -> None:
        super().__init__(responses or ({"when": {"contains": ""}, "text": "ok"},))
        self.requests: list[Request] = []

    def stream(self, request: Request, *more: Any) -> Any:
        self.requests.append(request)
        return super().stream(request, *more)


@pytest.fixture
def ask(house, workshop, bare_sandbox) -> Callable[..., str]:
    """Have a turn taken in this home, its PROMPT.ts run by Bun; return its id."""

    def turn(model: Any, text: str = "hello") -> str:
        taker = workshop.taker(model)
        taker.home = house.broker.settings.home
        id = house.post(text).turn_id
        workshop.work(taker, workshop.runner(bare_sandbox))
        return str(id)

    return turn


def write(house: Any, name: str, text: str) -> None:
    path = house.broker.settings.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def types(house: Any, **of: int) -> list[str]:
    found = entries.list_after(house.database, "scout", **of)
    return [each["type"] for each in found]


# PROMPT.ts.


@pytest.mark.line("G55", "G57")
def test_what_prompt_ts_prints_and_the_agents_own_text_is_the_prompt(
    house, ask
) -> None:
    house.agent(system="You keep the books.")
    write(house, "PROMPT.ts", "console.log('\\n  Be brief. \\n')")
    model = Listening()
    ask(model)
    assert model.requests[0].system == "Be brief.\n\nYou keep the books."
    made = tasks.shape(house.task("prompt-1"))
    assert (made["type"], made["parent_id"]) == ("prompt", "turn-1")
    assert made["payload"]["timeout_seconds"] == 30


@pytest.mark.line("G55")
def test_without_a_prompt_ts_there_is_a_built_in_prompt(house, ask) -> None:
    model = Listening()
    ask(model)
    assert model.requests[0].system == BASE


@pytest.mark.line("G55")
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("console.error('no such thing'); process.exit(3)", "exit code 3"),
        ("throw new Error('no such thing')", "error: no such thing"),
        ("console.error('no such thing'); console.log('  ')", "it printed nothing."),
    ],
)
def test_a_prompt_ts_that_gives_no_prompt_fails_the_turn_with_its_error_output(
    house, ask, code: str, why: str
) -> None:
    write(house, "PROMPT.ts", code)
    model = Listening()
    id = ask(model)
    error = tasks.shape(house.task(id))["error"]
    assert (house.status(id), error["type"]) == ("failed", "prompt_failed")
    assert why in error["message"]
    assert "no such thing" in error["message"]
    assert error["message"].endswith("then retry the turn.")
    assert model.requests == []


# MEMORY.md and the notes of a day.


@pytest.mark.line("G56", "G57", "G112")
def test_memory_and_notes_stand_between_the_prompt_and_the_agents_own_text(
    house, ask
) -> None:
    house.agent(system="Be kind.")
    write(house, "MEMORY.md", "\nAda likes tea.\n")
    model = Listening()
    ask(model)
    assert model.requests[0].system == (
        f"{BASE}\n\n## Workspace Context\n\nAda likes tea.\n\nBe kind."
    )


@pytest.mark.line("G56")
def test_a_long_memory_keeps_its_head_and_its_tail() -> None:
    assert MEMORY_CHARACTERS == 8_000
    whole = "".join(f"{number:07}\n" for number in range(1_001))
    head, cut, tail = whole[:5_600], len(whole) - 5_600 - 1_600, whole[-1_600:]
    assert cut_middle(whole) == f"{head}\n[… {cut} characters left out …]\n{tail}"
    assert cut_middle(whole[:8_000]) == whole[:8_000]
    memory = "x" * 8_001
    assert compose("p", memory, "") == (
        f"p\n\n## Workspace Context\n\n{cut_middle(memory)}"
    )


@pytest.mark.line("G112")
def test_the_notes_of_today_and_yesterday_are_in_the_prompt(house) -> None:
    for day in ("2026-11-19", "2026-11-20", "2026-11-22"):
        write(house, f"memory/{day}.md", f"written on {day}")
    write(house, "memory/2026-11-21.md", "y" * (NOTES_CHARACTERS + 1))
    house.agent()
    home = house.broker.settings.home
    maker = PromptMaker(broker=house.broker, home=home, now=lambda: NOON_US)
    prompt = maker.prompt_for(house.take_turn(), Registry(())).system
    assert prompt.split("\n\n")[1:] == [
        "## Notes of 2026-11-20",
        "written on 2026-11-20",
        "## Notes of 2026-11-21",
        cut_middle("y" * (NOTES_CHARACTERS + 1), NOTES_CHARACTERS),
    ]


# One for each generation.


@pytest.mark.line("G58")
def test_prompt_and_tools_are_written_once_and_stay_for_the_generation(
    house, ask
) -> None:
    write(house, "PROMPT.ts", "console.log('first')")
    model = Listening()
    ask(model)
    write(house, "PROMPT.ts", "console.log('second')")
    write(house, "MEMORY.md", "new")
    with house.write() as tx:
        agents.update(tx, "scout", AgentChange(system="new"))
    ask(model)
    assert [request.system for request in model.requests] == ["first", "first"]
    assert model.requests[0].tools == model.requests[1].tools
    assert types(house).count("tools_config") == 1
    assert types(house).count("system_prompt") == 1
    config = next(
        each
        for each in entries.list_after(house.database, "scout")
        if each["type"] == "tools_config"
    )
    assert [block["json"] for block in config["content"]] == [
        spec.as_json() for spec in model.requests[0].tools
    ]


@pytest.mark.line("G58")
def test_a_tool_that_is_taken_away_is_gone_in_the_next_turn(house, ask) -> None:
    model = Listening()
    ask(model)
    with house.write() as tx:
        agents.update(tx, "scout", AgentChange(tools=["noop"]))
    ask(model)
    assert [spec.name for spec in model.requests[1].tools] == ["noop"]
    assert types(house).count("tools_config") == 1


@pytest.mark.line("G58")
def test_the_tools_that_a_model_is_shown_stay_until_the_next_generation(
    house, workshop
) -> None:
    @tool(effect="pure")
    def greet(context: ToolContext) -> ToolResult:
        """Say hello."""
        return ToolResult(text="hello")

    louder = replace(greet, description="Say it loudly.")
    extra = replace(greet, name="extra")

    def ask(*tools: Tool) -> tuple[ToolSpec, ...]:
        model = Listening()
        house.post("hello")
        workshop.work(workshop.taker(model, tools=tools))
        return model.requests[-1].tools

    before = ask(greet)
    assert ask(louder, extra) == before
    with house.write() as tx:
        generations.compact(tx, "scout", None)
    after = {spec.name: spec.description for spec in ask(louder, extra)}
    assert (after["greet"], "extra" in after) == ("Say it loudly.", True)


@pytest.mark.line("G58", "G72")
def test_a_new_generation_has_a_fresh_prompt_and_the_old_one_stays_to_be_seen(
    house, ask
) -> None:
    write(house, "PROMPT.ts", "console.log('first')")
    model = Listening()
    ask(model, "one")
    before = entries.list_after(house.database, "scout", generation=1)
    with house.write() as tx:
        assert generations.compact(tx, "scout", "enough") == 2
    write(house, "PROMPT.ts", "console.log('second')")
    ask(model, "two")
    assert [request.system for request in model.requests if request.tools] == [
        "first",
        "second",
    ]
    assert entries.list_after(house.database, "scout", generation=1) == before
    new = types(house, generation=2)
    assert new[0] == "context_compaction"
    assert new.count("system_prompt") == new.count("tools_config") == 1


# After a restart.


@pytest.mark.line("G71")
def test_another_process_rebuilds_the_conversation_with_its_calls_and_results(
    house, workshop, open_house
) -> None:
    noop = {"tool_calls": [{"name": "noop", "arguments": {"comment": "rest"}}]}
    house.post("one")
    workshop.work(workshop.taker(ScriptedModel([noop, {"text": "rested"}])))
    house.broker.close()
    again = open_house()
    model = Listening()
    taker = type(workshop)(again).taker(model)
    again.post("two")
    taker.take(again.hints[-1])
    said = model.requests[0].messages
    assert [type(each) for each in said] == [
        UserMessage,
        AssistantMessage,
        ToolMessage,
        AssistantMessage,
        UserMessage,
    ]
    assert isinstance(said[1], AssistantMessage)
    assert said[1].answer.tool_calls[0].name == "noop"
    assert isinstance(said[2], ToolMessage)
    assert json.loads(said[2].result.text) == {"status": "idle", "comment": "rest"}
    assert isinstance(said[3], AssistantMessage)
    assert said[3].answer.text == "rested"
    assert [m.content[0]["text"] for m in said if isinstance(m, UserMessage)] == [
        "one",
        "two",
    ]
