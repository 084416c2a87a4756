"""What a browser is shown: the API's documentation and the dashboard, served here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator

from broker import open_broker
from broker.settings import load
from tests.acceptance.browser import Page, find_browser, open_page
from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import Api, System
from webapp.app import create_app

OPEN = {"/health", "/ready"}
Browse = Callable[[str], Page]
METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE"}


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    """The OpenAPI document as it is served, without a token."""
    answer = Api(api.port, None).send("GET", "/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """The application itself, for its routes."""
    environ = {"ROOST_HOME": str(tmp_path / "home"), "ROOST_TOKEN": "unused"}
    settings = load(environ, cwd=tmp_path)
    broker = open_broker(settings)
    yield create_app(settings, broker)
    broker.close()


def _public_routes(app: Flask) -> set[tuple[str, str]]:
    """Return method and path of what programs may call: not pages, not their files."""
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
        if rule.rule.startswith(("/api/", "/v1/")) or rule.rule in OPEN
    }


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method.upper() in METHODS:
                yield method.upper(), path, operation


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_the_openapi_document_names_every_route_that_is_public(
    app: Flask, document: dict[str, Any]
) -> None:
    described = {(method, path) for method, path, _ in _operations(document)}

    assert document["openapi"] == "3.1.0"
    assert _public_routes(app) - described == set()


def test_the_openapi_document_holds_together(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference
    for method, path, operation in _operations(document):
        assert operation["responses"], (method, path)
        assert operation.get("summary"), (method, path)
        named = set(re.findall(r"{(\w+)}", path))
        given = {
            p["name"] for p in operation.get("parameters", []) if p["in"] == "path"
        }
        assert given == named, (method, path)


def test_the_openapi_document_says_which_routes_want_the_token(
    document: dict[str, Any],
) -> None:
    for method, path, operation in _operations(document):
        wants = bool(operation.get("security", document.get("security")))
        assert wants == (path not in OPEN), (method, path)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("js/swagger-ui-bundle.js", "text/javascript"),
        ("css/swagger-ui.css", "text/css"),
    ],
)
def test_the_files_of_the_documentation_are_served_here(
    system: System, name: str, content_type: str
) -> None:
    answer = Api(system.port, None).send("GET", f"/docs/assets/{name}")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert len(answer.content) > 10_000


@pytest.mark.parametrize("name", ["../../../app.py", "%2e%2e/%2e%2e/app.py", "nothing"])
def test_no_other_file_is_served(system: System, name: str) -> None:
    assert Api(system.port, None).send("GET", f"/docs/assets/{name}").status_code == 404


@pytest.fixture
def browse(system: System, tmp_path: Path) -> Browse:
    """Open a path of the shared system in Chromium."""
    program = find_browser()
    if program is None:
        pytest.skip("no chromium here: apt-get install chromium")

    def open_path(path: str) -> Page:
        return open_page(program, f"{system.url}{path}", tmp_path)

    return open_path


def test_the_documentation_renders_and_asks_nobody_else(
    system: System, browse: Browse
) -> None:
    page = browse("/docs")

    assert 'class="opblock-summary-path"' in page.dom
    assert "/api/v1/agents/{agent_id}/ask" in page.dom.replace("\u200b", "").replace(
        "<wbr>", ""
    )
    assert f"{system.url}/openapi.json" in page.requested
    assert [url for url in page.requested if not url.startswith(system.url)] == []


def test_the_dashboard_shows_an_agents_conversation_and_asks_nobody_else(
    system: System, new_agent: NewAgent, browse: Browse
) -> None:
    agent = system.api.agent("scout")
    agent.ask("1234 * 2")

    page = browse(f"/#token={system.api.token}")

    assert "1234 * 2 = 2468" in page.dom
    assert "additionalProperties" not in page.dom  # the tools' schemas are no talk
    assert "scout" in page.dom
    assert f"{system.url}/api/v1/state" in page.requested
    assert [url for url in page.requested if not url.startswith(system.url)] == []


def test_the_dashboard_without_a_token_asks_for_it(browse: Browse) -> None:
    page = browse("/")

    assert re.search(r"<form[^>]*id=\"sign-in\"(?![^>]*hidden)", page.dom)
