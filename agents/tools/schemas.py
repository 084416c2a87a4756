"""Which JSON Schemas a tool may have: such as check any arguments and come to an end.

A validator follows references when it meets them, in the middle of a turn. So they are
followed once before: nothing is fetched, nothing is missing, nothing leads back to
itself over the same value.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

# Python's stack takes about a hundred schemas within one another.
DEPTH_LIMIT: Final = 50
# As for what comes in over HTTP.
ARGUMENTS_DEPTH_LIMIT: Final = 100

# Where a schema has schemas for the same value, and for a part of it.
_SAME: Final = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf")
_PARTS: Final = (
    "items",
    "prefixItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_NAMED_PARTS: Final = ("properties", "patternProperties", "$defs")

# A schema with its place: `$.properties.city`.
Placed = tuple[dict[str, Any], str]


class BadSchema(Exception):
    """A schema that no tool may have; the message says where and why."""


def check_schema(schema: dict[str, Any]) -> None:
    """Raise BadSchema unless the schema can check anything."""
    if is_deeper(schema, DEPTH_LIMIT):
        raise BadSchema(f"$: it is nested deeper than {DEPTH_LIMIT}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadSchema(f"{error.json_path}: {error.message[:200]}") from error
    _Walk(schema).run()


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Make a validator that knows this schema, and can fetch no other."""
    return Draft202012Validator(schema, registry=Registry())


def is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper than so many."""
    level = [value]
    for _ in range(limit + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def is_beyond_json(value: Any) -> bool:
    """Whether there is a NaN or an Infinity in it, which JSON does not have."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return any(is_beyond_json(each) for each in _inside(value))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class _Walk:
    """A walk over all schemas of a schema, each once."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        resource = DRAFT202012.create_resource(root)
        self._resolver = Registry().resolver_with_root(resource)
        self._todo: deque[Placed] = deque([(root, "$")])
        # Of each schema, how many are in a row from it on, for the same value.
        self._lengths: dict[int, int] = {}

    def run(self) -> None:
        while self._todo:
            self._visit(self._todo.popleft(), ())

    def _visit(self, placed: Placed, above: tuple[int, ...]) -> int:
        """Visit a schema; `above` are those that the same value is checked by."""
        schema, where = placed
        if id(schema) in above:
            raise BadSchema(f"{where}: it leads back to itself")
        if id(schema) not in self._lengths and len(above) < DEPTH_LIMIT:
            within = (*above, id(schema))
            lengths = [self._visit(each, within) for each in self._same(schema, where)]
            self._lengths[id(schema)] = 1 + max(lengths, default=0)
            self._todo += _within(schema, where, _PARTS)
            self._todo += _within_named(schema, where, _NAMED_PARTS)
        length = self._lengths.get(id(schema), 1)
        if len(above) + length > DEPTH_LIMIT:
            raise BadSchema(f"{where}: more than {DEPTH_LIMIT} references in a row")
        return length

    def _same(self, schema: dict[str, Any], where: str) -> Iterator[Placed]:
        for name in ("$dynamicRef", "$recursiveRef"):
            if name in schema:
                raise BadSchema(f"{where}.{name}: only $ref is known here")
        if "$id" in schema and schema is not self._root:
            raise BadSchema(f"{where}.$id: only the whole schema may have one")
        if "$ref" in schema:
            yield self._target(schema["$ref"], f"{where}.$ref")
        yield from _within(schema, where, _SAME)
        yield from _within_named(schema, where, ("dependentSchemas",))

    def _target(self, reference: str, where: str) -> Placed:
        if not reference.startswith("#"):
            raise BadSchema(
                f"{where}: {reference[:200]!r} is not in this schema, and nothing is "
                "fetched: write #/$defs/NAME"
            )
        try:
            found = self._resolver.lookup(reference).contents
        except Unresolvable as error:
            why = f"{where}: {reference[:200]!r} leads nowhere"
            raise BadSchema(why) from error
        if not isinstance(found, dict | bool):
            raise BadSchema(f"{where}: {reference[:200]!r} is no schema")
        return (found, where) if isinstance(found, dict) else ({}, where)


def _within(
    schema: dict[str, Any], where: str, names: tuple[str, ...]
) -> Iterator[Placed]:
    for name in names:
        inner = schema.get(name)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, dict):
                yield each, f"{where}.{name}"


def _within_named(
    schema: dict[str, Any], where: str, names: tuple[str, ...]
) -> Iterator[Placed]:
    for name in names:
        for key, each in schema.get(name, {}).items():
            if isinstance(each, dict):
                yield each, f"{where}.{name}.{key}"
