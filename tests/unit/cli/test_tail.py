"""`tail`, and following a stream over broken connections."""

from __future__ import annotations

import json

import pytest

from webapp.cli.client import Client, Refused, Target, Unreachable
from webapp.cli.follow import Pauses, follow

EVENTS = "GET /api/v1/events"
STREAM = "GET /api/v1/events/stream"
TIME = "2026-11-21T09:00:00Z"


@pytest.fixture
def client(server):
    target = Target(url=server.url, token="secret", token_path="/nowhere")
    with Client(target) as client:
        yield client


@pytest.fixture(autouse=True)
def scout(server):
    server.gives("GET /api/v1/agents/scout", {"id": "scout"})


def page(*events):
    return {"items": [*events], "next_cursor": None}


def test_tail_prints_the_last_events_oldest_first(server, roost, event):
    server.gives(EVENTS, page(event("2", "agent_end"), event("1", "turn_start")))
    result = roost("tail", "scout", "-n", "2", "--json")
    assert [found["id"] for found in json.loads(result.output)] == ["1", "2"]
    asked = server.asked_for("/api/v1/events")[0]
    assert asked.query == {"scope": "agent/scout", "order": "desc", "limit": "2"}


def test_tail_without_an_agent_reads_everybody_s_events(server, roost):
    server.gives(EVENTS, page())
    assert roost("tail").exit_code == 0
    assert server.asked[0].query == {"order": "desc", "limit": "20"}


def test_tail_after_an_event_follows_the_cursor_to_the_end(
    server, roost, event, answer
):
    first = {"items": [event("2", "turn_start")], "next_cursor": "c"}
    second = page(event("3", "agent_end"))
    server.answers(EVENTS, answer(body=first), answer(body=second))
    result = roost("tail", "--after", "1", "--json")
    assert [found["id"] for found in json.loads(result.output)] == ["2", "3"]
    assert server.asked[1].query["cursor"] == "c"
    assert server.asked[1].query["after"] == "1"


def test_tail_reads_like_a_log_when_nobody_watches(server, roost, event):
    told = [
        event("1", "message", "What is 6 * 7?"),
        event("2", "turn_start"),
        event("3", "message_start"),
        event("3", "message_update", kind="reasoning", text="Hm."),
        event("4", "message_update", text="Let me "),
        event("5", "message_update", text="see."),
        event("5", "message_update", kind="tool_call", text='{"code": "6*7"}'),
        event("6", "message_end", text="Let me see."),
        event("7", "tool_execution_start", tool_name="exec", arguments={"code": "6*7"}),
        event("8", "tool_execution_end", tool_name="exec", is_error=False, text="42"),
        event("9", "message_end", text="It is 42."),
        event("10", "turn_end", error={"type": "x", "message": "It broke."}),
    ]
    server.gives(EVENTS, page(*reversed(told)))
    assert roost("tail", "scout").output.splitlines() == [
        f"{TIME} scout message What is 6 * 7?",
        f"{TIME} scout turn_start turn-1",
        f"{TIME} scout reasoning Hm.",
        f"{TIME} scout message Let me see.",
        f'{TIME} scout tool_execution_start exec {{"code": "6*7"}}',
        f"{TIME} scout tool_execution_end exec ok 42",
        f"{TIME} scout message It is 42.",
        f"{TIME} scout turn_end turn-1 It broke.",
    ]


def test_agents_that_speak_at_once_each_get_their_own_line(server, roost, event):
    def says(id, agent, text):
        spoken = event(id, "message_update", text=text)
        return {**spoken, "scope": f"agent/{agent}"}

    told = [says("1", "scout", "a"), says("2", "other", "b"), says("3", "other", "c")]
    server.gives(EVENTS, page(*reversed(told)))
    assert roost("tail").output.splitlines() == [
        f"{TIME} scout message a",
        f"{TIME} other message bc",
    ]


