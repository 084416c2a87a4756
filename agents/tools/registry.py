"""The registry: tools from plain functions, their JSON Schema from the signature.

Arguments are checked against the schema before a handler runs, and never repaired. What
a tool does wrong is a result that the model reads, not an exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from jsonschema.exceptions import ValidationError
from pydantic import ConfigDict, create_model

from agents.control import Stop
from agents.messages import ToolCall, ToolResult
from agents.models.base import ToolSpec
from agents.runtime import Runtime, RuntimeRefused
from agents.tools.schemas import (
    ARGUMENTS_DEPTH_LIMIT,
    is_beyond_json,
    is_deeper,
    validator,
)

Effect = Literal["pure", "idempotent", "at_most_once"]
Handler = Callable[..., ToolResult]


def _tell_nobody(text: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a handler knows of its call. `key` is the same however often it resumes;
    `stop.interrupt` cuts short what blocks; `report` shows how far it is to whoever
    watches the turn, and to no model."""

    key: str
    step: int
    agent_id: str
    turn_id: str
    runtime: Runtime
    stop: Stop = field(default_factory=Stop)
    report: Callable[[str], None] = _tell_nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that a model may call.

    `effect` says what a resume may do with a call that began and left no result: `pure`
    and `idempotent` run again with the same key, `at_most_once` becomes uncertain.
    """

    name: str
    description: str
    effect: Effect
    parameters: dict[str, Any]
    handler: Handler

    @property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        return ToolSpec(
            name=self.name, description=self.description, parameters=self.parameters
        )


class Registry:
    """The tools of one turn, in a stable order."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {each.name: each for each in tools}
        self._validators = {each.name: validator(each.parameters) for each in tools}

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return what the model is shown, in a stable order (it is cached)."""
        return tuple(each.spec for each in self._tools.values())

    def effect_of(self, name: str) -> Effect:
        """Return a tool's effect; an unknown tool does nothing, which is pure."""
        found = self._tools.get(name)
        return found.effect if found else "pure"

    def only(self, names: Iterable[str] | None) -> Registry:
        """Return a registry of the named tools; None means all."""
        if names is None:
            return self
        wanted = set(names)
        return Registry([t for t in self._tools.values() if t.name in wanted])

    def refuse(self, call: ToolCall) -> ToolResult | None:
        """Return the error result of a call that may not run, or None when it may."""
        found = self._tools.get(call.name)
        if found is None:
            known = ", ".join(self._tools)
            return _error(f"unknown tool: {call.name}. The tools are: {known}.")
        if call.arguments is None:
            return _error(
                f"The arguments of {call.name} are not a JSON object: "
                f"{call.raw_arguments[:200]}"
            )
        problems = self._problems(call.name, call.arguments)
        if not problems:
            return None
        lines = "\n".join(f"- {problem}" for problem in problems[:10])
        wrong = f"Nothing was run: the arguments of {call.name} are wrong."
        return _error(f"{wrong}\n{lines}")

    def _problems(self, name: str, arguments: dict[str, Any]) -> list[str]:
        """Say what is wrong. A schema may be recursive: then the arguments decide how
        deep the stack gets."""
        if is_deeper(arguments, ARGUMENTS_DEPTH_LIMIT):
            return [f"they are nested deeper than {ARGUMENTS_DEPTH_LIMIT}."]
        if is_beyond_json(arguments):
            return ["they have a NaN or an Infinity, which is no number in JSON."]
        try:
            found = [*self._validators[name].iter_errors(arguments)]
        except RecursionError:
            return ["they are nested too deep."]
        except ArithmeticError:
            return ["they have a number that is too large."]
        return [_describe(problem) for problem in found]

    def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run a call that `refuse` let pass; whatever it raises becomes its result."""
        handler = self._tools[call.name].handler
        try:
            return handler(context, **(call.arguments or {}))
        except RuntimeRefused as refusal:
            return _error(str(refusal))
        except Exception as error:  # noqa: BLE001 (the tool boundary: the model reads it)
            return _error(f"{call.name} failed: {type(error).__name__}: {error}")


def tool(*, effect: Effect, name: str | None = None) -> Callable[[Handler], Tool]:
    """Make a tool of a function `(context, **arguments) -> ToolResult`.

    The docstring is the description; annotated parameters become the schema.
    """

    def decorate(handler: Handler) -> Tool:
        return Tool(
            name=name or handler.__name__,
            description=inspect.cleandoc(handler.__doc__ or ""),
            effect=effect,
            parameters=_schema(handler),
            handler=handler,
        )

    return decorate


def _schema(handler: Handler) -> dict[str, Any]:
    hints = get_type_hints(handler, include_extras=True)
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    fields: dict[str, Any] = {
        each.name: (
            hints[each.name],
            ... if each.default is inspect.Parameter.empty else each.default,
        )
        for each in parameters
    }
    model = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
    schema: dict[str, Any] = model.model_json_schema()
    schema.pop("title", None)
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
    return schema


def _describe(problem: ValidationError) -> str:
    where = problem.json_path.removeprefix("$.").removeprefix("$")
    return f"{where}: {problem.message}" if where else problem.message


def _error(text: str) -> ToolResult:
    return ToolResult(text=text, status="failed")
