"""What the API refuses, and how it says so: problem documents with what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from tests.acceptance.system import PROBLEM, Agent, Api, System

MAX_BODY_BYTES = 8 * 1024 * 1024


def _problem(answer: requests.Response, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM)
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert re.fullmatch(r"urn:roost:problem:[a-z-]+", found["type"])
    assert found["title"]
    assert found["detail"]
    return found


@pytest.mark.parametrize("verb", ["messages", "ask", "stream"])
def test_an_empty_message_is_refused(demo: Agent, verb: str) -> None:
    answer = demo.api.send(
        "POST", f"/api/v1/agents/{demo.id}/{verb}", json={"text": ""}
    )

    found = _problem(answer, 400)
    assert [each["field"] for each in found["errors"]] == ["text"]
    assert demo.history() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": None}, "text"),
        ({"text": 7}, "text"),
        ({"text": "hello", "wait_seconds": -1}, "wait_seconds"),
        ({"text": "hello", "wait_seconds": "soon"}, "wait_seconds"),
    ],
)
def test_a_wrong_field_is_named(demo: Agent, body: Any, field: str) -> None:
    answer = demo.api.send("POST", f"/api/v1/agents/{demo.id}/ask", json=body)

    found = _problem(answer, 400)
    assert [each["field"] for each in found["errors"]] == [field]


def test_an_unknown_field_is_named_with_the_nearest_valid_one(demo: Agent) -> None:
    answer = demo.api.send(
        "POST",
        f"/api/v1/agents/{demo.id}/messages",
        json={"text": "hello", "priorty": "low"},
    )

    found = _problem(answer, 400)
    (error,) = found["errors"]
    assert error["field"] == "priorty"
    assert "'priority'" in error["message"]
    assert demo.history() == []


def test_an_unknown_query_parameter_is_named_with_the_nearest_valid_one(
    api: Api,
) -> None:
    found = _problem(api.send("GET", "/api/v1/tasks?statuss=failed"), 400)

    (error,) = found["errors"]
    assert error["field"] == "statuss"
    assert "'status'" in error["message"]


@pytest.mark.parametrize("body", ["[]", '"hello"', "7", "null"])
def test_a_body_that_is_no_object_is_refused(demo: Agent, body: str) -> None:
    answer = demo.api.send(
        "POST",
        f"/api/v1/agents/{demo.id}/ask",
        data=body,
        headers={"Content-Type": "application/json"},
    )

    _problem(answer, 400)


@pytest.mark.parametrize("body", ['{"text": "hel', "text=hello", "\xff"])
def test_malformed_json_is_refused(demo: Agent, body: str) -> None:
    answer = demo.api.send(
        "POST",
        f"/api/v1/agents/{demo.id}/ask",
        data=body.encode("latin-1"),
        headers={"Content-Type": "application/json"},
    )

    assert "JSON object" in _problem(answer, 400)["detail"]


def test_an_empty_body_is_an_empty_object(demo: Agent) -> None:
    path = f"/api/v1/agents/{demo.id}"
    assert "text" in _problem(demo.api.send("POST", f"{path}/ask"), 400)["detail"]
    assert demo.api.send("POST", f"{path}/compact").status_code == 202


def test_a_body_that_is_too_large_is_refused(demo: Agent) -> None:
    answer = demo.api.send(
        "POST",
        f"/api/v1/agents/{demo.id}/ask",
        json={"text": "x" * (MAX_BODY_BYTES + 1)},
    )

    _problem(answer, 413)
    assert demo.history() == []


@pytest.mark.parametrize("token", [None, "wrong", "wröng"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/agents"),
        ("POST", "/api/v1/agents/scout/ask"),
        ("GET", "/api/v1/events/stream"),
        ("GET", "/api/v1/state"),
    ],
)
def test_a_wrong_token_or_none_is_refused(
    system: System, token: str | None, method: str, path: str
) -> None:
    stranger = Api(system.port, None)
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}

    answer = stranger.send(method, path, json={"text": "hello"}, headers=headers)

    found = _problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "token" in found["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/agents", "GET"),
        ("GET", "/api/v1/agents/scout/ask", "POST"),
        ("PUT", "/api/v1/tasks", "POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_refused_with_those_allowed(
    api: Api, method: str, path: str, allowed: str
) -> None:
    answer = api.send(method, path)

    assert "Allow" in _problem(answer, 405)["detail"]
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/api/v2/agents"])
def test_an_unknown_route_is_a_problem(api: Api, path: str) -> None:
    assert "/docs" in _problem(api.send("GET", path), 404)["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/agents/nobody"),
        ("POST", "/agents/nobody/ask"),
        ("POST", "/agents/nobody/messages"),
        ("POST", "/agents/nobody/stream"),
        ("POST", "/agents/nobody/interrupt"),
        ("GET", "/agents/nobody/history"),
        ("GET", "/tasks/nothing"),
        ("GET", "/tasks/nothing?wait_seconds=5"),
        ("GET", "/tasks/nothing/updates"),
        ("POST", "/tasks/nothing/cancel"),
        ("POST", "/tasks/nothing/kill"),
    ],
)
def test_what_does_not_exist_is_a_problem_that_names_it(
    api: Api, method: str, path: str
) -> None:
    body = {"text": "hello"} if path.endswith(("ask", "messages", "stream")) else {}

    answer = api.send(method, f"/api/v1{path}", json=body)

    found = _problem(answer, 404)
    assert re.search("'(nobody|nothing)'", found["detail"])


def test_a_misspelt_agent_is_answered_with_the_nearest(api: Api) -> None:
    answer = api.send("POST", "/api/v1/agents/scuot/ask", json={"text": "hello"})

    assert "'scout'" in _problem(answer, 404)["detail"]


def test_a_cursor_of_no_list_is_refused(api: Api) -> None:
    found = _problem(api.send("GET", "/api/v1/tasks?cursor=yesterday"), 400)

    assert [each["field"] for each in found["errors"]] == ["cursor"]


def test_a_query_that_is_too_long_is_refused_with_a_problem(api: Api) -> None:
    fits, long = ("/api/v1/search?q=" + "a" * count for count in (8_000, 10_000))

    assert _problem(api.send("GET", fits), 400)["errors"][0]["field"] == "q"
    assert "about 8,000 bytes" in _problem(api.send("GET", long), 414)["detail"]


def test_an_id_that_breaks_the_rule_is_refused(api: Api) -> None:
    answer = api.send("POST", "/api/v1/agents", json={"id": "../etc/passwd"})

    assert "[a-z]" in _problem(answer, 400)["detail"]


def test_liveness_and_readiness_want_no_token(system: System) -> None:
    stranger = Api(system.port, None)

    health, ready = stranger.send("GET", "/health"), stranger.send("GET", "/ready")

    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {check["status"] for check in ready.json()["checks"]} <= {"ok", "warn"}
