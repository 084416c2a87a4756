"""Inboxes and readers over HTTP, and by the command: all that they do and refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from agents.messages import ToolResult
from agents.models.scripted import ScriptedModel
from agents.tools.registry import ToolContext, tool
from broker import steering, turns
from broker.settings import ensure_token
from broker.states import Priority
from webapp.app import create_app
from webapp.cli import roost as roost_group

INBOX = "/agents/scout/inbox"


class Api:
    """The application's test client, with the token."""

    def __init__(self, house: Any) -> None:
        self.token = ensure_token(house.broker.settings)
        self.app = create_app(house.broker.settings, house.broker)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        return self.app.test_client().open(
            f"/api/v1{path}",
            method=method,
            headers={"Authorization": f"Bearer {self.token}"},
            json=body,
        )

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def items(self, path: str) -> list[Any]:
        return list(self.get(path)["items"])

    def push(self, body: str, **more: Any) -> int:
        answer = self("POST", "/events", {"stream": "external", "body": body, **more})
        assert answer.status_code == 201, answer.text
        return int(answer.get_json()["id"])

    def ack(self, event_id: int, reader: str) -> Any:
        return self("POST", f"/events/{event_id}/ack", {"reader": reader})


@pytest.fixture
def api(house) -> Iterator[Api]:
    """The API of a home with one agent, `scout`."""
    house.agent()
    api = Api(house)
    yield api
    api.app.extensions["roost"].live.stop()


