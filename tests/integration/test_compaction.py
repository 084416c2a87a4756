"""Whole turns that are compacted: on request, for want of room, and through deaths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from agents import summaries
from agents.messages import (
    AssistantMessage,
    Message,
    ToolMessage,
    ToolResult,
    UserMessage,
)
from agents.models import ModelError, Request
from agents.models.demo import DemoModel
from agents.models.scripted import ScriptedModel
from agents.tools import ToolContext, tool
from broker import agents, entries, generations, tasks
from broker.errors import SettingsError
from broker.states import Priority

SUMMARY = "## Goal\nTo go on."
LONG = "word " * 400  # five hundred tokens
WINDOW = 2_000  # so 1,500 may be filled, and at most 1,000 stay
OVERFLOW: dict[str, Any] = {
    "error": {"status": 400, "kind": "context_overflow", "message": "too long"}
}


@dataclass
class Model:
    """A scripted model that keeps what it was sent, and can do something first."""

    responses: Sequence[dict[str, Any]]
    name: str = "main"
    context_tokens: int = 200_000
    first: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)

    def stream(self, request: Request, emit: Any, interrupt: Any) -> Any:
        self.requests.append(request)
        self.first()
        script = ScriptedModel(self.responses, self.name)
        return script.stream(request, emit, interrupt)

    def sent(self) -> list[str]:
        """The kinds of messages of the last request."""
        return [type(each).__name__ for each in self.requests[-1].messages]


def always(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"when": {}, "text": text, **more}]


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}}], **more}


@pytest.fixture
def house(open_house: Callable[..., Any]) -> Any:
    """A home in which every window is small, and a fast model writes summaries."""
    return open_house(ROOST_CONTEXT_TOKENS=str(WINDOW), ROOST_FAST_MODEL="fast")


@pytest.fixture
def fast() -> Model:
    return Model(always(SUMMARY), name="fast")


@pytest.fixture
def work(house: Any, workshop: Any, fast: Model) -> Callable[..., None]:
    """Take what is queued, with a main model and the fast one."""

    def take(main: Model, name: str = "worker-1", **more: Any) -> None:
        models = {None: main, "fast": fast}
        workshop.work(workshop.taker(models.__getitem__, name, **more))

    return take


@pytest.fixture
def talk(house: Any, work: Callable[..., None]) -> Callable[..., None]:
    """Have short turns, with an answer to each message."""

    def say(*texts: str, answer: str = "I see.") -> None:
        for text in texts:
            house.post(text)
            work(Model(always(answer)))

    return say


@tool(effect="pure")
def dig(context: ToolContext) -> ToolResult:
    """Dig up a long text."""
    return ToolResult(text=LONG)


def compact(house: Any, why: str | None = None) -> int:
    with house.write() as tx:
        return generations.compact(tx, "scout", why)


def compactions(house: Any) -> list[dict[str, Any]]:
    """The summaries in the history, oldest first."""
    found = entries.list_after(house.database, "scout")
    kinds = [each for each in found if each["type"] == "context_compaction"]
    return [each for each in kinds if "summary" in each["data"]]


def told(house: Any) -> list[tuple[str, dict[str, Any]]]:
    """The events of compactions, without their turn's id."""
    return [
        (event["kind"].removeprefix("compaction_"), event["payload"] | {"turn_id": "…"})
        for event in house.events(scope="agent/scout")
        if event["kind"].startswith("compaction_")
    ]


def generation(house: Any) -> int:
    return int(agents.get(house.database, "scout")["generation"])


def reply(house: Any, id: str) -> Any:
    return tasks.shape(house.task(id))["result"]


