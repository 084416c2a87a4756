"""What a turn shows its model, tells the others and leaves behind (G14, G59 to G68)."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from agents.messages import UserMessage
from agents.models import open_model
from agents.models.base import Request
from agents.models.scripted import ScriptedModel
from broker import agents, entries, events, generations, tasks, updates
from broker.events import EventFilter, NewEvent
from broker.leases import Worker
from broker.states import Priority, Stream
from sandbox import Outcome
from webapp.app import create_app
from webapp.live import Cursor


class Listening(ScriptedModel):
    """A script that remembers what it was asked."""

    def __init__(self, *responses: dict[str, Any]) -> None:
        super().__init__(responses or ({"when": {"contains": ""}, "text": "ok"},))
        self.requests: list[Request] = []

    def stream(self, request: Request, *more: Any) -> Any:
        self.requests.append(request)
        return super().stream(request, *more)

    def heard(self, number: int = -1) -> list[str]:
        """What users said to it, in the words that it read."""
        return [
            str(message.for_model[0]["text"])
            for message in self.requests[number].messages
            if isinstance(message, UserMessage)
        ]


def tell(house: Any, body: str, **more: Any) -> None:
    """Let the agent have news."""
    house.post(body, kind="note", stream=Stream.EXTERNAL, **more)


# What the model reads.


@pytest.mark.line("G59", "G60", "G18", "G19")
def test_the_model_reads_its_message_in_a_frame_with_the_news(house, workshop) -> None:
    tell(house, "it rains", priority=Priority.NORMAL, source="weather")
    tell(house, "tick", priority=Priority.LOW)
    tell(house, "tock", priority=Priority.LOW)
    house.post("hello & good day", source="web", context={"chat": 7})
    model = Listening()
    workshop.work(workshop.taker(model))
    (text,) = model.heard()
    root = ElementTree.fromstring(text)
    assert (root.tag, root.attrib) == (
        "system_updates",
        {"source": "web", "priority": "wake"},
    )
    assert root.findtext("message") == "hello & good day"
    assert root.findtext("context") == '{"chat": 7}'
    (news,) = root.iter("context_updates")
    assert news.attrib == {"superseded": "2"}
    assert [(each.text, each.get("stream"), each.get("source")) for each in news] == [
        ("it rains", "external", "weather")
    ]


@pytest.mark.line("G60", "G61")
def test_what_a_task_in_the_background_puts_out_is_news_until_it_ends(
    house, workshop
) -> None:
    background = {"name": "exec", "arguments": {"code": "1", "wait_seconds": 0}}
    model = Listening(
        {"tool_calls": [background]}, {"text": "begun"}, {"text": "a"}, {"text": "b"}
    )
    taker = workshop.taker(model)
    house.post("run it")
    taker.take(house.hints.pop(0))
    with house.write() as tx:
        claimed = tasks.claim(tx, "exec-1", Worker(owner="exec-worker"))
        for text in ("one", "two", "three"):
            updates.append(tx, "exec-1", "stdout", {"text": text})
    house.post("and?")
    taker.take(house.hints.pop())
    (update,) = ElementTree.fromstring(model.heard()[-1]).iter("event")
    assert update.text == "Task exec-1: stdout. three"
    assert (update.get("task_id"), update.get("count")) == ("exec-1", "3")
    house.post("and now?")  # nothing new
    taker.take(house.hints.pop())
    assert not list(ElementTree.fromstring(model.heard()[-1]).iter("event"))
    assert claimed is not None


@pytest.mark.line("G63")
def test_what_was_shown_is_read_and_what_the_agent_does_itself_is_never_shown(
    house, workshop
) -> None:
    tell(house, "it rains", priority=Priority.NORMAL)
    noop = {"tool_calls": [{"name": "noop", "arguments": {}}]}
    model = Listening(noop, {"text": "one"}, {"text": "two"})
    taker = workshop.taker(model)
    for text in ("first", "second"):
        house.post(text)
        workshop.work(taker)
    assert agents.get(house.database, "scout")["unread"] == 0
    first, second = model.heard()
    assert "it rains" in first
    root = ElementTree.fromstring(second)
    assert [each.tag for each in root] == ["message"]


@pytest.mark.line("G62", "G63")
def test_what_wakes_during_a_round_is_read_before_the_next_call(
    house, workshop, scripted
) -> None:
    noop = {"tool_calls": [{"name": "noop", "arguments": {}}]}

    class Busy(Listening):
        def stream(self, request: Request, *more: Any) -> Any:
            answer = super().stream(request, *more)
            if answer.tool_calls:
                house.post("and this", source="web")
            return answer

    model = Busy(noop, {"text": "both"})
    id = house.post("hello").turn_id
    workshop.taker(model).take(id)
    assert [type(each).__name__ for each in model.requests[1].messages] == [
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
        "UserMessage",
    ]
    root = ElementTree.fromstring(model.heard()[1])
    assert (root.findtext("message"), root.get("source")) == ("and this", "web")
    assert agents.get(house.database, "scout")["unread"] == 0


# What it tells.


@pytest.mark.line("G64")
@pytest.mark.parametrize(
    ("response", "last"),
    [
        ({"text": "hi"}, ("signals", "agent_run_complete", "completed", "")),
        (
            {"error": {"status": 401, "message": "No key."}},
            ("errors", "agent_run_error", "failed", "No key."),
        ),
    ],
)
def test_signals_frame_a_turn_and_its_failure_is_an_error(
    house, workshop, scripted, response: dict[str, Any], last: tuple[str, ...]
) -> None:
    id = house.post().turn_id
    workshop.work(workshop.taker(scripted(response)))
    told = [
        (
            event["stream"],
            event["kind"],
            event["payload"].get("status"),
            event["body"],
        )
        for event in house.events(scope="agent/scout")
        if event["kind"].startswith("agent_run_")
    ]
    assert told == [("signals", "agent_run_start", None, ""), last]
    assert all(
        event["payload"]["turn_id"] == id
        for event in house.events()
        if event["kind"].startswith("agent_run_")
    )


@pytest.mark.line("G65")
def test_who_is_no_agent_has_the_reply_as_the_turns_result_and_in_its_stream(
    house, workshop, scripted
) -> None:
    id = house.post("hello", source="service/mail", request_id="r-1").turn_id
    workshop.work(workshop.taker(scripted({"text": "hi"})))
    assert tasks.shape(house.task(id))["result"] == {"text": "hi"}
    ends = house.events(subject=id)[-2:]
    assert [(each["kind"], each["payload"]["text"]) for each in ends] == [
        ("turn_end", "hi"),
        ("agent_end", "hi"),
    ]
    assert not any(event["kind"] == "reply" for event in house.events())


@pytest.mark.line("G14")
def test_whoever_follows_gets_all_that_is_pushed_however_much_it_is(house) -> None:
    app = create_app(house.broker.settings, house.broker)
    live = app.extensions["roost"].live
    after = events.newest_id(house.database)
    pieces = live.stream(lambda: Cursor(EventFilter(stream="external"), after))
    assert next(pieces).startswith("retry:")
    for number in range(600):  # more than a page, and nobody reads meanwhile
        new = NewEvent(
            stream=Stream.EXTERNAL, scope="global", kind="note", body=str(number)
        )
        with house.write() as tx:
            events.append(tx, new)
    ids = [int(next(pieces).split("id: ")[1].split("\n")[0]) for _ in range(600)]
    pieces.close()
    live.stop()
    assert ids == [event["id"] for event in house.events(stream="external")]


# What it leaves behind.


FIELDS = {
    "id",
    "agent_id",
    "parent_id",
    "generation",
    "type",
    "role",
    "content",
    "turn_id",
    "step",
    "tool_call_id",
    "tool_name",
    "status",
    "usage",
    "created_at",
    "data",
}
TYPES = {
    "tools_config": None,
    "system_prompt": "system",
    "user_message": "user",
    "wake": "user",
    "reasoning": "assistant",
    "assistant_message": "assistant",
    "tool_call": "assistant",
    "tool_result": "tool",
    "error": None,
    "context_compaction": None,
}


@pytest.mark.line("G66")
def test_a_history_has_ten_types_of_entries_and_each_its_role(
    house, workshop, sandbox
) -> None:
    run = {"name": "exec", "arguments": {"code": "4", "wait_seconds": 0}}
    script = [
        {
            "when": {"matches": "^hello$"},
            "reasoning": "hm",
            "text": "one moment",
            "tool_calls": [run],
        },
        {"when": {"contains": '"background"'}, "text": "started"},
        {"when": {"contains": "Task exec-1"}, "error": {"status": 401}},
    ]
    house.post("hello")
    with sandbox(Outcome(status="completed", result=4)) as cage:
        workshop.work(workshop.taker(ScriptedModel(script)), workshop.runner(cage))
    with house.write() as tx:
        generations.compact(tx, "scout", "enough")
    found = entries.list_after(house.database, "scout")
    assert {each["type"]: each["role"] for each in found} == TYPES
    assert all(each.keys() >= FIELDS for each in found)
    (call,) = [each for each in found if each["type"] == "tool_call"]
    (result,) = [each for each in found if each["type"] == "tool_result"]
    assert call["tool_call_id"] == result["tool_call_id"]
    assert (call["tool_name"], result["tool_name"]) == ("exec", "exec")
    assert (result["status"], result["step"]) == ("succeeded", 2)


# Without a key.


@pytest.mark.line("G68")
def test_without_a_setting_or_a_key_the_demo_answers_and_says_so(
    house, workshop
) -> None:
    id = house.post("hello").turn_id
    workshop.work(workshop.taker(open_model))
    assert "no key, no network" in tasks.shape(house.task(id))["result"]["text"]


@pytest.mark.line("G68")
@pytest.mark.parametrize("model", ["nobody/none", "anthropic/some-model"])
def test_a_model_that_cannot_be_asked_fails_the_turn_at_once_and_nothing_else(
    house, workshop, model: str
) -> None:
    house.agent("owl", model=model)
    id = house.post(to="owl").turn_id
    taker = workshop.taker(open_model)
    workshop.work(taker)
    error = tasks.shape(house.task(id))["error"]
    assert (house.status(id), house.task(id)["attempts"]) == ("failed", 1)
    assert model.partition("/")[0] in error["message"]
    assert house.state("owl") == "idle"
    house.agent("owl", model="demo")
    again = house.post(to="owl").turn_id
    workshop.work(taker)
    assert house.status(again) == "completed"
