"""The state machines, written three times, are one: enum, schema and diagram."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pytest

from broker.states import (
    STEP_TRANSITIONS,
    TASK_TRANSITIONS,
    TERMINAL,
    AgentState,
    Priority,
    StepStatus,
    Stream,
    TaskStatus,
)

PAGE: Final = Path(__file__).parents[2] / "docs/explanation/states.md"
_ARROW: Final = re.compile(r"^\s*(\S+) --> ([^\s:]+)", re.MULTILINE)


def diagram(heading: str) -> set[tuple[str, str]]:
    """The arrows of the diagram under a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    drawn = section.split("```mermaid\n")[1].split("```")[0]
    return set(_ARROW.findall(drawn))


def arrows(transitions: dict[Any, frozenset[Any]]) -> set[tuple[str, str]]:
    return {(str(a), str(b)) for a, targets in transitions.items() for b in targets}


def without_ends(drawn: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {pair for pair in drawn if "[*]" not in pair}


def test_the_diagram_of_tasks_is_what_the_code_allows() -> None:
    assert without_ends(diagram("Tasks")) == arrows(TASK_TRANSITIONS)


def test_the_diagram_of_tasks_ends_where_the_code_says_it_is_over() -> None:
    ends = {source for source, target in diagram("Tasks") if target == "[*]"}
    assert ends == {str(each) for each in TERMINAL}


def test_the_diagram_of_steps_is_what_the_code_allows() -> None:
    assert without_ends(diagram("Steps")) == arrows(STEP_TRANSITIONS)


def test_the_diagram_of_agents_has_every_state_and_no_other() -> None:
    drawn = {state for pair in without_ends(diagram("Agents")) for state in pair}
    assert drawn == {str(each) for each in AgentState}


@pytest.mark.parametrize(
    ("transitions", "enum"),
    [(TASK_TRANSITIONS, TaskStatus), (STEP_TRANSITIONS, StepStatus)],
)
def test_every_status_has_its_transitions(transitions, enum) -> None:
    assert set(transitions) == set(enum)


def checks(ddl: str) -> dict[str, set[str]]:
    """The values that a table's CHECK constraints allow, by column."""
    found = re.findall(r"(\w+) IN \(((?:'\w+'(?:, )?)+)\)\)*,? ?", ddl)
    allowed: dict[str, set[str]] = {}
    for column, values in found:
        allowed.setdefault(column, set(re.findall(r"'(\w+)'", values)))
    return allowed


@pytest.mark.parametrize(
    ("table", "column", "enum"),
    [
        ("tasks", "status", TaskStatus),
        ("steps", "status", StepStatus),
        ("agents", "state", AgentState),
        ("events", "priority", Priority),
        ("events", "stream", Stream),
    ],
)
def test_the_schema_allows_what_the_enum_has(
    house, table: str, column: str, enum: type[StrEnum]
) -> None:
    found = house.database.read_one(
        "SELECT sql FROM sqlite_master WHERE name = ?", table
    )
    assert found is not None
    assert checks(found["sql"])[column] == {str(each) for each in enum}


def test_the_ranks_of_priorities_are_their_order() -> None:
    assert [each.rank for each in Priority] == [0, 1, 2, 3]
    assert [each for each in Priority if each.wakes] == ["interrupt", "wake"]
