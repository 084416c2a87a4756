"""What the lines of pi's agent core say of whole turns, where no neighbour says it
whole; the sequences of events are in test_event_sequences.py."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import structlog

from agents.hooks import Hooks
from agents.messages import Answer, Message, ToolMessage, ToolResult, UserMessage
from agents.models.base import Request
from agents.models.scripted import ScriptedModel
from agents.tools import ToolContext, tool
from broker import agents, entries, generations, tasks
from broker.agents import AgentChange
from broker.logs import set_up_logging
from broker.states import Priority
from broker.times import now_us
from broker.together import (
    HOPS_LIMIT,
    PAIR_LIMIT,
    PING_PONG_HOPS,
    STORM_LIMIT,
    WINDOW_SECONDS,
)
from sandbox import Outcome, Output
from webapp.app import create_app

SUMMARY = "## Goal\nTo go on."
LONG = "word " * 400  # five hundred tokens
WINDOW = 2_000  # so 1,500 may be filled, and at most 1,000 stay
TOKEN = "secret"
DEADLINE_SECONDS = 20.0
Json = dict[str, Any]


class Model(ScriptedModel):
    """A scripted model that keeps what it was sent, and can do something first."""

    def __init__(self, *responses: Json, name: str = "scripted") -> None:
        super().__init__(responses, name)
        self.requests: list[Request] = []
        self.first: Callable[[], None] = lambda: None

    def stream(self, request: Request, *more: Any) -> Any:
        self.requests.append(request)
        self.first()
        return super().stream(request, *more)

    @property
    def asked(self) -> list[str]:
        """The text of the last message of each request."""
        return [_text(request.messages[-1]) for request in self.requests]


def _text(message: Message) -> str:
    if isinstance(message, UserMessage):
        return str(message.for_model[0]["text"])
    assert isinstance(message, ToolMessage)
    return message.result.text


def always(text: str, **more: Any) -> Json:
    return {"when": {}, "text": text, **more}


def call(name: str, **arguments: Any) -> Json:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def history(house: Any, type: str, agent_id: str = "scout") -> list[Any]:
    found = entries.list_after(house.database, agent_id)
    return [each for each in found if each["type"] == type]


def reply(house: Any, id: str) -> Any:
    return tasks.shape(house.task(id))["result"]


def compact(house: Any) -> None:
    with house.write() as tx:
        generations.compact(tx, "scout", None)


# One message, one turn (P1, P7, P9, P20).


@pytest.mark.line("P1")
def test_a_message_is_in_the_history_and_framed_before_the_model_is_asked(
    house, workshop
) -> None:
    kept: list[str] = []
    order: list[str] = []

    def transform(messages: Sequence[Message]) -> Sequence[Message]:
        order.append("transform")
        return messages

    def look() -> None:
        order.append("model")
        kept.extend(e["content"][0]["text"] for e in history(house, "user_message"))

    house.agent(system="Be kind.", tools=["noop"])
    model = Model({"text": "hi"})
    model.first = look
    taker = workshop.taker(model)
    taker.hooks = Hooks(transform_context=(transform,))
    house.post("hello", source="web/ada")
    workshop.work(taker)
    assert (kept, order) == (["hello"], ["transform", "model"])
    (request,) = model.requests
    assert 'source="web/ada"' in model.asked[0]
    assert "<message>hello</message>" in model.asked[0]
    assert request.system.endswith("Be kind.")
    assert [spec.name for spec in request.tools] == ["noop"]


@pytest.mark.line("P7")
def test_an_agent_cannot_call_a_tool_that_it_was_not_given(house, workshop) -> None:
    house.agent(tools=["noop"])
    model = Model(call("exec", code="1", wait_seconds=0), {"text": "I may not."})
    id = house.post().turn_id
    workshop.work(workshop.taker(model))
    assert model.asked[1] == "unknown tool: exec. The tools are: noop."
    assert reply(house, id) == {"text": "I may not."}
    assert tasks.find(house.database, "exec-1") is None


@pytest.mark.line("P9")
def test_a_prompt_is_made_of_three_parts_and_changes_with_the_generation(
    house, workshop, sandbox, tmp_path
) -> None:
    (tmp_path / "PROMPT.ts").write_text("console.log('You dig.')")
    (tmp_path / "MEMORY.md").write_text("Tea.")
    house.agent(system="Be kind.")
    model = Model(always("ok"))
    taker = workshop.taker(model)
    taker.home = tmp_path
    ended = Outcome(status="completed", exit_code=0)
    printed = [Output(stream="stdout", text="You dig.\n")]

    def turn(*outcomes: Outcome) -> None:
        house.post()
        with sandbox(*outcomes, outputs=printed) as cage:
            workshop.work(taker, workshop.runner(cage))

    turn(ended)
    with house.write() as tx:
        agents.update(tx, "scout", AgentChange(system="Be quick."))
    turn()  # the prompt of this generation is made already
    compact(house)
    turn(ended)
    before = "You dig.\n\n## Workspace Context\n\nTea.\n\n"
    systems = [request.system for request in model.requests if request.tools]
    assert systems == [before + "Be kind."] * 2 + [before + "Be quick."]


@pytest.mark.line("P20")
def test_what_an_agent_writes_to_another_reaches_it_with_its_name(
    house, workshop
) -> None:
    house.agent("ranger", model="ranger")
    ranger = Model(always("noted"))
    scout = Model(
        {
            "when": {"contains": "tell"},
            **call("send_task", task_id="ranger", body="hi"),
        },
        always("told"),
    )
    models = {None: scout, "ranger": ranger}
    house.post("tell the ranger")
    workshop.work(workshop.taker(models.__getitem__))
    assert 'source="agent/scout"' in ranger.asked[0]
    assert "<message>hi</message>" in ranger.asked[0]
    (told,) = history(house, "user_message", "ranger")
    assert told["content"] == [{"type": "text", "text": "hi"}]


# The log (P10).


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., list[Json]]]:
    """What is logged while something is done, as the processes of a service log it."""

    def lines_of(act: Callable[[], None]) -> list[Json]:
        set_up_logging()
        act()
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    yield lines_of
    structlog.reset_defaults()


@tool(effect="pure")
def shout(context: ToolContext, text: str) -> ToolResult:
    """Shout."""
    return ToolResult(text=text.upper())


def only(line: Json, *names: str) -> Json:
    return {name: line[name] for name in ("action", *names)}


@pytest.mark.line("P10")
@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_the_log_tells_each_call_with_its_time_and_tokens_and_no_text(
    house, workshop, logged, mode: str
) -> None:
    house.agent(metadata={"tool_execution": mode})
    usage = {"input_tokens": 5, "output_tokens": 2}
    both = [
        {"name": "shout", "arguments": {"text": "canary"}},
        {"name": "shout", "arguments": {}},
    ]
    model = Model({"tool_calls": both, "usage": usage}, {"text": "canary: CANARY"})
    posted = house.post("canary?", source="web")
    taker = workshop.taker(model, tools=[shout])
    lines = logged(lambda: workshop.work(taker))
    assert "canary" not in json.dumps(lines).lower()
    inbound, *calls, outbound = lines
    assert only(inbound, "task_id", "agent_id", "attempt", "events") == {
        "action": "inbound",
        "task_id": posted.turn_id,
        "agent_id": "scout",
        "attempt": 1,
        "events": [{"id": posted.event_id, "kind": "message", "source": "web"}],
    }
    shown = ("step", "ok", "input_tokens", "output_tokens", "stop_reason", "model")
    tools = sorted(
        (only(e, "step", "tool", "ok") for e in calls if e["action"] == "tool_call"),
        key=lambda line: line["step"],
    )
    assert tools == [
        {"action": "tool_call", "step": 2, "tool": "shout", "ok": True},
        {"action": "tool_call", "step": 3, "tool": "shout", "ok": False},
    ]
    assert [only(e, *shown) for e in calls if e["action"] == "model_call"] == [
        {
            "action": "model_call",
            "step": step,
            "ok": True,
            **tokens,
            "stop_reason": why,
            "model": "scripted",
        }
        for step, why, tokens in (
            (1, "tool_use", usage),
            (4, "end", {"input_tokens": 0, "output_tokens": 0}),
        )
    ]
    assert [line["action"] for line in (calls[0], calls[-1])] == ["model_call"] * 2
    assert all(line["took_ms"] >= 0 for line in calls)
    assert only(outbound, "input_tokens", "output_tokens") == {
        "action": "outbound",
        **usage,
    }
    assert {line["task_id"] for line in lines} == {posted.turn_id}
    assert {line["level"] for line in lines} == {"info"}


@pytest.mark.line("P10")
def test_the_log_tells_what_failed(house, workshop, logged) -> None:
    posted = house.post("canary?")
    ill = {"error": {"status": 503, "kind": "overloaded", "message": "ill"}}
    taker = workshop.taker(Model(ill))
    _, call_line, error = logged(lambda: workshop.work(taker))
    assert only(call_line, "ok", "error", "model", "level") == {
        "action": "model_call",
        "ok": False,
        "error": "overloaded",
        "model": "scripted",
        "level": "warning",
    }
    assert only(error, "task_id", "agent_id", "error", "attempt") == {
        "action": "error",
        "task_id": posted.turn_id,
        "agent_id": "scout",
        "error": "ill",
        "attempt": 1,
    }


@pytest.mark.line("P10")
def test_the_log_tells_which_of_several_models_answered(
    house, workshop, logged
) -> None:
    class Passing(ScriptedModel):
        def stream(self, *arguments: Any) -> Answer:
            return replace(super().stream(*arguments), model="second")

    house.post()
    taker = workshop.taker(Passing([{"text": "ok"}], name="first,second"))
    _, call_line, _ = logged(lambda: workshop.work(taker))
    assert call_line["model"] == "second"


# Queue modes (P30).


@pytest.mark.line("P30")
@pytest.mark.parametrize(
    ("mode", "answers"),
    [
        ({}, ["one", "two", "three"]),
        ({"queue_mode": "all"}, ["two\n\nthree"]),
        ({"queue_mode": "one-at-a-time"}, ["one", "two", "three"]),
    ],
)
def test_a_turn_takes_one_quiet_message_at_its_end_or_all(
    house, workshop, mode: Json, answers: list[str]
) -> None:
    house.agent(metadata=mode)
    model = Model(always("ok"))

    def post() -> None:
        if len(model.requests) == 1:
            for text in ("one", "two", "three"):
                house.post(text, priority=Priority.NORMAL)

    model.first = post
    house.post("go")
    workshop.work(workshop.taker(model))
    read = [
        [m.text for m in request.messages if isinstance(m, UserMessage)]
        for request in model.requests
    ]
    every = ["go", "one", "two", "three"]
    steps = (1, 4) if len(answers) == 1 else (1, 2, 3, 4)
    assert read == [every[:step] for step in steps]
    assert agents.get(house.database, "scout")["unread"] == 0


@pytest.mark.line("P30")
@pytest.mark.parametrize(
    ("mode", "taken"), [({}, ["one"]), ({"queue_mode": "all"}, ["one", "two", "three"])]
)
def test_a_turn_takes_one_waking_message_at_a_boundary_or_all(
    house, workshop, mode: Json, taken: list[str]
) -> None:
    house.agent(metadata=mode)

    @tool(effect="pure")
    def wait(context: ToolContext) -> ToolResult:
        """Let messages come."""
        for text in ("one", "two", "three"):
            house.post(text)
        return ToolResult(text="done")

    model = Model({"when": {"matches": "^go$"}, **call("wait")}, always("ok"))
    house.post("go")
    workshop.work(workshop.taker(model, tools=[wait]))
    read = [m.text for m in model.requests[1].messages if isinstance(m, UserMessage)]
    assert read == ["go", *taken]
    assert len(model.requests) == 2 + (3 - len(taken))
    assert agents.get(house.database, "scout")["unread"] == 0


# Agents among themselves (P19).


@pytest.mark.line("P19")
def test_the_limits_of_agents_among_themselves_are_what_people_are_told() -> None:
    told = (HOPS_LIMIT, PING_PONG_HOPS, PAIR_LIMIT, STORM_LIMIT, WINDOW_SECONDS)
    assert told == (16, 10, 30, 100, 60)


# Results, models, state, delays, usage (P33, P36, P38, P39, P40).


@pytest.mark.line("P25", "P31")
def test_the_history_has_results_in_the_order_of_the_calls(house, workshop) -> None:
    second_is_done = threading.Event()

    @tool(effect="pure")
    def one(context: ToolContext) -> ToolResult:
        """End last."""
        assert second_is_done.wait(DEADLINE_SECONDS)
        return ToolResult(text="one")

    @tool(effect="pure")
    def two(context: ToolContext) -> ToolResult:
        """End first."""
        second_is_done.set()
        return ToolResult(text="two")

    both = [{"name": name, "arguments": {}} for name in ("one", "two")]
    house.post()
    model = Model({"tool_calls": both}, {"text": "ok"})
    workshop.work(workshop.taker(model, tools=[one, two]))
    found = history(house, "tool_result")
    assert [each["tool_name"] for each in found] == ["one", "two"]


@pytest.mark.line("P33")
def test_the_details_of_a_result_are_for_people_and_no_model_reads_them(
    house, workshop
) -> None:
    image = {"type": "image", "media_type": "image/png", "artifact": "turn-1/2"}

    @tool(effect="pure")
    def look(context: ToolContext) -> ToolResult:
        """Look."""
        return ToolResult(text="seen", blocks=(image,), details={"secret": 4})

    model = Model(call("look"), {"text": "A cat."}, {"text": "Still."})
    for text in ("look", "again"):
        house.post(text)
        workshop.work(workshop.taker(model, tools=[look]))
    (ended,) = [e for e in house.events() if e["kind"] == "tool_execution_end"]
    assert (ended["payload"]["details"], ended["payload"]["blocks"]) == (
        {"secret": 4},
        [image],
    )
    (kept,) = history(house, "tool_result")
    assert kept["content"] == [{"type": "text", "text": "seen"}, image]
    (result,) = [m for m in model.requests[2].messages if isinstance(m, ToolMessage)]
    assert result.result == ToolResult(text="seen", blocks=(image,))


@pytest.mark.line("P33")
def test_an_image_outlives_the_worker_that_had_it_before_the_other_result(
    house, workshop, died
) -> None:
    image = {"type": "image", "media_type": "image/png", "artifact": "turn-1/2"}
    made: list[str] = []

    @tool(effect="pure")
    def look(context: ToolContext) -> ToolResult:
        """Look."""
        made.append("look")
        return ToolResult(text="seen", blocks=(image,))

    @tool(effect="pure")
    def die(context: ToolContext) -> ToolResult:
        """Die the first time."""
        made.append("die")
        if made.count("die") == 1:
            raise died
        return ToolResult(text="alive")

    both = [{"name": name, "arguments": {}} for name in ("look", "die")]
    model = Model({"tool_calls": both}, {"text": "ok"})
    id = house.post().turn_id
    with pytest.raises(died):
        workshop.taker(model, tools=[look, die]).take(id)
    workshop.bury()
    workshop.taker(model, "worker-2", tools=[look, die]).take(id)
    messages = model.requests[1].messages
    results = [each.result for each in messages if isinstance(each, ToolMessage)]
    assert [each.blocks for each in results] == [(image,), ()]
    assert (made.count("look"), made.count("die")) == (1, 2)


@pytest.mark.line("P36")
def test_the_model_is_looked_up_anew_for_every_turn(house, workshop) -> None:
    looked_up: list[str | None] = []
    model = Model(always("ok"))

    def find(name: str | None) -> Model:
        looked_up.append(name)
        return model

    taker = workshop.taker(find)
    for name in ("one", "one", "two"):
        house.agent(model=name)
        house.post()
        workshop.work(taker)
    assert looked_up == ["one", "one", "two"]


@pytest.mark.line("P36")
def test_an_agents_thinking_level_reaches_the_model(house, workshop) -> None:
    model = Model(always("ok"))
    levels = [None, "off", "minimal", "low", "medium", "high", "xhigh"]
    for level in levels:
        house.agent(metadata={"thinking": level} if level else {})
        house.post()
        workshop.work(workshop.taker(model))
    assert [request.thinking for request in model.requests] == levels


@pytest.mark.line("P36")
def test_a_thinking_level_that_there_is_not_fails_the_turn_by_name(
    house, workshop
) -> None:
    house.agent(metadata={"thinking": "hard"})
    id = house.post().turn_id
    model = Model(always("ok"))
    workshop.work(workshop.taker(model))
    error = tasks.shape(house.task(id))["error"]
    assert (house.status(id), error["type"]) == ("failed", "bad_thinking")
    assert "'hard'; it must be one of off, minimal, low, medium" in error["message"]
    assert model.requests == []


@pytest.fixture
def api(open_house: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Requests to the API of a home with one agent, `scout`."""
    house = open_house(ROOST_TOKEN=TOKEN)
    house.agent()
    app = create_app(house.broker.settings, house.broker)
    client = app.test_client()

    def ask(method: str, path: str, body: Any = None) -> Any:
        return client.open(
            f"/api/v1{path}",
            method=method,
            json=body,
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    ask.house = house  # type: ignore[attr-defined]
    yield ask
    app.extensions["roost"].live.stop()


@pytest.mark.line("P38")
def test_the_state_of_an_agent_is_read_and_changed_over_http(api) -> None:
    wanted = {
        "name": "Scout",
        "system": "Be kind.",
        "model": "scripted/x",
        "tools": ["noop"],
        "metadata": {"queue_mode": "all"},
    }
    for name, value in wanted.items():
        assert api("PATCH", "/agents/scout", {name: value}).status_code == 200
    api.house.post("later", priority=Priority.NORMAL)
    assert api("POST", "/agents/scout/compact", {}).status_code == 202
    api.house.take_turn()
    shown = api("GET", "/agents/scout").get_json()
    expected = {**wanted, "id": "scout", "state": "running", "generation": 2}
    assert shown == {**shown, **expected, "unread": 2}


@pytest.mark.line("P38")
def test_calls_that_are_open_are_shown_with_their_turn_and_so_is_its_error(
    api, workshop
) -> None:
    workshop.house = house = api.house
    model = Model(call("exec", code="4", wait_seconds=60))
    id = house.post().turn_id
    taker = workshop.taker(model)
    workshop.work(taker)
    shown = api("GET", f"/tasks/{id}").get_json()
    open_calls = [s["name"] for s in shown["steps"] if s["status"] == "started"]
    assert (shown["status"], open_calls) == ("waiting", ["exec"])
    with house.write() as tx:
        tasks.cancel(tx, "exec-1", "enough")
    taker.take(id)  # the script has nothing more to say
    shown = api("GET", f"/tasks/{id}").get_json()
    assert (shown["status"], shown["error"]["type"]) == ("failed", "script")
    assert api("GET", "/agents/scout").get_json()["state"] == "idle"


@pytest.mark.line("P39")
def test_a_delay_that_a_provider_demands_is_kept(house, workshop) -> None:
    busy = {"status": 429, "message": "busy", "retry_after_seconds": 30}
    id = house.post().turn_id
    before = now_us()
    workshop.work(workshop.taker(Model({"error": busy})))
    row = house.task(id)
    assert row["status"] == "queued"
    assert before + 30_000_000 <= row["not_before_at"] <= now_us() + 60_000_000
    assert tasks.shape(row)["error"]["retry_after_seconds"] == 30


@pytest.mark.line("P39")
def test_a_delay_beyond_a_minute_fails_the_turn_at_once(house, workshop) -> None:
    busy = {"status": 429, "message": "busy", "retry_after_seconds": 61}
    id = house.post().turn_id
    workshop.work(workshop.taker(Model({"error": busy})))
    row = house.task(id)
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert tasks.shape(row)["error"]["retry_after_seconds"] == 61


@pytest.mark.line("P40")
def test_every_answer_has_its_usage(house, workshop) -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_tokens": 3,
        "cache_write_tokens": 4,
    }
    id = house.post().turn_id
    model = Model({**call("noop"), "usage": usage}, {"text": "ok"})
    workshop.work(workshop.taker(model))
    nothing = dict.fromkeys(usage, 0)
    told = [e for e in house.events() if e["kind"] == "message_end"]
    kept = history(house, "assistant_message")
    assert [each["usage"] for each in kept] == [usage, nothing]
    assert [each["payload"]["usage"] for each in told] == [usage, nothing]
    assert tasks.shape(house.task(id))["usage"] == usage


