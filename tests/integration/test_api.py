"""The HTTP API on a temporary home: what it takes, what it refuses, and how."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Response, request
from jsonschema import Draft202012Validator

from broker import entries, processes, tasks
from broker.entries import NewEntry
from broker.states import Priority
from broker.tasks import QUEUED_LIMIT
from broker.times import now_us
from broker.turns import UNREAD_LIMIT
from webapp.app import MAX_BODY_BYTES, create_app
from webapp.live import STREAMS_LIMIT

API = "/api/v1"
TOKEN = "secret"
OPEN = ("/health", "/ready", "/openapi.json", "/docs", "/static", "/")


class Api:
    """The application's test client, with the token."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.app = create_app(house.broker.settings, house.broker)
        self.client = self.app.test_client()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {"Authorization": f"Bearer {TOKEN}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body)
        sent = {} if body is None else {"data": data}
        return self.client.open(
            API + path,
            method=method,
            headers=given,
            content_type=None if body is None else "application/json",
            **sent,
        )

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("POST", path, {} if body is None else body, **headers)

    def get(self, path: str) -> Any:
        return self("GET", path)


@pytest.fixture
def api(open_house: Callable[..., Any]) -> Iterator[Api]:
    """The API of a home with one agent, `scout`."""
    house = open_house(ROOST_TOKEN=TOKEN)
    house.agent()
    api = Api(house)
    yield api
    api.app.extensions["roost"].live.stop()


def refused(answer: Any) -> tuple[int, str]:
    """Check that an answer is a problem document; return what it says."""
    problem = answer.get_json()
    assert answer.content_type == "application/problem+json", answer.data
    assert problem["status"] == answer.status_code
    assert {"type", "title", "status", "detail"} <= set(problem)
    return answer.status_code, problem["detail"]


def rules(api: Api) -> Iterator[tuple[str, set[str]]]:
    for rule in api.app.url_map.iter_rules():
        yield rule.rule, (rule.methods or set()) - {"HEAD", "OPTIONS"}


def path_of(rule: str) -> str:
    return rule.replace("<agent_id>", "scout").replace("<task_id>", "x-1")


# Who may ask, and what for.


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Bearer ", "Basic c2VjcmV0"])
def test_every_route_but_the_open_ones_wants_the_token(api, token) -> None:
    headers = {"Authorization": token} if token else {}
    for rule, methods in rules(api):
        if rule.startswith(OPEN[:-1]) or rule == "/":
            continue
        for method in methods:
            answer = api.client.open(path_of(rule), method=method, headers=headers)
            assert refused(answer)[0] == 401, (method, rule)


def test_a_route_refuses_other_methods_and_names_its_own(api) -> None:
    for rule, _ in rules(api):
        # GET …/tasks/claim reads a task of that name.
        if not rule.startswith(API) or rule.endswith("/claim"):
            continue
        every = {m for r, found in rules(api) for m in found if r == rule}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - every:
            answer = api(method, path_of(rule).removeprefix(API))
            assert answer.status_code == 405, (method, rule)
            assert refused(answer)
            assert every <= set(answer.headers["Allow"].split(", "))


def test_every_route_is_in_the_document_and_its_errors_are_problems(api) -> None:
    document = api.client.get("/openapi.json").get_json()
    for rule, methods in rules(api):
        if not rule.startswith(API):
            continue
        operations = document["paths"][rule.replace("<", "{").replace(">", "}")]
        assert {m.lower() for m in methods} <= set(operations)
        operations.pop("parameters", None)
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and "content" in answer:
                    assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("/agents", {"sytem": "x"}, "did you mean 'system'?"),
        ("/agents/scout/messages", {"text": "x", "prioriti": 1}, "'priority'"),
        ("/tasks", {"type": "x", "payloads": {}}, "'payload'"),
        ("/events", {"stream": "external", "body": "x", "sco": 1}, "'scope'"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(api, path, body, hint) -> None:
    status, detail = refused(api.post(path, body))
    assert (status, hint in detail) == (400, True), detail


@pytest.mark.parametrize(
    "path",
    [
        "/agents?limt=3",
        "/tasks?limt=3",
        "/events?limt=3",
        "/agents/scout/history?limt=3",
    ],
)
def test_an_unknown_query_parameter_is_refused_with_the_nearest(api, path) -> None:
    status, detail = refused(api.get(path))
    assert (status, "did you mean 'limit'?" in detail) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "/events?after=-1",
        "/events?after=99999999999999999999999",
        "/events?cursor=%C2%B2",
        "/events?cursor=here",
        "/events?scope=%00",
        "/events?limit=0",
        "/events?order=up",
        "/tasks?status=lost",
        "/tasks?cursor=-1",
        "/agents?cursor=%00",
        "/agents/%00",
        "/agents/scout/history?generation=99999999999999999999999",
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(api, path) -> None:
    assert refused(api.get(path))[0] == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/agents", b"{"),
        ("/agents", b"[]"),
        ("/agents", b"\xff"),
        ("/agents", {"id": 7}),
        ("/agents", {"id": "No Id"}),
        ("/agents", {"name": "a\0"}),
        ("/agents", {"name": "\ud800"}),
        ("/agents", {"tools": "exec"}),
        ("/agents/scout/messages", {}),
        ("/agents/scout/messages", {"text": ""}),
        ("/agents/scout/messages", {"text": "\ud800"}),
        ("/agents/scout/messages", {"text": "a\0"}),
        ("/agents/scout/messages", {"text": "a", "priority": "now"}),
        ("/events", {"stream": "external", "body": "a", "kind": "\0"}),
        ("/events", {"stream": "external", "body": "a", "cause_id": 2**70}),
        ("/events", {"stream": "nowhere", "body": "a"}),
        ("/events", {"stream": "external", "body": "a", "scope": "agent/"}),
        ("/tasks", {"type": "turn"}),
        ("/tasks", {"type": "No"}),
        ("/tasks", b'{"type":"x","payload":{"a":' + b"[" * 300 + b"]" * 300 + b"}}"),
        ("/tasks", b'{"type":"x","payload":' + b"[" * 9999 + b"]" * 9999 + b"}"),
        ("/tasks/claim", {"type": "turn", "worker": "w"}),
        ("/tasks/claim", {"type": "job", "worker": "w\0"}),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(api, path, body) -> None:
    assert refused(api.post(path, body))[0] == 400
    assert api.get("/state").status_code == 200


def test_what_is_nested_deep_but_taken_can_be_read_again(api) -> None:
    deep: Any = []
    for _ in range(90):
        deep = [deep]
    assert (
        api.post("/tasks", {"type": "job", "payload": {"a": deep}}).status_code == 201
    )
    assert api.get("/tasks").get_json()["items"][0]["payload"] == {"a": deep}
    assert api.get("/state").status_code == 200


def test_odd_text_inside_free_json_is_kept_as_it_was(api) -> None:
    odd = {"a\0": "\ud800 \U0001f426 \u2028"}
    assert api.post("/agents", {"id": "q", "metadata": odd}).status_code == 201
    assert api.get("/agents/q").get_json()["metadata"] == odd


def test_a_body_over_the_limit_is_too_large(api) -> None:
    answer = api.post("/agents", b"x" * (8 * 1024 * 1024 + 1), Idempotency_Key="big")
    assert refused(answer)[0] == 413


def test_what_does_not_exist_is_not_found(api) -> None:
    for method, path in [
        ("GET", "/agents/ghost"),
        ("DELETE", "/agents/ghost"),
        ("GET", "/agents/ghost/history"),
        ("GET", "/agents/ghost/inbox"),
        ("DELETE", "/agents/ghost/inbox/1"),
        ("DELETE", "/agents/scout/inbox/1"),
        ("DELETE", "/agents/scout/inbox/%C2%B2"),
        ("GET", "/events?reader=agent/ghost"),
        ("GET", "/tasks/ghost"),
        ("GET", "/tasks/ghost/updates"),
        ("GET", "/why/ghost"),
        ("GET", "/why/999"),
        ("GET", "/why/%C2%B2"),
        ("GET", "/nowhere"),
    ]:
        assert refused(api(method, path))[0] == 404, path
    for verb in ("cancel", "kill", "retry", "drop"):
        assert refused(api.post(f"/tasks/ghost/{verb}"))[0] == 404
    for path in ("/agents/ghost/compact", "/agents/ghost/interrupt"):
        assert refused(api.post(path))[0] == 404
    assert refused(api.post("/tasks", {"type": "job", "parent_id": "no"}))[0] == 404


def test_a_message_to_a_misspelt_agent_is_told_the_nearest(api) -> None:
    for verb in ("messages", "ask", "stream"):
        told = refused(api.post(f"/agents/scot/{verb}", {"text": "hi"}))
        assert told == (404, "There is no agent 'scot'. Did you mean 'scout'?")


# Agents.


def test_an_agent_is_made_once_and_then_changed(api) -> None:
    made = api.post("/agents", {"id": "owl", "system": "wise"})
    again = api.post("/agents", {"id": "owl", "name": "Owl"})
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.headers["Location"] == again.headers["Location"] == f"{API}/agents/owl"
    shown = again.get_json()
    assert (shown["name"], shown["system"], shown["state"]) == ("Owl", "wise", "idle")
    assert api.get("/agents/owl").get_json() == shown


def test_an_agent_without_an_id_gets_one(api) -> None:
    made = api.post("/agents", {}).get_json()
    assert made["id"] == "agent-1"


@pytest.mark.line("P38")
def test_patch_changes_what_is_named_only(api) -> None:
    api.post("/agents", {"id": "owl", "system": "wise", "metadata": {"a": 1}})
    shown = api("PATCH", "/agents/owl", {"name": "Owl"}).get_json()
    assert (shown["name"], shown["system"], shown["metadata"]) == (
        "Owl",
        "wise",
        {"a": 1},
    )
    assert refused(api("PATCH", "/agents/ghost", {"name": "x"}))[0] == 404


def test_delete_cancels_the_turn_and_keeps_the_queue(api) -> None:
    running = api.house.take_turn("first")
    waiting = api.house.post("second").turn_id
    shown = api("DELETE", "/agents/scout").get_json()
    assert shown["state"] == "stopped"
    assert api.house.task(running.id)["stop_verb"] == "cancel"
    assert api.house.status(waiting) == "queued"
    status, detail = refused(api.post("/agents/scout/messages", {"text": "hi"}))
    assert (status, "is stopped" in detail) == (409, True)


def test_agents_are_listed_page_by_page(api) -> None:
    for name in ("a", "b", "c"):
        api.post("/agents", {"id": name})
    first = api.get("/agents?limit=2").get_json()
    rest = api.get(f"/agents?limit=2&cursor={first['next_cursor']}").get_json()
    assert [a["id"] for a in first["items"] + rest["items"]] == ["a", "b", "c", "scout"]
    assert rest["next_cursor"] is None


@pytest.mark.line("P38")
def test_compact_begins_a_new_generation(api) -> None:
    answer = api.post("/agents/scout/compact", {"reason": "long"})
    assert (answer.status_code, answer.get_json()["generation"]) == (202, 2)
    assert answer.headers["Location"] == f"{API}/agents/scout/history"
    found = api.get("/agents/scout/history?generation=2").get_json()["items"]
    assert [entry["type"] for entry in found] == ["context_compaction"]


def test_interrupt_reaches_the_turn_that_runs_or_says_that_none_does(api) -> None:
    assert refused(api.post("/agents/scout/interrupt"))[0] == 409
    turn = api.house.take_turn()
    assert api.post("/agents/scout/interrupt").get_json() == {"ok": True}
    assert api.house.task(turn.id)["stop_verb"] == "interrupt"


# Messages and events.


@pytest.mark.line("P26")
@pytest.mark.parametrize(
    ("priority", "wakes"),
    [("interrupt", True), ("wake", True), ("normal", False), ("low", False)],
)
def test_a_message_names_its_turn_if_it_wakes(api, priority, wakes) -> None:
    answer = api.post("/agents/scout/messages", {"text": "hi", "priority": priority})
    shown = answer.get_json()
    assert answer.status_code == 202
    assert (shown["turn_id"] is not None) is wakes
    place = f"tasks/{shown['turn_id']}" if wakes else "agents/scout"
    assert answer.headers["Location"] == f"{API}/{place}"
    assert api.get("/agents/scout").get_json()["unread"] == 1


@pytest.mark.parametrize("verb", ["messages", "ask", "stream"])
def test_a_message_may_name_the_model_of_its_turn(api, verb: str) -> None:
    body = {"text": "hi", "model": "smart"}
    if verb == "ask":
        body["wait_seconds"] = 0
    answer = api.post(f"/agents/scout/{verb}", body)
    assert answer.status_code in (200, 202)
    answer.close()
    (event,) = api.get("/events?stream=task_input").get_json()["items"]
    assert event["payload"]["model"] == "smart"


def test_ask_gives_the_turn_when_the_wait_ends_first(api) -> None:
    answer = api.post("/agents/scout/ask", {"text": "hi", "wait_seconds": 0})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{API}/tasks/{answer.get_json()['turn_id']}"


@pytest.mark.line("G8")
def test_events_are_listed_both_ways_by_cursor_and_filter(api) -> None:
    for n in range(5):
        stream = "external" if n % 2 else "signals"
        made = api.post("/events", {"stream": stream, "body": str(n)})
        assert (made.status_code, made.get_json()["hop"]) == (201, 0)

    def bodies(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = api.get(f"/events?limit=2&{query}{cursor}").get_json()
            found += [event["body"] for event in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert bodies("") == list("01234")
    assert bodies("order=desc") == list("43210")
    assert bodies("stream=external") == list("31")
    assert bodies("stream=external&after=0") == list("13")
    assert bodies("stream=external&order=asc") == list("13")
    assert bodies("stream=signals&after=1&order=desc") == list("42")
    assert bodies("after=2") == list("234")
    assert bodies("scope=task/x") == []


def test_an_event_of_an_agent_is_unread_and_wakes_it_if_it_should(api) -> None:
    event = {"stream": "external", "scope": "agent/scout", "body": "mail"}
    api.post("/events", event)
    quiet = api.get("/agents/scout").get_json()
    api.post("/events", {**event, "priority": "wake"})
    woken = api.get("/agents/scout").get_json()
    assert (quiet["unread"], quiet["state"]) == (1, "idle")
    assert (woken["unread"], woken["state"]) == (2, "queued")


@pytest.mark.line("G13")
def test_an_agents_own_event_is_born_read(api) -> None:
    event = {"stream": "external", "scope": "agent/scout", "source": "agent/scout"}
    api.post("/events", {**event, "body": "note to self", "priority": "wake"})
    shown = api.get("/agents/scout").get_json()
    assert (shown["unread"], shown["state"]) == (0, "idle")


def test_an_event_of_an_unknown_agent_is_refused(api) -> None:
    event = {"stream": "external", "scope": "agent/ghost", "body": "x"}
    assert refused(api.post("/events", event))[0] == 404


def test_a_reader_lists_what_it_sees_and_acks_it_for_itself(api) -> None:
    ids = [
        api.post("/events", {"stream": "external", "body": str(n)}).get_json()["id"]
        for n in range(3)
    ]
    api.post("/events", {"stream": "external", "body": "x", "scope": "task/j"})

    def unread(reader: str, more: str = "") -> list[str]:
        found = api.get(f"/events?reader={reader}&unread=true{more}").get_json()
        return [event["body"] for event in found["items"]]

    for _ in range(2):
        acked = api.post(f"/events/{ids[1]}/ack", {"reader": "me"}).get_json()
        assert (acked["id"], acked["read"]) == (ids[1], True)
    assert unread("me") == list("02")
    assert unread("me", "&stream=external") == list("20")
    assert unread("scout") == unread("agent/scout") == list("012")
    everything = api.get("/events?reader=me").get_json()["items"]
    assert [event["read"] for event in everything] == [False, True, False]
    assert "read" not in api.get("/events").get_json()["items"][0]
    page = api.get("/events?reader=me&limit=2").get_json()
    assert [event["body"] for event in page["items"]] == list("01")
    rest = api.get(f"/events?reader=me&limit=2&cursor={page['next_cursor']}")
    assert [event["body"] for event in rest.get_json()["items"]] == ["2"]


def test_an_ack_of_what_is_not_there_or_not_seen_is_not_found(api) -> None:
    hidden = api.house.post("for scout").event_id
    for id in (hidden, hidden + 1, "x"):
        assert refused(api.post(f"/events/{id}/ack", {"reader": "me"}))[0] == 404
    assert refused(api.post(f"/events/{hidden}/ack", {}))[0] == 400


def test_unread_wants_a_reader(api) -> None:
    status, detail = refused(api.get("/events?unread=true"))
    assert (status, "name a reader" in detail) == (400, True)


@pytest.mark.parametrize("path", ["/agents/scout/messages", "/events"])
def test_a_priority_is_known_however_it_is_written_and_else_refused(api, path) -> None:
    body = {"text": "x"} if path != "/events" else {"stream": "external", "body": "x"}
    assert api.post(path, {**body, "priority": "InTerrupt"}).status_code < 300
    status, detail = refused(api.post(path, {**body, "priority": "soon"}))
    assert (status, "'interrupt', 'wake', 'normal' or 'low'" in detail) == (400, True)


@pytest.mark.line("G7")
def test_an_event_on_history_is_nobodys_input(api) -> None:
    event = {"stream": "history", "scope": "agent/scout", "body": "x"}
    assert api.post("/events", {**event, "priority": "wake"}).status_code == 201
    shown = api.get("/agents/scout").get_json()
    assert (shown["unread"], shown["state"]) == (0, "idle")
    gone = {**event, "scope": "agent/ghost"}
    assert refused(api.post("/events", gone))[0] == 404


@pytest.mark.parametrize("cause_id", [-1, 0, 10**17])
def test_an_event_of_a_cause_that_is_not_there_is_refused(api, cause_id) -> None:
    answer = api.post(
        "/events", {"stream": "external", "body": "x", "cause_id": cause_id}
    )
    assert refused(answer)[0] == 400
    assert [each["field"] for each in answer.get_json()["errors"]] == ["cause_id"]


def test_an_event_names_its_cause(api) -> None:
    first = api.house.post("first").event_id
    body = {"stream": "external", "body": "x", "cause_id": first}
    assert api.post("/events", body).get_json()["cause_id"] == first


# Cursors.

LISTS = (
    "/agents",
    "/agents/scout/history",
    "/agents/scout/inbox",
    "/agents/scout/labels",
    "/events",
    "/events?order=desc",
    "/events?reader=me",
    "/events?stream=signals",
    "/search?q=word",
    "/tasks",
    "/tasks?type=turn",
    "/tasks/turn-1/updates",
)


@pytest.fixture
def full(api) -> Api:
    """A home in which every list has two pages or more."""
    api.post("/agents", {"id": "owl"})
    for _ in range(2):
        turn = api.house.take_turn("a word")
        api.house.complete(turn)
    for name in ("a", "b"):
        entry = api.get("/agents/scout/history").get_json()["items"][0]["id"]
        api("PUT", f"/agents/scout/labels/{name}", {"entry_id": entry})
        api.house.post("unread")
        api.post("/events", {"stream": "external", "body": name})
    return api


def first_page(api: Api, path: str) -> Any:
    return api.get(f"{path}{'&' if '?' in path else '?'}limit=1").get_json()


def next_page(api: Api, path: str, cursor: str) -> Any:
    return api.get(f"{path}{'&' if '?' in path else '?'}limit=1&cursor={cursor}")


@pytest.mark.parametrize("path", LISTS)
def test_a_list_refuses_a_cursor_that_it_did_not_give(full, path) -> None:
    cursors = {each: first_page(full, each)["next_cursor"] for each in LISTS}
    assert next_page(full, path, cursors.pop(path)).status_code == 200
    foreign = [*cursors.values(), "1", "scout", ".", "a.b", "99999999.1"]
    for cursor in foreign:
        answer = next_page(full, path, cursor)
        assert refused(answer)[0] == 400
        assert answer.get_json()["errors"] == [
            {"field": "cursor", "message": "not a cursor that this list gave"}
        ]


def test_a_last_event_id_that_is_none_is_refused_by_its_name(api) -> None:
    answer = api("GET", "/events/stream", Last_Event_ID="here")
    assert refused(answer) == (400, "Last-Event-ID: not the id of an event")


# The inbox.


@pytest.mark.line("P30")
def test_an_inbox_is_listed_edited_and_withdrawn(api) -> None:
    quiet = api.house.post("by the way", priority=Priority.NORMAL).event_id
    waking = api.house.post("tpyo")
    page = api.get("/agents/scout/inbox?limit=1").get_json()
    assert [(e["text"], e["turn_status"]) for e in page["items"]] == [
        ("tpyo", "queued")
    ]
    cursor = page["next_cursor"]
    rest = api.get(f"/agents/scout/inbox?cursor={cursor}").get_json()
    assert [e["id"] for e in rest["items"]] == [quiet]
    place = f"/agents/scout/inbox/{waking.event_id}"
    edited = api("PATCH", place, {"text": "typo"}).get_json()
    assert (edited["text"], edited["body"], edited["turn_id"]) == (
        "typo",
        "tpyo",
        waking.turn_id,
    )
    gone = api("DELETE", place).get_json()
    assert (gone["read"], gone["turn_status"]) == (True, "cancelled")
    assert api("DELETE", f"/agents/scout/inbox/{quiet}").status_code == 200
    assert api.get("/agents/scout/inbox").get_json()["items"] == []
    assert refused(api("DELETE", place))[0] == 409
    task = api.get(f"/tasks/{waking.turn_id}").get_json()
    assert task["error"]["message"] == "The message was withdrawn."


def test_what_is_being_read_can_be_neither_edited_nor_withdrawn(api) -> None:
    turn = api.house.take_turn()
    place = f"/agents/scout/inbox/{turn.cause_id}"
    for method, body in (("PATCH", {"text": "x"}), ("DELETE", None)):
        status, detail = refused(api(method, place, body))
        assert (status, f"is being read by {turn.id}" in detail) == (409, True)


# Tasks.


def test_a_task_is_made_once(api) -> None:
    first = api.post("/tasks", {"type": "job", "id": "j", "payload": {"a": 1}})
    again = api.post("/tasks", {"type": "job", "id": "j", "payload": {"a": 2}})
    assert (first.status_code, first.get_json()["created"]) == (201, True)
    assert (again.status_code, again.get_json()["created"]) == (200, False)
    assert again.get_json()["payload"] == {"a": 1}
    other = {"type": "exec", "id": "j", "payload": {"code": "1"}}
    assert refused(api.post("/tasks", other))[0] == 409


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({}, ["payload.code"]),
        ({"code": ""}, ["payload.code"]),
        (
            {"code": 5, "timeout_seconds": "x", "zz": 1},
            ["payload.code", "payload.timeout_seconds", "payload.zz"],
        ),
        ({"code": "1", "timeout_seconds": 0}, ["payload.timeout_seconds"]),
        ({"code": "1", "timeout_seconds": True}, ["payload.timeout_seconds"]),
        ({"code": "1", "stdin": 1, "policy": []}, ["payload.stdin", "payload.policy"]),
    ],
)
def test_an_exec_that_could_not_run_is_refused_by_field(api, payload, fields) -> None:
    answer = api.post("/tasks", {"type": "exec", "payload": payload})
    assert refused(answer)[0] == 400
    assert [each["field"] for each in answer.get_json()["errors"]] == fields
    assert api.get("/tasks").get_json()["items"] == []


def test_an_exec_with_all_that_it_may_have_is_taken(api) -> None:
    payload = {
        "code": "1",
        "timeout_seconds": 5,
        "stdin": "a",
        "policy": {"memory_bytes": 2**28},
    }
    made = api.post("/tasks", {"type": "exec", "payload": payload})
    assert (made.status_code, made.get_json()["payload"]) == (201, payload)
    assert api.post("/tasks", {"type": "job", "payload": {"zz": 1}}).status_code == 201


def test_an_exec_is_not_retried_with_what_could_not_run(api) -> None:
    made = api.post("/tasks", {"type": "exec", "payload": {"code": "1"}}).get_json()
    answer = api.post(f"/tasks/{made['id']}/retry", {"payload": {"cod": "2"}})
    hints = {e["field"]: e["message"] for e in answer.get_json()["errors"]}
    assert hints["payload.cod"] == "unknown field; did you mean 'code'?"


def test_tasks_are_listed_newest_first_by_filter(api) -> None:
    api.post("/tasks", {"type": "job", "id": "a"})
    api.post("/tasks", {"type": "job", "id": "b", "parent_id": "a"})
    api.post("/tasks", {"type": "odd", "id": "c", "agent_id": "scout"})

    def ids(query: str) -> list[str]:
        return [task["id"] for task in api.get(f"/tasks?{query}").get_json()["items"]]

    assert ids("") == ["c", "b", "a"]
    assert (ids("type=job"), ids("parent=a"), ids("agent=scout")) == (
        ["b", "a"],
        ["b"],
        ["c"],
    )
    assert (ids("status=queued&limit=1"), ids("status=failed")) == (["c"], [])
    cursor = api.get("/tasks?limit=2").get_json()["next_cursor"]
    assert ids(f"limit=2&cursor={cursor}") == ["a"]


def claimed(api: Api) -> dict[str, Any]:
    api.post("/tasks", {"type": "job", "id": "j"})
    found = api.post("/tasks/claim", {"type": "job", "worker": "w"}).get_json()
    assert [task["id"] for task in found["items"]] == ["j"]
    return found["items"][0]


def test_an_outside_worker_claims_beats_and_completes_once(api) -> None:
    task = claimed(api)
    beat = api.post("/tasks/j/heartbeat", {"epoch": 1, "lease_seconds": 3600})
    assert beat.get_json()["lease_expires_at"] > task["lease_expires_at"]
    first = api.post("/tasks/j/complete", {"epoch": 1, "result": [1]})
    again = api.post("/tasks/j/complete", {"epoch": 1, "result": [2]})
    assert first.get_json() == again.get_json()
    assert (again.get_json()["status"], again.get_json()["result"]) == (
        "completed",
        [1],
    )
    assert refused(api.post("/tasks/j/heartbeat", {"epoch": 1}))[0] == 409


@pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail"])
def test_an_old_epoch_is_refused(api, verb) -> None:
    claimed(api)
    body = {"epoch": 0} | ({"error": {"message": "x"}} if verb == "fail" else {})
    assert refused(api.post(f"/tasks/j/{verb}", body))[0] == 409
    assert api.house.status("j") == "running"


@pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail"])
def test_an_outside_worker_may_not_touch_a_turn(api, verb) -> None:
    turn = api.house.take_turn()
    body = {"epoch": turn.epoch}
    body |= {"error": {"message": "x"}} if verb == "fail" else {}
    assert refused(api.post(f"/tasks/{turn.id}/{verb}", body))[0] == 409


def test_a_failed_task_is_a_dead_letter_until_dropped_or_retried(api) -> None:
    def dead() -> list[str]:
        found = api.get("/tasks?dead_letter=true").get_json()["items"]
        return [task["id"] for task in found]

    claimed(api)
    api.post("/tasks/j/fail", {"epoch": 1, "error": {"message": "broke"}})
    assert dead() == ["j"]
    assert api.post("/tasks/j/drop", {"reason": "old"}).get_json()["dropped_at"]
    assert dead() == []
    assert refused(api.post("/tasks/j/drop"))[0] == 409
    again = api.post("/tasks/j/retry", {"payload": {"b": 2}}).get_json()
    assert (again["status"], again["payload"], again["error"]) == (
        "queued",
        {"b": 2},
        None,
    )
    assert refused(api.post("/tasks/j/retry"))[0] == 409
    assert refused(api.post("/tasks/j/retry", {"text": "x"}))[0] == 400


def test_a_failed_turn_is_retried_with_another_text(api) -> None:
    turn = api.house.take_turn("tpyo")
    with api.house.write() as tx:
        tasks.fail(tx, turn.id, turn.epoch, {"type": "x", "message": "m"})
    assert refused(api.post(f"/tasks/{turn.id}/retry", {"payload": {}}))[0] == 400
    again = api.post(f"/tasks/{turn.id}/retry", {"text": "typo"}).get_json()
    assert again["status"] == "queued"
    found = api.get("/agents/scout/history").get_json()["items"]
    assert found[-1]["content"] == [{"type": "text", "text": "typo"}]


def test_a_task_has_an_update_log_and_takes_input(api) -> None:
    api.post("/tasks", {"type": "exec", "id": "e", "payload": {"code": "1"}})
    made = api.post("/tasks/e/updates", {"kind": "note", "payload": {"a": 1}})
    api.post("/tasks/e/send", {"input": {"text": "line"}})
    found = api.get("/tasks/e/updates?kind=note").get_json()["items"]
    assert (made.status_code, found) == (201, [made.get_json()])
    kinds = [u["kind"] for u in api.get("/tasks/e/updates").get_json()["items"]]
    assert kinds == ["spawn", "note", "input"]
    api.post("/tasks/e/cancel")
    assert refused(api.post("/tasks/e/send", {"input": {}}))[0] == 409


# Idempotency.

POSTS = [
    ("/agents", {}),
    ("/agents/scout/messages", {"text": "hi"}),
    ("/agents/scout/ask", {"text": "hi", "wait_seconds": 0}),
    ("/agents/scout/compact", {}),
    ("/tasks", {"type": "job"}),
    ("/tasks/claim", {"type": "job", "worker": "w"}),
    ("/tasks/j/updates", {"kind": "note"}),
    ("/tasks/j/cancel", {}),
    ("/tasks/j/kill", {}),
    ("/tasks/j/send", {"input": {}}),
    ("/tasks/j/retry", {}),
    ("/tasks/j/drop", {}),
    ("/events", {"stream": "external", "body": "x"}),
    ("/events/1/ack", {"reader": "x"}),
]


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_a_key_gives_the_first_answer_again(api, path, body) -> None:
    api.house.create("job", id="j")
    first = api.post(path, body, Idempotency_Key="k")
    again = api.post(path, body, Idempotency_Key="k")
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers.get("Location") == first.headers.get("Location")
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = api.post(path, {**body, "x": 1}, Idempotency_Key="k")
    assert refused(other)[0] == 422


def unanswered(api: Api, owner: str | None = None) -> None:
    """Make the receipt of `k` that of a request that has no answer yet."""
    with api.house.write() as tx:
        tx.execute(
            "UPDATE receipts SET status = NULL, owner = COALESCE(?, owner)", owner
        )


def test_a_key_whose_first_request_still_runs_is_refused(api) -> None:
    api.post("/agents", {}, Idempotency_Key="k")
    unanswered(api)
    assert refused(api.post("/agents", {}, Idempotency_Key="k"))[0] == 409


def test_a_key_whose_first_request_died_with_its_process_is_free(api) -> None:
    first = api.post("/tasks", {"type": "job"}, Idempotency_Key="k").get_json()
    unanswered(api, f"web@{processes.this_host()}:1:1")
    again = api.post("/tasks", {"type": "job"}, Idempotency_Key="k")
    assert (again.status_code, again.get_json()["created"]) == (200, False)
    assert again.get_json()["id"] == first["id"]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_of_a_wrong_length_is_refused(api, key) -> None:
    assert refused(api.post("/agents", {}, Idempotency_Key=key))[0] == 400


def test_a_stream_with_a_key_posts_once(api) -> None:
    for _ in range(2):
        answer = api.post("/agents/scout/stream", {"text": "hi"}, Idempotency_Key="k")
        assert answer.status_code == 200
        answer.close()
    assert [e["kind"] for e in api.house.events()] == ["message"]


# Back-pressure.


def flood(house: Any) -> None:
    with house.write() as tx:
        tx.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < ?) INSERT INTO tasks (id, type, status, payload, metadata,"
            " rank, attempts, crashes, epoch, created_at, updated_at)"
            " SELECT 'flood-' || i, 'flood', 'queued', '{}', '{}', 2, 0, 0, 0, ?, ?"
            " FROM n",
            QUEUED_LIMIT,
            now_us(),
            now_us(),
        )


def test_a_flood_is_refused_until_it_ebbs_and_the_refusal_is_not_kept(api) -> None:
    flood(api.house)
    full = api.post("/tasks", {"type": "job"}, Idempotency_Key="k")
    assert refused(full)[0] == 429
    assert int(full.headers["Retry-After"]) > 0
    assert refused(api.post("/agents/scout/messages", {"text": "hi"}))[0] == 429
    with api.house.write() as tx:
        tx.execute("DELETE FROM tasks WHERE type = 'flood'")
    later = api.post("/tasks", {"type": "job"}, Idempotency_Key="k")
    assert (later.status_code, later.headers.get("Idempotency-Replayed")) == (201, None)


# The whole.


def test_the_state_the_metrics_and_the_reasons_speak_of_what_is_there(api) -> None:
    posted = api.post("/agents/scout/messages", {"text": "hi"}).get_json()
    state = api.get("/state").get_json()
    assert state["newest_event_id"] == posted["event_id"]
    assert [a["id"] for a in state["agents"]] == ["scout"]
    assert [t["id"] for t in state["tasks"]] == [posted["turn_id"]]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    metrics = api.client.get("/metrics", headers=headers).text
    assert 'roost_tasks{status="queued",type="turn"} 1.0' in metrics
    assert 'roost_agents{state="queued"} 1.0' in metrics
    why = api.get(f"/why/{posted['turn_id']}").get_json()
    assert [link["kind"] for link in why["chain"]] == ["event", "turn"]
    assert why["tree"]["led_to"][0]["unblocked_by"] == "a worker that is free"


def test_a_long_chain_of_tasks_can_be_explained_and_stopped(api) -> None:
    parent = None
    for n in range(150):
        api.post("/tasks", {"type": "job", "id": f"c{n}", "parent_id": parent})
        parent = f"c{n}"
    why = api.get("/why/c149").get_json()
    assert (len(why["chain"]), why["is_cut"]) == (150, True)
    assert api.post("/tasks/c0/cancel").status_code == 200
    assert api.house.status("c149") == "cancelled"


def test_nothing_is_ready_when_nothing_runs_and_each_reason_is_told(api) -> None:
    answer = api.client.get("/ready")
    failed = [c for c in answer.get_json()["checks"] if c["status"] == "fail"]
    assert answer.status_code == 503
    assert [c["name"] for c in failed] == ["agents", "exec", "scheduler"]
    assert all(c["fix"] for c in failed)
    assert api.client.get("/health").status_code == 200


# Idempotency of what cannot be kept.


def stream(api: Api, text: str = "hi") -> Any:
    return api.post("/agents/scout/stream", {"text": text}, Idempotency_Key="k")


def fail(api: Api, turn_id: str) -> None:
    turn = api.house.claim_turn(turn_id)
    with api.house.write() as tx:
        tasks.fail(tx, turn.id, turn.epoch, {"type": "x", "message": "broke"})


def messages(api: Api) -> list[str]:
    return [e["body"] for e in api.house.events() if e["kind"] == "message"]


def test_a_key_streams_the_same_turn_again_and_refuses_another_body(api) -> None:
    stream(api).close()
    api.house.complete(api.house.claim_turn(api.house.hints[0]))
    again, once_more = stream(api).text, stream(api).text
    assert again == once_more
    assert again.rstrip().rpartition("event: ")[2].startswith("agent_end")
    assert refused(stream(api, "ho"))[0] == 422
    assert messages(api) == ["hi"]


def test_a_stream_whose_first_request_still_begins_is_refused(api) -> None:
    stream(api).close()
    unanswered(api)
    assert refused(stream(api))[0] == 409


def test_a_stream_whose_process_died_before_it_began_posts_no_second_time(api) -> None:
    stream(api).close()
    unanswered(api, f"web@{processes.this_host()}:1:1")
    again = stream(api)
    assert again.status_code == 200
    again.close()
    assert messages(api) == ["hi"]


def test_a_refusal_to_stream_is_kept_like_any_other_answer(api) -> None:
    api("DELETE", "/agents/scout")
    first, again = stream(api), stream(api)
    assert refused(first) == refused(again)
    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (409, "true")


def test_a_503_says_nothing_to_the_agent_and_the_next_try_does(api) -> None:
    others = [api.get("/events/stream") for _ in range(STREAMS_LIMIT)]
    assert refused(stream(api))[0] == 503
    assert messages(api) == []
    for each in others:
        each.close()
    later = stream(api)
    assert later.status_code == 200
    later.close()
    assert messages(api) == ["hi"]


def test_a_502_is_not_kept_and_its_key_is_free_for_another_request(
    api, wait_until
) -> None:
    def ask(text: str, wait_seconds: float) -> Any:
        body = {"text": text, "wait_seconds": wait_seconds}
        return api.post("/agents/scout/ask", body, Idempotency_Key="k")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, "hi", 30)
        fail(api, wait_until(lambda: api.house.hints)[0])
        first = asking.result()
    again = ask("hi", 30)
    assert refused(first) == refused(again)
    assert (again.status_code, messages(api)) == (502, ["hi"])
    assert "Idempotency-Replayed" not in again.headers
    assert ask("ho", 0).status_code == 202
    assert messages(api) == ["hi", "ho"]


# Bodies that are no JSON.


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_json_has_not_is_refused_and_told_so(api, number, kind) -> None:
    body = b'{"type": "job", "payload": {"a": [1, ' + number + b"]}}"
    status, detail = refused(api.post("/tasks", body, Content_Type=kind))
    assert (status, "JSON has no NaN" in detail) == (400, True)
    assert api.get("/tasks").get_json()["items"] == []


def test_a_number_that_would_come_out_as_infinity_is_refused(api) -> None:
    def post(number: bytes) -> Any:
        return api.post("/tasks", b'{"type": "job", "payload": {"a": ' + number + b"}}")

    for number in (b"1e999", b"-1e999"):
        assert refused(post(number))[0] == 400
    assert post(b"1e308").get_json()["payload"] == {"a": 1e308}


def test_a_duration_that_is_no_number_is_refused(api) -> None:
    for given in ("nan", "inf"):
        body = {"text": "hi", "wait_seconds": given}
        assert refused(api.post("/agents/scout/ask", body))[0] == 400
        assert refused(api.get(f"/tasks/x?wait_seconds={given}"))[0] == 400


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"name": "\xff"}',
        b"\xff\xfe",
        b'{"name": "\xc0\x80"}',
        b'{"metadata": {"a": ' + b"9" * 5000 + b"}}",
    ],
    ids=["open", "list", "object", "latin", "utf-16", "overlong", "digits"],
)
def test_a_body_that_cannot_be_parsed_is_a_bad_request(api, body, kind) -> None:
    for key in ("", "k"):
        headers = {"Idempotency_Key": key} if key else {}
        answer = api.post("/agents", body, Content_Type=kind, **headers)
        assert refused(answer)[0] == 400
    assert len(api.get("/agents").get_json()["items"]) == 1


