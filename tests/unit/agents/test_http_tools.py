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
