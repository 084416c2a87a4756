"""Tools from plain functions: their schema, their order, their refusals."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from agents.messages import ToolCall, ToolResult
from agents.tools import builtin_tools
from agents.tools.registry import Registry, Tool, ToolContext, tool


@tool(effect="idempotent", name="book")
def book_flight(
    context: ToolContext,
    place: Annotated[str, Field(min_length=1, description="Where to.")],
    seats: Annotated[int, Field(ge=1, le=9)] = 1,
    notes: list[str] | None = None,
) -> ToolResult:
    """Book a flight.

    It costs money.
    """
    return ToolResult(text=f"{seats} to {place}: {notes}")


@tool(effect="pure")
def look(context: ToolContext) -> ToolResult:
    """Look around."""
    return ToolResult(text="nothing")


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id="id", name=name, arguments=arguments)


@pytest.mark.line("P6")
def test_the_signature_becomes_the_schema() -> None:
    assert book_flight == Tool(
        name="book",
        description="Book a flight.\n\nIt costs money.",
        effect="idempotent",
        parameters={
            "additionalProperties": False,
            "properties": {
                "place": {"type": "string", "minLength": 1, "description": "Where to."},
                "seats": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
                "notes": {
                    "anyOf": [
                        {"type": "array", "items": {"type": "string"}},
                        {"type": "null"},
                    ],
                    "default": None,
                },
            },
            "required": ["place"],
            "type": "object",
        },
        handler=book_flight.handler,
    )


def test_a_tool_without_arguments_takes_an_empty_object() -> None:
    assert look.parameters == {
        "additionalProperties": False,
        "properties": {},
        "type": "object",
    }


@pytest.mark.line("P6")
def test_the_tools_keep_their_order() -> None:
    names = [spec.name for spec in Registry([look, book_flight]).specs()]
    assert names == ["look", "book"]


@pytest.mark.line("P6", "P9")
def test_a_registry_narrows_to_the_named_tools_in_its_own_order() -> None:
    both = Registry([look, book_flight])
    assert both.only(None) is both
    assert [spec.name for spec in both.only(["book", "ghost"]).specs()] == ["book"]
    assert both.only([]).specs() == ()


def test_an_unknown_tool_does_nothing_which_is_pure() -> None:
    registry = Registry([book_flight])
    assert (registry.effect_of("book"), registry.effect_of("ghost")) == (
        "idempotent",
        "pure",
    )


@pytest.mark.line("P6")
def test_good_arguments_are_not_refused_and_reach_the_handler() -> None:
    registry = Registry([book_flight])
    good = call("book", place="Oslo", notes=["window"])
    assert registry.refuse(good) is None
    assert registry.execute(good, None).text == "1 to Oslo: ['window']"


@pytest.mark.line("P4")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"place": ""}, "place: "),
        ({"place": "Oslo", "seats": 10}, "seats: 10"),
        ({"place": "Oslo", "seats": "2"}, "seats: '2'"),
        ({"place": "Oslo", "notes": ["a", 1]}, "notes: "),
        ({"seats": 2}, "'place' is a required property"),
        ({"place": "Oslo", "when": "now"}, "'when' was unexpected"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, named) -> None:
    refusal = Registry([book_flight]).refuse(call("book", **arguments))
    assert refusal is not None
    assert refusal.status == "failed"
    assert named in refusal.text


def test_every_problem_is_told_up_to_ten() -> None:
    many = {f"x{number}": 1 for number in range(3)} | {"seats": 0}
    refusal = Registry([book_flight]).refuse(call("book", **many))
    assert refusal is not None
    assert len(refusal.text.splitlines()) == 4


@pytest.mark.line("P22")
def test_the_names_and_arguments_of_every_agents_tools_are_a_contract() -> None:
    shapes = {
        each.name: (each.effect, list(each.parameters["properties"]))
        for each in builtin_tools()
    }
    assert shapes == {
        "exec": ("idempotent", ["code", "wait_seconds", "id"]),
        "await_task": ("idempotent", ["task_id", "wait_seconds"]),
        "send_task": ("idempotent", ["task_id", "body"]),
        "kill_task": ("idempotent", ["task_id", "reason"]),
        "delegate": ("idempotent", ["agent_id", "text", "wait_seconds"]),
        "noop": ("pure", ["comment"]),
        "view_image": ("pure", ["path", "url", "fidelity"]),
        "read_artifact": ("pure", ["handle", "offset", "limit"]),
        "recall": ("pure", ["query", "limit"]),
    }
    assert all(each.description for each in builtin_tools())


@pytest.mark.line("G75")
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("exec", {"code": "1", "wait_seconds": None}),
        ("await_task", {"task_id": "a", "wait_seconds": None}),
        ("delegate", {"agent_id": "a", "text": "b", "wait_seconds": None}),
        ("recall", {"query": "a", "limit": None}),
        ("read_artifact", {"handle": "a", "offset": None}),
    ],
)
def test_what_is_no_number_is_refused(name, arguments, number) -> None:
    filled = {key: number if v is None else v for key, v in arguments.items()}
    refusal = Registry(builtin_tools()).refuse(call(name, **filled))
    assert refusal is not None
    assert refusal.status == "failed"
    assert "NaN or an Infinity, which is no number in JSON" in refusal.text


def test_a_number_that_no_check_can_hold_is_refused() -> None:
    tenths = {"properties": {"n": {"multipleOf": 0.1}}}
    odd = Tool(
        name="odd", description="", effect="pure", parameters=tenths, handler=print
    )
    refusal = Registry([odd]).refuse(call("odd", n=10**400))
    assert refusal is not None
    assert "too large" in refusal.text
