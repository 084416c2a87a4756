"""HTTP tools without a server: what a declaration makes, and what it may not say."""

from __future__ import annotations

from typing import Any

import pytest

from agents.messages import ToolCall, ToolResult
from agents.tools import Registry, Tool, ToolContext
from agents.tools.http import BadDeclaration, Secrets, declare, http_tool

CITY: dict[str, Any] = {"properties": {"city": {"type": "string"}}}
CONTEXT = ToolContext(
    key="turn-7/3", step=3, agent_id="scout", turn_id="turn-7", runtime=None
)


def declaration(**change: Any) -> dict[str, Any]:
    return {
        "name": "weather",
        "description": "The weather of a city.",
        "method": "GET",
        "url": "https://weather.example/v1/{city}",
        "parameters": CITY,
        **change,
    }


def a_tool(**change: Any) -> Tool:
    return http_tool(declare(declaration(**change)), {})


def refused(tool: Tool, **arguments: Any) -> ToolResult:
    """A call that passes the schema and is refused before anything is sent."""
    registry = Registry([tool])
    call = ToolCall(id="id", name=tool.name, arguments=arguments)
    assert registry.refuse(call) is None
    return registry.execute(call, CONTEXT)


def test_a_declaration_becomes_a_tool() -> None:
    tool = a_tool()
    assert (tool.name, tool.description) == ("weather", "The weather of a city.")
    assert tool.parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "additionalProperties": False,
        "required": ["city"],
    }


def test_what_the_url_needs_is_required_and_the_rest_is_as_declared() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["days"],
        "additionalProperties": True,
    }
    assert a_tool(parameters=schema).parameters == {
        **schema,
        "required": ["days", "city"],
    }
    assert schema["required"] == ["days"]


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"method": "GET"}, "pure"),
        ({"method": "DELETE"}, "idempotent"),
        ({"method": "POST"}, "idempotent"),
        ({"method": "PUT"}, "idempotent"),
        ({"method": "PATCH"}, "idempotent"),
        ({"method": "POST", "effect": "at_most_once"}, "at_most_once"),
        ({"method": "POST", "effect": "pure"}, "pure"),
    ],
)
def test_the_effect_follows_the_method_unless_it_is_declared(change, effect) -> None:
    assert a_tool(**change).effect == effect


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metod": "GET"}, "`metod` is an unknown field. Did you mean `method`?"),
        ({"timeout": 3}, "Did you mean `timeout_seconds`?"),
        ({"zzz": 1}, "`zzz` is an unknown field. Known: name, description, method,"),
        ({"name": "no blanks"}, "`name`: String should match"),
        ({"name": None}, "`name`: Input should be a valid string."),
        ({"description": ""}, "`description`: String should have at least 1"),
        ({"method": "get"}, "`method`: Input should be 'GET', 'DELETE', 'POST'"),
        ({"effect": "maybe"}, "`effect`: Input should be 'pure', 'idempotent' or"),
        ({"timeout_seconds": 0}, "`timeout_seconds`: Input should be greater than 0."),
        ({"timeout_seconds": 301}, "`timeout_seconds`: Input should be less than"),
        ({"headers": {"X-Number": 1}}, "`headers.X-Number`: Input should be a valid"),
        ({"url": "ftp://weather.example"}, "must begin with http:// or https://"),
        ({"url": "https:///{city}"}, "must begin with http:// or https:// and a host"),
        ({"url": "https://weather.example:x/"}, "`url` is no URL: Port could not"),
        ({"url": "https://me:pw@weather.example"}, "may not hold a user or password"),
        ({"url": "https://{city}.example/"}, "placeholders after the host only"),
        ({"url": "https://weather.example/${KEY}"}, "a secret goes into a header"),
        ({"url": "https://weather.example/{city"}, "a brace without its partner"),
        ({"url": "https://weather.example/{town}"}, "add it to the properties of"),
        ({"url": "https://weather.example/a/../b"}, "may not have . or .. between"),
        ({"headers": {"Not a name": "x"}}, "'Not a name' is no name of a header"),
        ({"headers": {"idempotency-key": "x"}}, "Roost sets idempotency-key itself"),
        ({"parameters": {"type": "array"}}, '`parameters` must have the type "object"'),
        (
            {"parameters": {"properties": {"city": {"type": "text"}}}},
            "`parameters` is no JSON Schema: $.properties.city.type: 'text'",
        ),
        (
            {"parameters": {"properties": {"city": {"pattern": "("}}}},
            "`parameters` is no JSON Schema: $.properties.city.pattern: '('",
        ),
    ],
)
def test_a_bad_declaration_is_refused_with_what_to_change(change, says) -> None:
    with pytest.raises(BadDeclaration) as refusal:
        declare(declaration(**change))
    assert says in str(refusal.value)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


