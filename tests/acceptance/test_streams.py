"""Event streams: the contract's order, and nothing lost or repeated over any cut."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from itertools import islice

from tests.acceptance.conftest import NewAgent
from tests.acceptance.sse import Event
from tests.acceptance.system import JSON, Agent, Api, System, run
from tests.acceptance.waiting import wait_until

# The contract's order of a turn, a letter for each kind.
LETTERS = {
    "turn_start": "T",
    "message_start": "M",
    "message_update": "u",
    "message_end": "m",
    "tool_execution_start": "X",
    "tool_execution_update": "p",
    "tool_execution_end": "x",
    "turn_end": "t",
    "agent_end": "a",
}
ORDER = re.compile(r"T(Mu*m(Xp*x)*)+ta")
LAST_WORD_SECONDS = 1.0  # from SIGTERM to the last event of an open stream


def _letters(events: list[Event]) -> str:
    return "".join(LETTERS[event.kind] for event in events)


def _speech(words: int, token_seconds: float) -> JSON:
    text = " ".join(f"word-{n}" for n in range(words))
    return {"text": text, "token_seconds": token_seconds}


def test_a_turn_streams_its_events_in_the_contracts_order(scripted: NewAgent) -> None:
    agent = scripted(
        run('console.log("working"); globalThis.result = 1;'),
        {"text": "one two three", "token_seconds": 0.05},
    )

    with agent.stream("Begin") as stream:
        events = list(stream)

    assert stream.content_type.startswith("text/event-stream")
    assert re.fullmatch(r"TMu+mXp+xMu+mta", _letters(events))
    assert ORDER.fullmatch(_letters(events))
    ids = [event.id or 0 for event in events]
    assert ids == sorted(set(ids))
    (turn,) = agent.tasks(type="turn")
    assert {event.payload["turn_id"] for event in events} == {turn["id"]}
    edges = [*events[:1], *events[-2:]]
    assert not any("step" in event.payload for event in edges)
    steps = [int(event.payload["step"]) for event in events[1:-2]]
    assert steps == sorted(steps)
    assert set(steps) == {1, 2, 3}


def test_the_pieces_of_an_answer_make_up_the_answer(scripted: NewAgent) -> None:
    agent = scripted(_speech(words=12, token_seconds=0.02))

    with agent.stream("Speak") as stream:
        events = list(stream)

    pieces = [e.payload["text"] for e in events if e.kind == "message_update"]
    (whole,) = [e.payload["text"] for e in events if e.kind == "message_end"]
    assert len(pieces) > 3
    assert "".join(pieces) == whole
    assert events[-1].payload["text"] == whole
    assert events[-1].payload["status"] == "completed"


def test_what_a_tool_prints_is_streamed_while_it_runs(scripted: NewAgent) -> None:
    agent = scripted(
        run('console.log("half way"); await Bun.sleep(600); globalThis.result = 1;'),
        {"text": "done"},
    )

    arrived_at: dict[str, float] = {}
    with agent.stream("Begin") as stream:
        for event in stream:
            arrived_at.setdefault(event.kind, time.monotonic())
            if event.kind == "tool_execution_update":
                assert event.payload["text"] == "half way\n"

    ahead = arrived_at["tool_execution_end"] - arrived_at["tool_execution_update"]
    assert ahead > 0.3


def test_a_failed_turn_ends_its_stream_with_the_error(scripted: NewAgent) -> None:
    agent = scripted({"error": {"status": 400, "message": "not that"}})

    with agent.stream("Begin") as stream:
        events = list(stream)

    assert ORDER.fullmatch(_letters(events))
    assert events[-1].payload["status"] == "failed"
    assert events[-1].payload["error"]["message"] == "not that"


def test_a_stream_whose_turn_must_wait_gets_its_own_turn_only(
    scripted: NewAgent,
) -> None:
    agent = scripted(_speech(words=5, token_seconds=0.1), {"text": "second"})
    first_id = agent.send("First")["turn_id"]

    with agent.stream("Second") as stream:
        events = list(stream)

    assert first_id not in {event.payload["turn_id"] for event in events}
    assert ORDER.fullmatch(_letters(events))
    assert events[-1].payload["text"] == "second"


def test_a_stream_resumes_over_many_cuts_with_nothing_lost_or_repeated(
    scripted: NewAgent,
) -> None:
    agent = scripted(_speech(words=40, token_seconds=0.03))
    start = agent.send("Ready?", priority="low")["event_id"]
    agent.send("Speak")

    seen = list(_followed_with_cuts(agent, start, events_a_connection=4))

    known = [each["id"] for each in agent.events(after=start)]
    assert [event.id for event in seen] == known
    assert len(known) > 20  # so there were cuts in mid-turn


def _followed_with_cuts(
    agent: Agent, start: int, events_a_connection: int
) -> Iterator[Event]:
    """Follow to the turn's end, reconnecting by header and by query in turn."""
    last, connections = start, 0
    while True:
        connections += 1
        by_header = connections % 2 == 0
        scope = f"agent/{agent.id}"
        with (
            agent.api.follow(last, scope=scope)
            if by_header
            else agent.api.follow(scope=scope, after=last)
        ) as stream:
            for event in islice(stream, events_a_connection):
                yield event
                if event.kind == "agent_end":
                    return
                assert event.id is not None
                last = event.id