# Compaction (P41 to P49).


@tool(effect="pure")
def dig(context: ToolContext) -> ToolResult:
    """Dig up a long text."""
    return ToolResult(text=LONG)


@tool(effect="pure")
def read_file(context: ToolContext, path: str) -> ToolResult:
    """Read a file."""
    return ToolResult(text=f"{path} is here.")


@tool(effect="idempotent")
def write_file(context: ToolContext, path: str) -> ToolResult:
    """Write a file."""
    return ToolResult(text=f"{path} is written.")


@pytest.fixture
def small(open_house: Callable[..., Any], workshop: Any) -> Any:
    """A home in which every window is small, and a fast model writes summaries."""

    def open_one(name: str = "small") -> Any:
        path = workshop.house.broker.settings.home.parent / name
        house = open_house(
            path, ROOST_CONTEXT_TOKENS=str(WINDOW), ROOST_FAST_MODEL="fast"
        )
        house.agent()
        workshop.house = house
        return house

    return open_one


@pytest.fixture
def fast() -> Model:
    return Model(always(SUMMARY), name="fast")


@pytest.fixture
def work(workshop: Any, fast: Model) -> Callable[..., None]:
    def take(main: Model, **more: Any) -> None:
        models = {None: main, "fast": fast}
        workshop.work(workshop.taker(models.__getitem__, **more))

    return take