def is_whole(messages: Sequence[Message]) -> bool:
    """Whether every call has its result right behind it, and every result its call."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.call_id not in waiting:
                return False
            waiting.remove(message.call_id)
        elif waiting:
            return False
        elif isinstance(message, AssistantMessage):
            waiting = [call.id for call in message.answer.tool_calls]
    return not waiting


def text_of(message: Message) -> str:
    assert isinstance(message, UserMessage)
    return message.for_model[0]["text"]


# A person asks.


@pytest.mark.line("P44", "P45", "P47", "G72")
def test_what_a_person_asked_for_is_done_by_the_next_turn(
    house, work, talk, fast
) -> None:
    talk("My name is Ada.", "I like tea.")
    assert compact(house, "keep the names") == 2
    assert fast.requests == []  # the web process asks no model
    main = Model(always("Hello again."))
    id = house.post("Who am I?").turn_id
    work(main)
    asked = text_of(fast.requests[0].messages[0])
    assert fast.requests[0].system == summaries.SYSTEM
    assert fast.requests[0].tools == ()
    for part in ("My name is Ada.", "I like tea.", "I see.", "keep the names"):
        assert part in asked
    assert "Who am I?" not in asked
    assert main.sent() == ["UserMessage", "UserMessage"]
    assert SUMMARY in text_of(main.requests[0].messages[0])
    assert "Who am I?" in text_of(main.requests[0].messages[1])
    assert reply(house, id) == {"text": "Hello again."}
    (entry,) = compactions(house)
    data = entry["data"]
    assert (entry["generation"], data["reason"], data["summarised_by"]) == (
        2,
        "manual",
        "fast",
    )
    assert data["tokens_before"] > 0
    assert told(house) == [
        ("start", {"turn_id": "…", "reason": "manual"}),
        (
            "end",
            {
                "turn_id": "…",
                "reason": "manual",
                "generation": 2,
                "tokens_before": data["tokens_before"],
                "summarised_by": "fast",
                "will_retry": False,
            },
        ),
    ]
    kinds = house.kinds()
    last_turn = kinds[kinds.index("compaction_start") :]
    assert last_turn.index("compaction_end") < last_turn.index("message_start")


def test_a_summary_that_a_person_asked_for_is_made_once(
    house, work, talk, fast
) -> None:
    talk("one")
    compact(house)
    talk("two", "three")
    assert len(fast.requests) == len(compactions(house)) == 1
    main = Model(always("ok"))
    house.post("four")
    work(main)
    turn = ["UserMessage", "AssistantMessage"]
    assert main.sent() == ["UserMessage", *turn, *turn, "UserMessage"]


@pytest.mark.line("P44")
def test_the_next_summary_brings_the_last_up_to_date(house, talk, fast) -> None:
    talk("one")
    compact(house)
    talk("two")
    compact(house)
    talk("three")
    asked = text_of(fast.requests[1].messages[0])
    assert f"<previous-summary>\n{SUMMARY}\n" in asked
    assert "two" in asked
    assert "[User]: one" not in asked
    assert [each["generation"] for each in compactions(house)] == [2, 3]


def test_two_requests_with_nothing_between_them_carry_the_summary_on(
    house, work, talk, fast
) -> None:
    talk("one")
    compact(house)
    compact(house)
    talk("two")
    assert [each["data"]["summary"] for each in compactions(house)] == [SUMMARY]
    assert len(fast.requests) == 1


@pytest.mark.line("P47")
def test_where_nothing_was_said_there_is_nothing_to_compact(house, talk, fast) -> None:
    compact(house)
    talk("one")
    assert (fast.requests, compactions(house), told(house)) == ([], [], [])
    assert house.state() == "idle"


def test_a_request_while_a_turn_waits_leaves_the_turn_its_own_part(
    house, work, talk, fast
) -> None:
    talk("Before.")
    id = house.post("Go.").turn_id
    wait = {"name": "exec", "arguments": {"code": "1", "wait_seconds": 60}}
    starts = {"when": {"contains": "Go."}, "tool_calls": [wait]}
    main = Model([starts, *always("Gone.")])
    work(main)
    assert house.status(id) == "waiting"
    compact(house)
    with house.write() as tx:
        tasks.cancel(tx, "exec-1", "enough")
    work(main)
    assert reply(house, id) == {"text": "Gone."}
    assert main.sent() == [
        "UserMessage",
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
    ]
    assert is_whole(main.requests[-1].messages)
    assert "Go." not in text_of(fast.requests[0].messages[0])
    house.post("And now?")
    work(main)
    assert is_whole(main.requests[-1].messages)
    assert main.sent()[1:3] == ["UserMessage", "AssistantMessage"]


# No room.


@pytest.mark.line("P41", "P47")
def test_a_long_conversation_is_compacted_before_the_next_call(
    house, work, talk, fast
) -> None:
    talk("first " + LONG, "second " + LONG)
    id = house.post("third " + LONG).turn_id
    main = Model(always("Done."))
    work(main)
    assert reply(house, id) == {"text": "Done."}
    assert generation(house) == 2
    (entry,) = compactions(house)
    assert entry["data"]["reason"] == "threshold"
    assert entry["data"]["tokens_before"] > WINDOW - WINDOW // 4
    assert main.sent()[0] == "UserMessage"
    assert SUMMARY in text_of(main.requests[0].messages[0])
    assert "third" in text_of(main.requests[0].messages[-1])
    assert len(told(house)) == 2


@pytest.mark.line("P46")
def test_nothing_is_lost_and_nothing_is_said_twice(house, talk, fast) -> None:
    for number in range(12):
        talk(f"message-{number}. " + LONG[:1_200])
    said = entries.list_after(house.database, "scout")
    for number in range(12):
        about = [e for e in said if e["type"] == "user_message"]
        texts = [e["content"][0]["text"] for e in about]
        assert sum(f"message-{number}." in text for text in texts) == 1
    asked = [text_of(request.messages[0]) for request in fast.requests]
    assert len(asked) > 1
    for number in range(8):
        times = sum(f"message-{number}." in text for text in asked)
        assert times == 1, f"message-{number} was summarised {times} times"


@pytest.mark.line("G58", "G72")
def test_between_turns_the_prompt_is_made_anew(house, work, talk) -> None:
    talk("first " + LONG, "second " + LONG)
    with house.write() as tx:
        tx.execute("UPDATE agents SET system = 'Be kind.'")
    talk("third " + LONG)
    assert "Be kind." in (entries.find_prompt(house.database, "scout", 2) or "")
    assert "Be kind." not in (entries.find_prompt(house.database, "scout", 1) or "")


def digging(rounds: int, **more: Any) -> Model:
    """A model that digs until its last round, and then says so."""
    model = Model([])

    def choose() -> None:
        is_last = len(model.requests) == rounds
        said = {"text": "Dug."} if is_last else call("dig")
        model.responses = [{"when": {}, **said, **more}]

    model.first = choose
    return model


@pytest.mark.line("P43")
def test_a_turn_that_grows_too_long_is_cut_in_itself(house, work, fast) -> None:
    main = digging(5)
    id = house.post("Dig.").turn_id
    work(main, tools=[dig])
    assert reply(house, id) == {"text": "Dug."}
    assert len(main.requests) == 5
    assert all(is_whole(request.messages) for request in main.requests)
    summary = compactions(house)[0]["data"]
    assert summary["details"]["is_split"]
    assert "## Turn Context" in summary["summary"]
    assert generation(house) > 1
    prompts = {request.system for request in main.requests}
    assert len(prompts) == 1
    for number in range(1, generation(house) + 1):
        found = entries.list_after(house.database, "scout", generation=number)
        kinds = [each["type"] for each in found]
        assert kinds.count("system_prompt") == kinds.count("tools_config") == 1
    house.post("More?")
    last = Model(always("No."))
    work(last)
    assert is_whole(last.requests[0].messages)


@pytest.mark.line("G58")
def test_within_a_turn_the_prompt_stays(house, workshop, fast, tmp_path) -> None:
    memory = tmp_path / "MEMORY.md"
    memory.write_text("Tea.")
    main = digging(5)
    choose = main.first

    def remember() -> None:
        memory.write_text("Coffee.")
        choose()

    main.first = remember
    models = {None: main, "fast": fast}
    taker = workshop.taker(models.__getitem__, tools=[dig])
    taker.home = tmp_path
    house.post("Dig.")
    workshop.work(taker)
    assert compactions(house)
    assert {"Tea." in request.system for request in main.requests} == {True}
    found = entries.find_prompt(house.database, "scout", generation(house))
    assert "Tea." in (found or "")


def test_what_a_compacted_turn_used_is_counted_whole(house, work) -> None:
    id = house.post("Dig.").turn_id
    used = {"input_tokens": 1_400, "output_tokens": 3}
    work(digging(5, usage=used), tools=[dig])
    assert compactions(house)
    assert tasks.shape(house.task(id))["usage"]["output_tokens"] == 15


def counted(text: str, tokens: int) -> list[dict[str, Any]]:
    return always(text, usage={"input_tokens": tokens})


@pytest.mark.line("P41")
def test_what_the_model_counts_goes_before_what_we_estimate(house, work, fast) -> None:
    for text in ("one", "two"):
        house.post(text)
        work(Model(counted("I see.", 1_600)))
    assert [each["data"]["tokens_before"] > 1_600 for each in compactions(house)] == [
        True
    ]


@pytest.mark.line("P48")
def test_counts_from_before_a_compaction_cause_no_other(house, work, talk) -> None:
    house.post("one")
    work(Model(counted("I see.", 1_600)))
    talk("two", "three", "four")
    assert len(compactions(house)) == 1


@pytest.mark.line("P48")
def test_counts_of_another_model_cause_no_compaction(house, work, talk) -> None:
    house.post("one")
    work(Model(counted("I see.", 1_600), name="another"))
    talk("two")
    assert compactions(house) == []


@pytest.mark.line("P48")
def test_a_turn_that_stays_too_long_is_not_compacted_again(
    house, work, talk, fast
) -> None:
    """What is too long here is what the model adds to every conversation."""
    talk("one", "two", "three")
    rounds = iter(range(10))
    main = Model([])

    def answers() -> None:
        used = {"usage": {"input_tokens": 1_900}}
        said = {"text": "Done."} if next(rounds) == 6 else call("noop")
        main.responses = [{"when": {}, **said, **used}]

    main.first = answers
    id = house.post("four").turn_id
    work(main)
    assert reply(house, id) == {"text": "Done."}
    assert len(compactions(house)) == 1


@pytest.mark.line("P49")
def test_messages_that_wait_are_taken_after_a_compaction(house, work, talk) -> None:
    talk("first " + LONG, "second " + LONG)
    main = Model(always("Done."))
    ids: list[str] = []

    def post_more() -> None:
        if not ids:
            ids.append(house.post("fourth").turn_id)

    main.first = post_more
    third = house.post("third " + LONG).turn_id
    work(main)
    assert compactions(house)
    assert [house.status(id) for id in (third, *ids)] == ["completed", "completed"]
    assert house.state() == "idle"


def test_a_request_meanwhile_is_fulfilled_by_the_compaction(
    house, work, talk, fast
) -> None:
    talk("first " + LONG, "second " + LONG)
    main = Model(always("Done."))

    def ask() -> None:
        if generation(house) == 1:
            compact(house, "keep the names")

    fast.first = ask
    house.post("third " + LONG)
    work(main)
    talk("fourth")
    assert generation(house) == 2
    assert [each["generation"] for each in compactions(house)] == [2]
    assert len(fast.requests) == 1


@pytest.mark.line("P47")
def test_nothing_is_compacted_unasked_where_that_is_switched_off(
    open_house, workshop
) -> None:
    house = open_house(ROOST_CONTEXT_TOKENS="0")
    workshop.house = house
    house.hints = workshop.house.hints
    main = Model([OVERFLOW], context_tokens=10)
    house.agent()
    id = house.post(LONG).turn_id
    workshop.work(workshop.taker(main))
    assert house.status(id) == "failed"
    assert compactions(house) == []


# Many short messages.


def test_what_a_turn_would_not_read_any_more_is_summarised(
    house, work, talk, fast, monkeypatch
) -> None:
    """However short it is: what falls out of the history is in no summary else."""
    monkeypatch.setattr("workers.compaction.PAST_ENTRIES", 8)
    monkeypatch.setattr("workers.compaction.KEPT_MESSAGES", 3)
    talk(*"abcdefg")
    main = Model(always("ok"))
    house.post("h")
    work(main)
    asked = [text_of(request.messages[0]) for request in fast.requests]
    assert len(asked) > 1
    for letter in "abcd":
        said = f"[User]: {letter}\n"
        told = [part for part in asked if said in part]
        assert len(told) == 1, letter
    assert len(main.requests[0].messages) <= 10


# A turn that waits to be tried again is in nobody's conversation.


def test_what_waits_to_be_tried_again_is_neither_lost_nor_torn(
    house, work, talk, workshop, fast
) -> None:
    talk("one " + LONG)
    ill = Model([{"when": {}, "error": {"status": 503, "message": "ill"}}])
    first = house.post("The lost one?").turn_id
    work(ill)
    assert house.status(first) == "queued"
    talk("two " + LONG, "three " + LONG)
    assert compactions(house)
    with house.write() as tx:
        tx.execute("UPDATE tasks SET not_before_at = NULL")
    house.hints.append(first)
    main = Model(always("Not lost."))
    work(main)
    assert reply(house, first) == {"text": "Not lost."}
    last = Model(always("ok"))
    house.post("four")
    work(last)
    seen = [text_of(m) for m in last.requests[0].messages if isinstance(m, UserMessage)]
    asked = [text_of(request.messages[0]) for request in fast.requests]
    assert sum("The lost one?" in text for text in [*seen, *asked]) == 1
    assert is_whole(last.requests[0].messages)


# The model says that it is too much.


@pytest.mark.line("P47")
def test_a_refused_call_is_made_once_more_with_less(house, work, talk, fast) -> None:
    talk("one", "two", "three")
    main = Model([])

    def answers() -> None:
        is_first = len(main.requests) == 1
        refusal = [{"when": {}, **OVERFLOW}]
        main.responses = refusal if is_first else always("Now I can.")

    main.first = answers
    id = house.post("four").turn_id
    work(main)
    assert reply(house, id) == {"text": "Now I can."}
    assert len(main.requests[1].messages) < len(main.requests[0].messages)
    assert told(house)[1][1] | {"tokens_before": 0} == {
        "turn_id": "…",
        "reason": "overflow",
        "generation": 2,
        "tokens_before": 0,
        "summarised_by": "fast",
        "will_retry": True,
    }
    types = [e["type"] for e in entries.list_after(house.database, "scout")]
    assert "error" not in types


@pytest.mark.line("P47")
def test_a_call_that_is_refused_twice_fails_the_turn(house, work, talk, fast) -> None:
    talk("one", "two", "three")
    main = Model([{"when": {}, **OVERFLOW}])
    id = house.post("four").turn_id
    work(main)
    row = tasks.shape(house.task(id))
    assert (row["status"], row["error"]["type"]) == ("failed", "context_overflow")
    assert row["error"]["message"] == "too long"
    assert (len(main.requests), len(compactions(house))) == (2, 1)


def test_where_nothing_can_be_cut_off_the_refusal_stands(house, work, fast) -> None:
    main = Model([{"when": {}, **OVERFLOW}])
    id = house.post("one").turn_id
    work(main)
    assert house.status(id) == "failed"
    assert (len(main.requests), fast.requests, told(house)) == (1, [], [])


@pytest.mark.line("P47")
def test_another_worker_does_not_retry_what_was_retried(
    house, work, talk, workshop, died
) -> None:
    talk("one", "two", "three")
    main = Model([{"when": {}, **OVERFLOW}])

    def die() -> None:
        if len(main.requests) == 2:
            raise died

    main.first = die
    id = house.post("four").turn_id
    with pytest.raises(died):
        work(main)
    workshop.bury()
    house.hints.append(id)
    work(main, "worker-2")
    assert house.status(id) == "failed"
    assert (len(main.requests), len(compactions(house))) == (3, 1)


# The summariser fails.


@pytest.mark.line("P47")
@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"error": {"status": 401, "message": "no key"}}, "no key"),
        (OVERFLOW, "too long"),
        ({"text": " "}, "fast answered without a summary."),
        ({"text": "No.", "stop_reason": "refusal"}, "fast answered without a summary."),
        (
            {"text": "blah " * 1_000},
            "The summary is longer than what it would replace.",
        ),
    ],
)
def test_a_digest_takes_the_place_of_a_summary(
    house, talk, fast, response, why
) -> None:
    fast.responses = [{"when": {}, **response}]
    talk("Build a boat.")
    compact(house)
    talk("two")
    (entry,) = compactions(house)
    assert entry["data"]["summarised_by"] == "digest"
    assert "## Goal\nBuild a boat." in entry["data"]["summary"].replace("\n\n", "\n")
    assert told(house)[1][1]["error"] == why
    assert house.state() == "idle"


def test_a_fast_model_that_does_not_exist_costs_only_the_summary(
    house, workshop, talk, fast
) -> None:
    def find(name: str | None) -> Model:
        if name == "fast":
            raise ModelError("no such model", kind="unknown_model", is_retriable=False)
        return Model(always("ok"))

    talk("one")
    compact(house)
    id = house.post("two").turn_id
    workshop.work(workshop.taker(find))
    assert reply(house, id) == {"text": "ok"}
    assert told(house)[1][1]["error"] == "no such model"


def test_a_summariser_with_a_bug_costs_only_the_summary(house, talk, fast) -> None:
    def bug() -> None:
        raise ZeroDivisionError("by nothing")

    fast.first = bug
    talk("one")
    compact(house)
    talk("two")
    assert told(house)[1][1]["error"] == "ZeroDivisionError: by nothing"


# Workers die, stop, and are stopped.


@pytest.mark.line("P47")
def test_a_worker_that_dies_before_the_summary_is_written_leaves_no_trace(
    house, work, talk, workshop, fast, died
) -> None:
    talk("first " + LONG, "second " + LONG)

    def die() -> None:
        if len(fast.requests) == 1:
            raise died

    fast.first = die
    main = Model(always("Done."))
    id = house.post("third " + LONG).turn_id
    with pytest.raises(died):
        work(main)
    assert (generation(house), compactions(house)) == (1, [])
    workshop.bury()
    house.hints.append(id)
    work(main, "worker-2")
    assert reply(house, id) == {"text": "Done."}
    assert (len(fast.requests), len(compactions(house))) == (2, 1)
    assert [kind for kind, _ in told(house)] == ["start", "start", "end"]


@pytest.mark.parametrize("asked", [True, False], ids=["manual", "threshold"])
def test_a_worker_that_dies_after_the_summary_was_written_leaves_it_whole(
    house, work, talk, workshop, fast, died, asked
) -> None:
    talk("first " + LONG, "second " + LONG)
    if asked:
        compact(house)
    main = Model(always("Done."))

    def die() -> None:
        if len(main.requests) == 1:
            raise died

    main.first = die
    id = house.post("third " + LONG).turn_id
    with pytest.raises(died):
        work(main)
    assert len(compactions(house)) == 1
    workshop.bury()
    house.hints.append(id)
    work(main, "worker-2")
    assert reply(house, id) == {"text": "Done."}
    assert (len(fast.requests), len(compactions(house))) == (1, 1)
    assert main.requests[0].messages == main.requests[1].messages


def test_a_worker_that_lost_its_lease_writes_no_summary(
    house, work, talk, workshop, fast
) -> None:
    talk("one")
    compact(house)
    main = Model(always("Done."))

    def lose() -> None:
        if len(fast.requests) == 1:
            workshop.bury()
            house.hints.append(id)
            work(main, "worker-2")

    fast.first = lose
    id = house.post("two").turn_id
    work(main)
    assert reply(house, id) == {"text": "Done."}
    assert (len(fast.requests), len(main.requests), len(compactions(house))) == (
        2,
        1,
        1,
    )


def test_a_turn_that_is_cancelled_meanwhile_begins_no_generation(
    house, workshop, talk, fast
) -> None:
    talk("first " + LONG, "second " + LONG)
    main = Model(always("Done."))
    models = {None: main, "fast": fast}
    taker = workshop.taker(models.__getitem__)

    def cancel() -> None:
        with house.write() as tx:
            tasks.cancel(tx, id, "enough")
        taker.keeper._look()

    fast.first = cancel
    fast.responses = always(SUMMARY, delay_seconds=5)
    id = house.post("third " + LONG).turn_id
    workshop.work(taker)
    assert (house.status(id), main.requests) == ("cancelled", [])
    assert (generation(house), compactions(house)) == (1, [])


def test_an_interrupt_meanwhile_leaves_a_digest(house, workshop, talk, fast) -> None:
    talk("first " + LONG, "second " + LONG)
    main = Model(always("Done."))
    models = {None: main, "fast": fast}
    taker = workshop.taker(models.__getitem__)

    def interrupt() -> None:
        house.post("Stop!", priority=Priority.INTERRUPT)
        taker.keeper._look()

    fast.first = interrupt
    fast.responses = always(SUMMARY, delay_seconds=5)
    id = house.post("third " + LONG).turn_id
    house.hints.remove(id)
    taker.take(id)
    assert (house.status(id), main.requests) == ("completed", [])
    assert [each["data"]["summarised_by"] for each in compactions(house)] == ["digest"]


def test_a_worker_that_drains_writes_its_summary_and_hands_over(
    house, work, talk, workshop, fast
) -> None:
    talk("first " + LONG, "second " + LONG)
    main = Model(always("Done."))
    models = {None: main, "fast": fast}
    taker = workshop.taker(models.__getitem__)

    def drain() -> None:
        taker.keeper._for_each(lambda holder: holder.drain())

    fast.first = drain
    id = house.post("third " + LONG).turn_id
    taker.take(id)
    assert (house.status(id), main.requests) == ("queued", [])
    work(main, "worker-2")
    assert reply(house, id) == {"text": "Done."}
    assert (len(fast.requests), len(compactions(house))) == (1, 1)


def test_the_demo_model_leaves_summaries_to_the_rule(house, workshop, talk) -> None:
    talk("one")
    compact(house)
    demo = DemoModel(token_seconds=0)
    id = house.post("Hello!").turn_id
    workshop.work(workshop.taker(lambda _: demo))
    assert reply(house, id)["text"].count("I can: compute") == 1  # not to the summary
    assert [each["data"]["summarised_by"] for each in compactions(house)] == ["digest"]
    assert told(house)[1][1]["error"] == "The demo model has no rule for summaries."


def test_a_window_that_is_no_number_is_refused(open_house) -> None:
    with pytest.raises(SettingsError, match="ROOST_CONTEXT_TOKENS is 'big'"):
        open_house(ROOST_CONTEXT_TOKENS="big")