def test_the_header_wins_over_the_query_when_a_stream_resumes(
    scripted: NewAgent,
) -> None:
    agent = scripted({"text": "one"})
    agent.turn("Begin")
    known = [each["id"] for each in agent.events()]

    scope = f"agent/{agent.id}"
    with agent.api.follow(known[2], scope=scope, after=known[0]) as stream:
        first = stream.take(1)[0]

    assert first.id == known[3]


def test_a_stream_without_a_cursor_begins_now(scripted: NewAgent) -> None:
    agent = scripted({"text": "one"}, {"text": "two"})
    agent.turn("Begin")

    with agent.api.follow(scope=f"agent/{agent.id}") as stream:
        said = agent.send("Go on")
        first = stream.take(1)[0]

    assert first.id == said["event_id"]
    assert (first.kind, first.data["body"]) == ("message", "Go on")
    agent.api.finished(said["turn_id"])


def test_a_stream_shows_only_what_was_asked_for(api: Api, new_agent: NewAgent) -> None:
    agent = new_agent(api, [{"text": "one"}])
    start = agent.send("Ready?", priority="low")["event_id"]
    task = f"task/{agent.id}"

    with api.follow(scope=task, stream="external", after=start) as stream:
        agent.turn("Begin")
        api.post("/events", {"stream": "signals", "scope": task, "body": "no"})
        pushed = api.post(
            "/events",
            {"stream": "external", "scope": task, "kind": "mail", "body": "yes"},
        )
        first = stream.take(1)[0]

    assert (first.id, first.kind, first.data) == (pushed["id"], "mail", pushed)


def test_many_streams_see_the_same(scripted: NewAgent) -> None:
    agent = scripted(_speech(words=10, token_seconds=0.02))
    scope = f"agent/{agent.id}"
    start = agent.send("Ready?", priority="low")["event_id"]
    streams = [agent.api.follow(scope=scope, after=start) for _ in range(6)]

    try:
        agent.turn("Speak")
        known = [each["id"] for each in agent.events(after=start)]
        seen = [[e.id for e in stream.take(len(known))] for stream in streams]
    finally:
        for stream in streams:
            stream.__exit__()

    assert seen == [known] * len(streams)


def test_a_stop_ends_open_streams_with_a_last_event(
    mortal: System, new_agent: NewAgent
) -> None:
    agent = new_agent(mortal.api, [_speech(words=100, token_seconds=0.1)])

    with agent.stream("Speak") as speaking, mortal.api.follow() as silent:
        heard = iter(speaking)
        next(heard)
        told_at = time.monotonic()
        mortal.send(signal.SIGTERM)
        endings = [list(silent)[-1].kind, list(heard)[-1].kind]
        seconds = time.monotonic() - told_at

    assert endings == ["server_stopping", "server_stopping"]
    assert seconds < LAST_WORD_SECONDS
    mortal.wait()
    wait_until(lambda: not mortal.processes(), 1.0, "nothing is left")