def summaries(house: Any) -> list[Json]:
    found = history(house, "context_compaction")
    return [each["data"] for each in found if "summary" in each["data"]]


@pytest.mark.line("P41")
def test_a_conversation_is_compacted_one_token_above_the_threshold(small, work) -> None:
    def tokens_before(home: str, counted: int) -> list[int]:
        house = small(home)
        house.post("one")
        work(Model(always("I see.", usage={"input_tokens": counted})))
        house.post("two")
        work(Model(always("I see.")))
        return [each["tokens_before"] for each in summaries(house)]

    (above,) = tokens_before("above", WINDOW)
    later = above - WINDOW  # what the second message is estimated at
    assert later > 0
    limit = WINDOW - WINDOW // 4
    assert tokens_before("at", limit - later) == []
    assert tokens_before("one-more", limit - later + 1) == [limit + 1]


@pytest.mark.line("P43", "P46")
def test_a_cut_within_a_turn_merges_a_summary_of_the_past_and_one_of_its_head(
    small, work, fast
) -> None:
    house = small()
    house.post("Who are you?")
    work(Model(always("A digger.")))
    fast._rules = [
        {"when": {"contains": "beginning of a turn"}, "text": "It had begun to dig."},
        {"when": {}, "text": SUMMARY},
    ]
    main = Model()

    def choose() -> None:
        said = {"text": "Dug."} if len(main.requests) == 4 else call("dig")
        main._rules = [{"when": {}, **said}]

    main.first = choose
    id = house.post("Dig.").turn_id
    work(main, tools=[dig])
    assert reply(house, id) == {"text": "Dug."}
    past, head = (_text(each.messages[0]) for each in fast.requests)
    assert ("A digger." in past, "[User]: Dig." in past) == (True, False)
    assert ("A digger." in head, "[User]: Dig." in head) == (False, True)
    (data,) = summaries(house)
    assert data["summary"].startswith(SUMMARY)
    assert data["summary"].endswith("It had begun to dig.")
    assert (data["reason"], data["details"]["is_split"]) == ("threshold", True)
    assert {"summary", "first_kept_entry_id", "tokens_before", "details"} <= set(data)
    shown = main.requests[-1].messages
    assert SUMMARY in _text(shown[0])
    every = entries.list_after(house.database, "scout")
    kept = [e for e in every if e["id"] >= data["first_kept_entry_id"]]
    results = [e["tool_call_id"] for e in kept if e["type"] == "tool_result"]
    assert [m.call_id for m in shown if isinstance(m, ToolMessage)] == results
    assert [e["content"][0]["text"] for e in every if e["type"] == "user_message"] == [
        "Who are you?",
        "Dig.",
    ]