SELF = {"$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "$.properties.city.$ref: 'http://127.0"),
        ({"$ref": "file:///etc/passwd"}, "not in this schema, and nothing is fetched"),
        ({"$ref": "other.json#/x"}, "not in this schema, and nothing is fetched"),
        ({"$ref": "#/$defs/ghost"}, "'#/$defs/ghost' leads nowhere"),
        ({"$ref": "#ghost"}, "'#ghost' leads nowhere"),
        ({"$ref": "#/type"}, "'#/type' is no schema"),
        ({"$ref": "#/properties/city"}, "city.$ref: it leads back to itself"),
        ({"$defs": {"a": {"not": SELF}}, **SELF}, "leads nowhere"),
        ({"$dynamicRef": "#x"}, "$.properties.city.$dynamicRef: only $ref is known"),
        ({"$id": "http://x/"}, "$.properties.city.$id: only the whole schema may"),
        ({"properties": {"x": {"$ref": "x"}}}, "city.properties.x.$ref: 'x' is not"),
        (nested(60), "$: it is nested deeper than 50"),
        (nested(5000), "$: it is nested deeper than 50"),
    ],
)
def test_a_schema_that_could_not_check_arguments_is_refused(schema, says) -> None:
    parameters = {"type": "object", "properties": {"city": schema}}
    with pytest.raises(BadDeclaration) as refusal:
        declare(declaration(parameters=parameters))
    assert "`parameters` is no JSON Schema: $" in str(refusal.value)
    assert says in str(refusal.value)


def test_definitions_that_lead_in_a_circle_are_refused() -> None:
    defs = {"a": {"anyOf": [{}, {"$ref": "#/$defs/b"}]}, "b": {"not": SELF}}
    with pytest.raises(BadDeclaration, match=r"\$ref: it leads back to itself\."):
        declare(declaration(parameters={**CITY, "$defs": defs}))


def test_references_in_a_row_have_an_end() -> None:
    defs = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5000)}
    city = {"$ref": "#/$defs/d0"}
    parameters = {"properties": {"city": city}, "$defs": {**defs, "d5000": {}}}
    with pytest.raises(BadDeclaration, match="more than 50 references in a row"):
        declare(declaration(parameters=parameters))


def test_a_recursive_schema_checks_what_is_recursive() -> None:
    tree = {"properties": {"kids": {"items": {"$ref": "#/$defs/tree"}}}}
    tree["additionalProperties"] = False  # type: ignore[assignment]
    parameters = {
        "properties": {"city": {}, "tree": {"$ref": "#/$defs/tree"}, "$ref": {}},
        "$defs": {"tree": tree},
    }
    registry = Registry([a_tool(parameters=parameters)])

    def refusal(tree: Any) -> ToolResult | None:
        arguments = {"city": "Oslo", "tree": tree}
        return registry.refuse(ToolCall(id="id", name="weather", arguments=arguments))

    assert refusal({"kids": [{"kids": []}]}) is None
    found = refusal({"kids": [{"kid": []}]})
    assert found is not None
    assert "'kid' was unexpected" in found.text
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"kids": [deep]}
    found = refusal(deep)
    assert found is not None
    assert found.text.endswith("- they are nested deeper than 100.")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(BadDeclaration, match="`name`: Field required"):
        declare({})
    with pytest.raises(BadDeclaration, match="must be a JSON object"):
        declare(["weather"])


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        ({}, "..", "an argument may not be . or .. in the URL"),
        ({}, ".", "an argument may not be . or .. in the URL"),
        ({}, "", "city is a part of the URL and may not be empty"),
        ({}, ["Oslo"], "city is a part of the URL: give a string or a number"),
        ({}, None, "city is a part of the URL: give a string or a number"),
        ({}, "\ud800", "the arguments make no valid request (UnicodeEncodeError)"),
    ],
)
def test_an_argument_that_cannot_stand_in_the_url_is_told_to_the_model(
    schema, value, says
) -> None:
    result = refused(a_tool(parameters={"properties": {"city": schema}}), city=value)
    assert (result.status, result.text) == ("failed", f"Nothing was sent: {says}.")


def test_the_parts_of_a_path_cannot_make_dots_together() -> None:
    schema = {"properties": {"a": {}, "b": {}}}
    tool = a_tool(url="https://weather.example/v1/{a}{b}/x", parameters=schema)
    assert refused(tool, a=".", b=".").status == "failed"


def test_a_call_with_an_argument_that_is_not_declared_is_refused() -> None:
    call = ToolCall(id="id", name="weather", arguments={"city": "Oslo", "town": "x"})
    refusal = Registry([a_tool()]).refuse(call)
    assert refusal is not None
    assert "'town' was unexpected" in refusal.text


def test_no_secret_is_in_the_repr_of_a_tool() -> None:
    declared = declare(declaration(headers={"Authorization": "Bearer ${KEY}"}))
    tool = http_tool(declared, {"Authorization": "Bearer s3cret"}, ["s3cret"])
    shown = f"{tool!r} {tool.handler!r} {tool.handler.secrets!r}"
    assert "weather" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    "spelt",
    [
        's3/c"r+t x',
        's3\\/c\\"r+t x',
        "s3/c\\u0022r\\u002bt\\u0020x",
        "s3%2Fc%22r%2bt%20x",
    ],
)
def test_a_secret_is_hidden_however_json_or_a_url_spells_it(spelt) -> None:
    secrets = Secrets(['s3/c"r+t x', "other"])
    assert secrets.hide(f"a {spelt} b other") == "a [hidden] b [hidden]"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert Secrets(["key", "key-2"]).hide("key-2 key") == "[hidden] [hidden]"


def test_a_cut_leaves_no_part_of_a_secret() -> None:
    secrets = Secrets(["s3cret"])
    assert secrets.hide("ab s3cret", 6) == "ab "
    assert secrets.hide("ab s3cret", 9) == "ab [hidden]"
    assert Secrets([]).hide("ab s3cret", 6) == "ab s3c"