@pytest.fixture
def roost(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """The command, pointed at that API on a port of the loopback."""
    with make_server("127.0.0.1", 0, api.app, threaded=True) as server:
        monkeypatch.setenv("ROOST_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("ROOST_TOKEN", api.token)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield lambda *arguments: CliRunner().invoke(roost_group, arguments)
        server.shutdown()
        thread.join()


def refused(answer: Any) -> tuple[int, str]:
    assert answer.content_type == "application/problem+json", answer.text
    return answer.status_code, answer.get_json()["detail"]


def said(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def failed(result: Result) -> str:
    assert result.exit_code == 1, result.stdout
    return result.stderr


def texts(items: list[Any]) -> list[str]:
    return [each["text"] for each in items]


def bodies(items: list[Any]) -> list[str]:
    return [each["body"] for each in items]


# What an inbox lists.


def test_an_input_is_shown_whole_with_its_text_and_its_turn(house, api) -> None:
    posted = house.post("hello", source="person", context={"at": "home"})
    (shown,) = api.items(INBOX)
    event = api.items("/events?stream=task_input")[0]
    assert shown == {
        **event,
        "read": False,
        "text": "hello",
        "turn_id": posted.turn_id,
        "turn_status": "queued",
    }


def test_an_inbox_is_listed_most_urgent_first_page_by_page(house, api) -> None:
    for priority in reversed(Priority):
        house.post(f"news {priority}", priority=priority, kind="note")
        house.post(str(priority), priority=priority)
    expected = [t for p in Priority for t in (str(p), f"news {p}")]
    assert texts(api.items(INBOX)) == expected
    found: list[str] = []
    cursor = ""
    while True:
        page = api.get(f"{INBOX}?limit=3{cursor}")
        found += texts(page["items"])
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == expected


def test_a_cursor_holds_though_what_it_names_was_read_meanwhile(house, api) -> None:
    for text in "abc":
        house.post(text)
    page = api.get(f"{INBOX}?limit=1")
    house.complete(house.claim_turn("turn-1"))
    assert texts(api.items(f"{INBOX}?cursor={page['next_cursor']}")) == ["b", "c"]


def test_what_a_turn_reads_is_in_the_inbox_until_the_turn_is_over(house, api) -> None:
    turn = house.take_turn()
    (shown,) = api.items(INBOX)
    assert (shown["turn_id"], shown["turn_status"]) == (turn.id, "running")
    house.complete(turn)
    assert api.items(INBOX) == []


def test_what_a_turn_has_absorbed_is_listed_under_that_turn(house, api) -> None:
    turn = house.take_turn("one")
    house.post("two")
    with house.write() as tx:
        assert steering.absorb(tx, turn, news_only=False, limit=1)
    shown = [(each["text"], each["turn_id"]) for each in api.items(INBOX)]
    assert shown == [("one", turn.id), ("two", turn.id)]


def test_a_message_whose_turn_failed_stays_in_the_inbox(house, api) -> None:
    turn = house.take_turn()
    with house.write() as tx:
        error = {"type": "x", "message": "It is ill."}
        turns.fail(tx, turn, error, retriable=False)
    assert [each["turn_status"] for each in api.items(INBOX)] == ["failed"]


@pytest.mark.parametrize("cursor", ["here", "%C2%B2", "-1", "9" * 30])
def test_a_cursor_that_no_list_gave_is_refused(api, cursor) -> None:
    status, detail = refused(api("GET", f"{INBOX}?cursor={cursor}"))
    assert (status, detail) == (400, "cursor: not a cursor that this list gave")


def test_a_cursor_of_another_inbox_is_refused(house, api) -> None:
    house.agent("owl")
    for _ in range(2):
        house.post("for owl", to="owl")
    given = api.get("/agents/owl/inbox?limit=1")["next_cursor"]
    for cursor in (given, given.partition(".")[2]):
        expected = (400, "cursor: not a cursor that this list gave")
        assert refused(api("GET", f"{INBOX}?cursor={cursor}")) == expected


def test_a_cursor_of_an_event_that_is_gone_is_refused(house, api) -> None:
    for _ in range(2):
        house.post("one")
    tag, _, place = api.get(f"{INBOX}?limit=1")["next_cursor"].partition(".")
    expected = (400, "cursor: not a cursor that this list gave")
    gone = f"{INBOX}?cursor={tag}.{int(place) + 99}"
    assert refused(api("GET", gone)) == expected
    assert refused(api("GET", f"/agents/ghost/inbox?cursor={place}"))[0] == 400


# Edit and withdraw.


def test_an_edited_message_reaches_the_model_as_edited(house, api, workshop) -> None:
    posted = house.post("tpyo")
    answer = api("PATCH", f"{INBOX}/{posted.event_id}", {"text": "typo"})
    edited = answer.get_json()
    assert (answer.status_code, edited["body"], edited["text"]) == (200, "tpyo", "typo")
    script = [{"when": {"matches": "^typo$"}, "text": "I see."}]
    workshop.work(workshop.taker(ScriptedModel(script)))
    assert api.get(f"/tasks/{posted.turn_id}")["result"] == {"text": "I see."}
    assert api.items("/events?stream=task_input")[0]["body"] == "tpyo"


def test_a_message_is_edited_until_a_running_turn_absorbs_it(
    house, api, workshop
) -> None:
    @tool(effect="pure")
    def edits(context: ToolContext) -> ToolResult:
        """Post, and change what was posted."""
        id = house.post("tpyo").event_id
        assert api("PATCH", f"{INBOX}/{id}", {"text": "typo"}).status_code == 200
        return ToolResult(text="edited")

    call = {"name": "edits", "arguments": {}}
    script = [
        {"when": {"matches": "^go$"}, "tool_calls": [call]},
        {"when": {"matches": "^typo$"}, "text": "both"},
    ]
    house.post("go")
    workshop.work(workshop.taker(ScriptedModel(script), tools=[edits]))
    result = api.get("/tasks/turn-2")["result"]
    assert result == {"text": "both", "absorbed_by": "turn-1"}


def test_a_withdrawn_message_is_read_by_nobody_and_its_turn_is_cancelled(
    house, api, workshop
) -> None:
    posted = house.post("hello")
    quiet = house.post("by the way", priority=Priority.NORMAL).event_id
    gone = api("DELETE", f"{INBOX}/{posted.event_id}").get_json()
    assert (gone["read"], gone["turn_status"]) == (True, "cancelled")
    gone = api("DELETE", f"{INBOX}/{quiet}").get_json()
    assert (gone["read"], gone["turn_id"]) == (True, None)
    workshop.work(workshop.taker(ScriptedModel([])))
    error = api.get(f"/tasks/{posted.turn_id}")["error"]
    assert error["message"] == "The message was withdrawn."
    shown = api.get("/agents/scout")
    assert (shown["state"], shown["unread"]) == ("idle", 0)


@pytest.mark.line("P30")
def test_all_that_nobody_reads_yet_can_be_taken_back_at_once(house, api) -> None:
    turn = house.take_turn()
    absorbed = house.post("absorbed").event_id
    with house.write() as tx:
        assert steering.absorb(tx, turn, news_only=False, limit=1)
    urgent = house.post("stop", priority=Priority.INTERRUPT)
    quiet = [house.post("hm", priority=p).event_id for p in list(Priority)[2:]]
    many = [house.post(f"message {n}") for n in range(120)]
    news = house.post("exec-1 is done", kind="task_update").event_id

    gone = api("DELETE", INBOX).get_json()["withdrawn"]

    assert gone == [urgent.event_id, *quiet, *(each.event_id for each in many)]
    assert {house.status(each.turn_id) for each in (urgent, *many)} == {"cancelled"}
    left = {each["id"] for each in api.items(INBOX)}
    assert left == {turn.cause_id, absorbed, news}
    assert api("DELETE", INBOX).get_json() == {"withdrawn": []}
    assert refused(api("DELETE", "/agents/ghost/inbox"))[0] == 404


CHANGES = [("PATCH", {"text": "x"}), ("DELETE", None)]


@pytest.mark.parametrize(("method", "body"), CHANGES)
def test_what_is_being_read_says_by_which_turn_and_what_to_do(
    house, api, method, body
) -> None:
    turn = house.take_turn()
    absorbed = house.post("two").event_id
    with house.write() as tx:
        assert steering.absorb(tx, turn, news_only=False, limit=1)
    for id in (turn.cause_id, absorbed):
        assert refused(api(method, f"{INBOX}/{id}", body)) == (
            409,
            f"Event {id} of agent scout is being read by {turn.id}, which is running."
            " Send another message, or cancel that turn.",
        )
    house.complete(turn)
    assert refused(api(method, f"{INBOX}/{absorbed}", body)) == (
        409,
        f"Event {absorbed} of agent scout has been read, or was withdrawn.",
    )


@pytest.mark.parametrize(("method", "body"), CHANGES)
def test_a_dead_letter_is_for_retry_or_drop(house, api, method, body) -> None:
    turn = house.take_turn()
    with house.write() as tx:
        error = {"type": "x", "message": "It is ill."}
        turns.fail(tx, turn, error, retriable=False)
    assert refused(api(method, f"{INBOX}/{turn.cause_id}", body)) == (
        409,
        f"Event {turn.cause_id} of agent scout was read by {turn.id}, which is failed."
        " Retry or drop that turn.",
    )


@pytest.mark.parametrize(("method", "body"), CHANGES)
def test_only_what_is_in_this_inbox_can_be_changed(house, api, method, body) -> None:
    house.agent("owl")
    foreign = house.post("for owl", to="owl").event_id
    everybodys = api.push("to all")
    for id in (foreign, everybodys, everybodys + 99, "x"):
        expected = (404, f"There is no event '{id}'.")
        assert refused(api(method, f"{INBOX}/{id}", body)) == expected
    status, detail = refused(api(method, f"/agents/ghost/inbox/{foreign}", body))
    assert (status, detail) == (404, "There is no agent 'ghost'.")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": 7}, "text"),
        ({"text": "a\0"}, "text"),
        ({"text": "x", "txt": "x"}, "txt"),
        ({"text": "x", "priority": "low"}, "priority"),
    ],
)
def test_an_edit_needs_a_text_and_takes_nothing_else(house, api, body, field) -> None:
    id = house.post("hello").event_id
    answer = api("PATCH", f"{INBOX}/{id}", body)
    assert refused(answer)[0] == 400
    assert [each["field"] for each in answer.get_json()["errors"]] == [field]
    assert texts(api.items(INBOX)) == ["hello"]


# Readers.


def test_each_reader_has_its_own_unread_events(house, api) -> None:
    first, second = api.push("a"), api.push("b")
    for _ in range(2):
        acked = api.ack(first, "me")
        assert (acked.status_code, acked.get_json()["read"]) == (200, True)
    assert bodies(api.items("/events?reader=me&unread=true")) == ["b"]
    assert bodies(api.items("/events?reader=me&unread=false")) == ["a"]
    assert bodies(api.items("/events?reader=you&unread=true")) == ["a", "b"]
    listed = {e["id"]: e["read"] for e in api.items("/events?reader=me")}
    assert listed == {first: True, second: False}


def test_a_name_with_its_kind_is_the_same_reader(api) -> None:
    id = api.push("a")
    api.ack(id, "agent/scout")
    assert api.items("/events?reader=scout&unread=true") == []


def test_an_ack_by_an_agent_takes_the_event_out_of_its_inbox(house, api) -> None:
    quiet = house.post("by the way", priority=Priority.NORMAL).event_id
    assert api.ack(quiet, "scout").get_json()["read"] is True
    assert (api.items(INBOX), api.get("/agents/scout")["unread"]) == ([], 0)


def test_a_reader_sees_nothing_of_another_scope(house, api) -> None:
    house.agent("owl")
    house.create(id="job")
    ids = {
        scope: api.push(scope, scope=scope)
        for scope in ("global", "agent/owl", "agent/scout", "task/job")
    }
    for reader, own in (("owl", "agent/owl"), ("job", "task/job"), ("me", "global")):
        found = api.items(f"/events?reader={reader}&stream=external&order=asc")
        seen = [scope for scope in ids if scope in ("global", own)]
        assert bodies(found) == seen
        for scope, id in ids.items():
            status = api.ack(id, reader).status_code
            assert status == (200 if scope in seen else 404), (reader, scope)
        foreign = next(scope for scope in ids if scope not in seen)
        assert api.items(f"/events?reader={reader}&scope={foreign}") == []


def test_the_pages_of_what_is_unread_lose_and_repeat_nothing(house, api) -> None:
    for number in range(7):
        api.push(str(number), scope="agent/scout" if number % 2 else "global")
    for order in ("asc", "desc"):
        query = f"/events?reader=scout&unread=true&limit=2&order={order}"
        found: list[str] = []
        cursor = ""
        while True:
            page = api.get(query + cursor)
            found += bodies(page["items"])
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == sorted("0123456", reverse=order == "desc")


def test_a_reader_that_cannot_be_is_refused(api) -> None:
    id = api.push("a")
    ghost = (404, "There is no agent 'ghost'.")
    assert refused(api("GET", "/events?reader=agent/ghost")) == ghost
    assert refused(api.ack(id, "agent/ghost")) == ghost
    for name in ("", "x" * 201):
        assert refused(api("GET", f"/events?reader={name}"))[0] == 400
        assert refused(api.ack(id, name))[0] == 400
    assert refused(api("GET", "/events?unread=false")) == (
        400,
        "unread: say whose: name a reader",
    )
    assert refused(api("GET", "/events?reader=me&unread=perhaps"))[0] == 400


def test_an_ack_names_a_reader_and_nothing_else(api) -> None:
    path = f"/events/{api.push('a')}/ack"
    assert refused(api("POST", path, {}))[0] == 400
    status, detail = refused(api("POST", path, {"reader": "me", "raeder": "me"}))
    assert (status, detail) == (400, "raeder: unknown field; did you mean 'reader'?")


# By the command.


def test_the_command_lists_edits_and_withdraws(house, api, roost) -> None:
    posted = house.post("tpyo", source="person")
    id = str(posted.event_id)
    assert said(roost("edit", "scout", id, "typo")) == (
        f"scout will read the new text of {id}.\n"
    )
    line = f"{id}\twake\tmessage\tperson\t{posted.turn_id}\tqueued\ttypo\n"
    assert said(roost("inbox", "scout")) == line
    assert json.loads(said(roost("inbox", "scout", "--json"))) == api.items(INBOX)
    told = said(roost("withdraw", "scout", id))
    assert told == f"scout will not read {id}. {posted.turn_id} is cancelled.\n"
    assert said(roost("inbox", "scout")) == ""


def test_the_command_prints_what_it_changed_as_json(house, roost) -> None:
    quiet = str(house.post("a", priority=Priority.NORMAL).event_id)
    edited = json.loads(said(roost("edit", "scout", quiet, "b", "--json")))
    assert (edited["body"], edited["text"], edited["turn_id"]) == ("a", "b", None)
    gone = json.loads(said(roost("withdraw", "scout", quiet, "--json")))
    assert (gone["id"], gone["read"]) == (int(quiet), True)


def test_the_command_lists_as_many_as_it_may(house, roost) -> None:
    for text in "abc":
        house.post(text)
    assert len(said(roost("inbox", "scout", "--limit", "2")).splitlines()) == 2


def test_the_command_says_why_not(house, roost) -> None:
    turn = house.take_turn()
    id = str(turn.cause_id)
    for told in (roost("edit", "scout", id, "x"), roost("withdraw", "scout", id)):
        assert f"is being read by {turn.id}, which is running. Send" in failed(told)
    assert "There is no agent 'scot'" in failed(roost("inbox", "scot"))
    assert "There is no event '99'." in failed(roost("withdraw", "scout", "99"))
    assert "at least 1 character" in failed(roost("edit", "scout", id, ""))


# Why, by the command.


def test_why_walks_from_a_message_to_the_reply_that_another_turn_gave(
    house, workshop, roost
) -> None:
    @tool(effect="pure")
    def look(context: ToolContext) -> ToolResult:
        """Look around, while somebody says more."""
        house.post("and tell owl", source="person")
        return ToolResult(text="seen")

    tell = {"agent_id": "owl", "text": "news", "wait_seconds": 60}
    script = [
        {
            "when": {"matches": "^go$"},
            "tool_calls": [{"name": "look", "arguments": {}}],
        },
        {
            "when": {"contains": "tell owl"},
            "tool_calls": [{"name": "delegate", "arguments": tell}],
        },
        {"when": {"matches": "^news$"}, "text": "thanks"},
        {"when": {"contains": "thanks"}, "text": "All is told."},
    ]
    house.agent("owl")
    house.post("go")
    workshop.work(workshop.taker(ScriptedModel(script), tools=[look]))
    lines = said(roost("why", "turn-2")).splitlines()
    first, second, asked = (
        event["id"] for event in house.events(stream="task_input")[:3]
    )
    shown = [line.partition("  (")[0] for line in lines]
    assert shown == [
        f"{second}: person to agent/scout: and tell owl",
        "turn-2: turn of scout, completed, answered by turn-1",
        "",
        f"{second}  person to agent/scout: and tell owl",
        "  turn-2  turn of scout, completed, answered by turn-1",
        "    replied: All is told.",
        "    turn-1  turn of scout, completed",
        "      1. model scripted  succeeded",
        "      2. tool look  succeeded",
        "      3. model scripted  succeeded",
        "      4. tool delegate  succeeded",
        f"         {asked}  agent/scout to agent/owl: news",
        "           turn-3  turn of owl, completed",
        "             1. model scripted  succeeded",
        "             replied: thanks",
        "      5. model scripted  succeeded",
        f"      also read {first}: somebody to agent/scout: go",
        "      replied: All is told.",
    ]
    timed = [line for line in lines if " s" in line.partition("  (")[2]]
    assert len(timed) == 8  # each turn and each step