def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_limit(api) -> None:
    answer = api.client.post(
        f"{API}/agents",
        headers={"Authorization": f"Bearer {TOKEN}"},
        input_stream=io.BytesIO(b" " * (MAX_BODY_BYTES + 1)),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert refused(answer)[0] == 413


# Back-pressure of one inbox, and of the streams.


def test_a_full_inbox_refuses_the_next_message_and_writes_nothing(api) -> None:
    def send(n: int, agent: str = "scout", **headers: str) -> Any:
        body = {"text": str(n), "priority": "low"}
        return api.post(f"/agents/{agent}/messages", body, **headers)

    for n in range(UNREAD_LIMIT):
        assert send(n).status_code == 202
    before = api.get("/events?order=desc&limit=1").get_json()
    for _ in range(2):
        full = send(UNREAD_LIMIT, Idempotency_Key="k")
        assert refused(full)[0] == 429
        assert int(full.headers["Retry-After"]) > 0
        assert "Idempotency-Replayed" not in full.headers
    assert api.get("/events?order=desc&limit=1").get_json() == before
    assert api.get("/agents/scout").get_json()["unread"] == UNREAD_LIMIT
    assert api.get("/tasks").get_json()["items"] == []
    api.post("/agents", {"id": "owl"})
    assert send(0, "owl").status_code == 202


def test_a_stream_that_nobody_reads_gives_its_place_back(api) -> None:
    for _ in range(STREAMS_LIMIT + 1):
        assert api("HEAD", "/events/stream").status_code == 200
    opened = api.get("/events/stream")
    assert opened.status_code == 200
    opened.close()


# The document and the answers agree.

# A body for each route that wants one; the agent's id is put in.
BODIES: dict[str, Any] = {
    "/agents/{agent_id}/messages": {"text": "x"},
    "/agents/{agent_id}/ask": {"text": "x", "wait_seconds": 0},
    "/agents/{agent_id}/stream": {"text": "x"},
    "/agents/{agent_id}/labels/{name}": {"entry_id": 1},
    "/agents/{agent_id}/inbox/{event_id}": {"text": "x"},
    "/events/{event_id}/ack": {"reader": "x"},
    "/events": {
        "stream": "external",
        "body": "x",
        "scope": "agent/{agent_id}",
        "priority": "wake",
    },
    "/tasks": {"type": "job", "agent_id": "{agent_id}"},
    "/tasks/claim": {"type": "job", "worker": "w"},
    "/tasks/{task_id}/complete": {"epoch": 1},
    "/tasks/{task_id}/fail": {"epoch": 1, "error": {"message": "x"}},
    "/tasks/{task_id}/heartbeat": {"epoch": 1},
    "/tasks/{task_id}/send": {"input": {}},
    "/tasks/{task_id}/updates": {"kind": "x"},
}


def document_of(api: Api) -> Any:
    return api.client.get("/openapi.json").get_json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            if method != "parameters":
                yield method.upper(), path, operation


def resolved(document: Any, part: Any) -> Any:
    for name in part.get("$ref", "").split("/")[1:]:
        part = document[name] if name == "components" else part[name]
    return part


@pytest.fixture(scope="module")
def promised() -> dict[tuple[str, str], set[int]]:
    """The statuses that the document names, read once."""
    return {}


@pytest.fixture(autouse=True)
def every_answer_is_documented(api: Api, promised: Any) -> Iterator[None]:
    """After each test of this file: no answer had a status the document has not."""
    answered: set[tuple[str, str, int]] = set()

    @api.app.after_request
    def note(response: Response) -> Response:
        rule = request.url_rule
        if rule and rule.rule.startswith(API) and request.method in METHODS:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            answered.add((request.method, path, response.status_code))
        return response

    yield
    if not promised:
        for method, path, operation in operations(document_of(api)):
            promised[method, path] = {int(each) for each in operation["responses"]}
    assert {each for each in answered if each[2] not in promised[each[:2]]} == set()


METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


class Provoker:
    """Makes each operation answer with an error of choice."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def send(
        self, method: str, path: str, id: str, body: Any = None, **headers: str
    ) -> Any:
        if body is None and method in ("POST", "PUT", "PATCH"):
            given = json.dumps(BODIES.get(path, {}))
            body = given.replace("{agent_id}", id).encode()
        return self.api(method, re.sub(r"{\w+}", id, path), body, **headers)

    def bad_request(self, method: str, path: str) -> Any:
        if "{" in path:
            return self.send(method, path, "%00")
        if method == "GET":
            return self.send(method, f"{path}?nonsense=1", "")
        return self.send(method, path, "", {"nonsense": 1})

    def unauthorized(self, method: str, path: str) -> Any:
        return self.send(method, path, "scout", Authorization="Bearer no")

    def not_found(self, method: str, path: str) -> Any:
        if (method, path) == ("GET", "/events"):
            return self.send(method, f"{path}?reader=agent/ghost", "")
        return self.send(method, path, "ghost")

    def conflict(self, method: str, path: str) -> Any:
        if method == "PUT":  # which takes no key: the entry is another agent's
            other = self.api.house.agent("owl")
            with self.api.house.write() as tx:
                said = NewEntry(type="user_message", role="user", content=[])
                (id,) = entries.append(tx, other, 1, None, said)
            return self.send(method, path, "scout", {"entry_id": id})
        if "/inbox/" in path:  # the message is being read
            turn = self.api.house.take_turn()
            inbox = path.replace("{agent_id}", "scout")
            answer = self.send(method, inbox, str(turn.cause_id), {"text": "x"})
            self.api.house.complete(turn)
            return answer
        self.send(method, path, "scout", Idempotency_Key=path).close()
        unanswered(self.api)
        return self.send(method, path, "scout", Idempotency_Key=path)

    def too_large(self, method: str, path: str) -> Any:
        return self.send(method, path, "scout", b" " * (MAX_BODY_BYTES + 1))

    def key_reused(self, method: str, path: str) -> Any:
        self.send(method, path, "scout", Idempotency_Key=path).close()
        return self.send(method, path, "scout", b"{ }", Idempotency_Key=path)

    def too_many(self, method: str, path: str) -> Any:
        if not self.api.get("/tasks?type=flood&limit=1").get_json()["items"]:
            flood(self.api.house)
        return self.send(method, path, "scout")

    def no_place(self, method: str, path: str) -> Any:
        others = [self.api.get("/events/stream") for _ in range(STREAMS_LIMIT)]
        answer = self.send(method, path, "scout")
        for each in others:
            each.close()
        return answer


@pytest.mark.parametrize(
    ("status", "provoke"),
    [
        (400, Provoker.bad_request),
        (401, Provoker.unauthorized),
        (404, Provoker.not_found),
        (409, Provoker.conflict),
        (413, Provoker.too_large),
        (422, Provoker.key_reused),
        (429, Provoker.too_many),
        (503, Provoker.no_place),
    ],
)
def test_every_error_that_the_document_names_is_really_answered(
    api, status, provoke
) -> None:
    document = document_of(api)
    provoker = Provoker(api)
    tried = 0
    for method, path, operation in operations(document):
        if path.startswith(API) and str(status) in operation["responses"]:
            answer = provoke(provoker, method, path.removeprefix(API))
            assert refused(answer)[0] == status, (method, path)
            said = resolved(document, operation["responses"][str(status)])
            assert set(said.get("headers", {})) <= set(answer.headers.keys())
            schema = said["content"]["application/problem+json"]["schema"]
            Draft202012Validator(resolved(document, schema)).validate(answer.get_json())
            tried += 1
    assert tried


def test_only_an_ask_can_fail_by_its_turn(api) -> None:
    # The test of the 502 that is not kept is the one that provokes it.
    named = [
        path
        for _, path, each in operations(document_of(api))
        if "502" in each["responses"]
    ]
    assert named == [f"{API}/agents/{{agent_id}}/ask"]


def test_every_error_but_that_of_readiness_is_a_problem_and_a_429_says_when(
    api,
) -> None:
    document = document_of(api)
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) < 400 or path == "/ready":
                continue
            said = resolved(document, answer)
            assert said["content"] == {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"}
                }
            }
            assert ("Retry-After" in said.get("headers", {})) is (status == "429")


def test_every_success_of_an_operation_has_its_schema(api) -> None:
    for method, path, operation in operations(document_of(api)):
        for status, answer in operation["responses"].items():
            if int(status) < 300:
                for kind, media in answer["content"].items():
                    assert media["schema"], (method, path, status, kind)


def test_the_document_has_the_form_of_openapi(api) -> None:
    """By hand: no validator of OpenAPI is among our dependencies."""
    document = document_of(api)
    assert set(document) <= {
        "openapi",
        "info",
        "servers",
        "paths",
        "components",
        "tags",
    }
    assert {"title", "version"} <= set(document["info"])
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for each in document["components"]["responses"].values():
        assert {"description"} <= set(each) <= {"description", "headers", "content"}
        for header in each.get("headers", {}).values():
            assert set(header) == {"description", "required", "schema"}
    for method, path, operation in operations(document):
        assert method in METHODS
        assert set(operation) <= {
            "description",
            "parameters",
            "requestBody",
            "responses",
            "security",
            "summary",
            "tags",
        }
        assert any(status.startswith("2") for status in operation["responses"])
        for answer in operation["responses"].values():
            assert set(answer) == {"$ref"} or answer["description"], (method, path)
            assert resolved(document, answer)["description"]
        for each in operation.get("parameters", []):
            assert {"in", "name", "schema"} <= set(each)
            assert each["in"] in ("path", "query")
            assert each["in"] == "query" or each["required"] is True
