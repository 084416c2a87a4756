"""The HTTP API on a temporary home: what it takes, what it refuses, and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker import processes, tasks
from broker.tasks import QUEUED_LIMIT
from broker.times import now_us
from webapp.app import create_app

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
            assert "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"]


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


def test_ask_gives_the_turn_when_the_wait_ends_first(api) -> None:
    answer = api.post("/agents/scout/ask", {"text": "hi", "wait_seconds": 0})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{API}/tasks/{answer.get_json()['turn_id']}"


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
    assert bodies("stream=external") == list("13")
    assert bodies("stream=signals&order=desc") == list("420")
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


def test_an_agents_own_event_is_born_read(api) -> None:
    event = {"stream": "external", "scope": "agent/scout", "source": "agent/scout"}
    api.post("/events", {**event, "body": "note to self", "priority": "wake"})
    shown = api.get("/agents/scout").get_json()
    assert (shown["unread"], shown["state"]) == (0, "idle")


def test_an_event_of_an_unknown_agent_is_refused(api) -> None:
    event = {"stream": "external", "scope": "agent/ghost", "body": "x"}
    assert refused(api.post("/events", event))[0] == 404


# Tasks.


def test_a_task_is_made_once(api) -> None:
    first = api.post("/tasks", {"type": "job", "id": "j", "payload": {"a": 1}})
    again = api.post("/tasks", {"type": "job", "id": "j", "payload": {"a": 2}})
    assert (first.status_code, first.get_json()["created"]) == (201, True)
    assert (again.status_code, again.get_json()["created"]) == (200, False)
    assert again.get_json()["payload"] == {"a": 1}
    assert refused(api.post("/tasks", {"type": "exec", "id": "j"}))[0] == 409


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