@pytest.mark.line("P44")
def test_the_lists_of_files_grow_from_summary_to_summary(small, work, fast) -> None:
    house = small()
    for number, made in enumerate(
        [call("read_file", path="a.txt"), call("write_file", path="b.txt")]
    ):
        house.post(f"message {number}")
        fits = {"when": {"contains": f"message {number}"}}
        work(Model({**fits, **made}, always("ok")), tools=[read_file, write_file])
        compact(house)
        house.post("and now?")
        work(Model(always("ok")))
    first, second = summaries(house)
    assert (first["details"]["read_files"], first["details"]["modified_files"]) == (
        ["a.txt"],
        [],
    )
    assert (second["details"]["read_files"], second["details"]["modified_files"]) == (
        ["a.txt"],
        ["b.txt"],
    )
    assert second["summary"].endswith(
        "## Files Read\n- a.txt\n\n## Files Modified\n- b.txt"
    )
    assert f"<previous-summary>\n{SUMMARY}" in _text(fast.requests[1].messages[0])


OVERFLOW: Json = {
    "error": {"status": 400, "kind": "context_overflow", "message": "too long"}
}


@pytest.mark.line("P47", "P49")
@pytest.mark.parametrize("reason", ["threshold", "overflow"])
@pytest.mark.parametrize("priority", [Priority.WAKE, Priority.NORMAL])
def test_what_comes_while_a_summary_is_written_is_answered(
    small, work, fast, reason: str, priority: Priority
) -> None:
    house = small()
    text = LONG if reason == "threshold" else ""
    for name in ("first", "second"):
        house.post(f"{name} {text}")
        work(Model(always("I see.")))
    main = Model(always("Done."))
    posted: list[Any] = []

    def refuse_once() -> None:
        is_refused = reason == "overflow" and len(main.requests) == 1
        main._rules = [{"when": {}, **OVERFLOW}] if is_refused else [always("Done.")]

    main.first = refuse_once
    fast.first = lambda: posted.append(house.post("fourth", priority=priority))
    third = house.post(f"third {text}").turn_id
    work(main)
    assert len(posted) == 1
    assert house.status(third) == "completed"
    assert any("fourth" in asked for asked in main.asked)
    assert (house.state(), agents.get(house.database, "scout")["unread"]) == ("idle", 0)
    told = [e for e in house.events() if e["kind"].startswith("compaction_")]
    assert [e["kind"] for e in told] == ["compaction_start", "compaction_end"]
    assert [e["payload"]["reason"] for e in told] == [reason, reason]
    assert told[1]["payload"]["will_retry"] is (reason == "overflow")
    if priority is Priority.WAKE:
        assert house.status(posted[0].turn_id) == "completed"