def test_tail_of_nobody_is_told_and_not_waited_for(server, roost):
    server.refuses("GET /api/v1/agents/nemo", 404, "There is no agent 'nemo'.")
    result = roost("tail", "nemo", "-f")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no agent 'nemo'." in result.stderr


def test_following_goes_on_from_the_last_event_shown(server, roost, event, sse, answer):
    server.gives(EVENTS, page(event("1", "turn_start")))
    coming = sse(event("2", "agent_end"))
    gone = answer(status=404, body={"detail": "Gone."})
    server.answers(STREAM, answer(chunks=(b"retry: 1\n\n", coming)), gone)
    result = roost("tail", "scout", "-f", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["1", "2"]
    assert server.asked_for("/api/v1/events/stream")[0].query["after"] == "1"
    assert (result.exit_code, result.stderr) == (1, "Error: Gone.\n")


def test_following_with_none_shown_still_misses_nothing(
    server, roost, event, sse, answer
):
    server.gives(EVENTS, page(event("1", "turn_start")))
    server.answers(STREAM, answer(status=404, body={"detail": "Gone."}))
    result = roost("tail", "scout", "-f", "-n", "0")
    assert result.stdout == ""
    assert server.asked_for("/api/v1/events/stream")[0].query["after"] == "1"


def test_a_broken_connection_is_made_again_without_loss_or_repetition(
    server, client, event, sse, answer
):
    goodbye = b"event: server_stopping\ndata: {}\n\n"
    first = sse(event("1", "turn_start")) + goodbye + b"id: 2\ndata: cut off"
    second = sse(event("2", "turn_end"))
    last = sse(event("3", "agent_end"))
    server.answers(
        STREAM,
        answer(chunks=(first,), cut=True),
        answer(status=503, body={"detail": "Draining."}, headers={"Retry-After": "7"}),
        answer(chunks=(second,)),
        answer(chunks=(last,)),
    )
    slept = []
    pauses = Pauses(sleep=slept.append, chance=lambda: 1.0)
    stream = follow(client, scope="agent/scout", after="0", pauses=pauses)
    assert [next(stream)["id"] for _ in range(3)] == ["1", "2", "3"]
    stream.close()
    asked = server.asked_for("/api/v1/events/stream")
    assert [one.headers["last-event-id"] for one in asked] == ["0", "1", "1", "2"]
    assert slept == [1.0, 7.0, 1.0]


def test_pauses_grow_with_jitter_and_start_at_what_the_server_asked_for():
    slept = []
    pauses = Pauses(sleep=slept.append, chance=lambda: 0.0, first_seconds=4.0)
    for _ in range(6):
        pauses.take()
    pauses.went_well()
    pauses.take()
    assert slept == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 2.0]


def test_the_server_s_retry_sets_the_first_pause(server, client, answer, event, sse):
    retry = b"retry: 500\n\n" + sse(event("1", "turn_start"))
    server.answers(STREAM, answer(chunks=(retry,)))
    slept = []
    pauses = Pauses(sleep=slept.append, chance=lambda: 1.0)
    stream = follow(client, scope=None, after=None, pauses=pauses)
    next(stream), next(stream)
    stream.close()
    assert slept == [0.5]


def test_a_first_connection_that_is_refused_is_told_at_once(server, client):
    server.refuses(STREAM, 503, "Draining.")
    stream = follow(client, scope=None, after=None, pauses=Pauses())
    with pytest.raises(Refused, match="Draining"):
        next(stream)


def test_a_first_connection_to_nobody_is_told_at_once():
    target = Target(url="http://127.0.0.1:9", token=None, token_path="/nowhere")
    with Client(target) as client, pytest.raises(Unreachable, match="Nothing answers"):
        next(follow(client, scope=None, after=None, pauses=Pauses()))


def test_following_from_an_empty_past_asks_for_everything(server, roost, answer):
    server.gives(EVENTS, page())
    server.answers(STREAM, answer(status=404, body={"detail": "Gone."}))
    roost("tail", "scout", "-f")
    assert server.asked_for("/api/v1/events/stream")[0].query["after"] == "0"
