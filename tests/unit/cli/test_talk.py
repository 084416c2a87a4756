"""`ask`, `send`, `chat`."""

from __future__ import annotations

import json

ASK = "POST /api/v1/agents/scout/ask"
MESSAGES = "POST /api/v1/agents/scout/messages"
STREAM = "POST /api/v1/agents/scout/stream"
TURN = "GET /api/v1/tasks/turn-1"
REPLY = {"text": "It is 42.", "turn_id": "turn-1", "usage": {"input_tokens": 9}}


def turn(status, **rest):
    return {"id": "turn-1", "type": "turn", "status": status, **rest}


def test_ask_prints_the_reply(server, roost):
    server.gives(ASK, REPLY)
    result = roost("ask", "scout", "What is 6 * 7?")
    assert (result.exit_code, result.output) == (0, "It is 42.\n")
    asked = server.asked[0]
    assert asked.body == {"text": "What is 6 * 7?", "wait_seconds": 55}
    assert asked.headers["authorization"] == "Bearer secret"


def test_ask_prints_the_answer_as_json(server, roost):
    server.gives(ASK, REPLY)
    assert json.loads(roost("ask", "scout", "hi", "--json").output) == REPLY


def test_ask_reads_standard_input_for_a_dash(server, roost):
    server.gives(ASK, REPLY)
    assert roost("ask", "scout", "-", input="Grüße\n").exit_code == 0
    assert server.asked[0].body["text"] == "Grüße\n"


def test_ask_waits_on_for_a_turn_that_outlasts_the_first_wait(server, roost, answer):
    server.gives(ASK, {"turn_id": "turn-1"}, status=202)
    ended = turn("completed", result={"text": "At last."}, usage={"output_tokens": 2})
    server.answers(TURN, answer(body=turn("waiting")), answer(body=ended))
    result = roost("ask", "scout", "hi", "--json")
    assert json.loads(result.output) == {
        "text": "At last.",
        "turn_id": "turn-1",
        "usage": {"output_tokens": 2},
    }
    waits = [int(asked.query["wait_seconds"]) for asked in server.asked[1:]]
    assert len(waits) == 2
    assert all(50 <= wait <= 55 for wait in waits)


def test_ask_says_how_to_follow_a_turn_it_does_not_wait_for(server, roost):
    server.gives(ASK, {"turn_id": "turn-1"}, status=202)
    result = roost("ask", "scout", "hi", "--wait", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "roost show turn-1" in result.stderr


def test_ask_tells_why_a_turn_failed(server, roost):
    server.gives(ASK, {"turn_id": "turn-1"}, status=202)
    error = {"type": "model", "message": "The model refused."}
    server.gives(TURN, turn("failed", error=error))
    result = roost("ask", "scout", "hi")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "turn-1 failed: The model refused." in result.stderr


def test_send_prints_the_event_and_the_turn(server, roost):
    said = {"event_id": "0199", "turn_id": "turn-1", "request_id": "r"}
    server.gives(MESSAGES, said, status=202)
    result = roost("send", "scout", "hello", "--priority", "interrupt")
    assert (result.exit_code, result.output) == (0, "event 0199 turn turn-1\n")
    assert server.asked[0].body == {"text": "hello", "priority": "interrupt"}


def test_a_message_may_name_who_answers_it(server, roost):
    posted = {"event_id": 3, "turn_id": "turn-1", "request_id": "r"}
    server.gives("POST /api/v1/agents/scout/messages", posted, status=202)
    assert roost("send", "scout", "hello", "--model", "smart").exit_code == 0
    assert server.asked[0].body["model"] == "smart"


def test_send_says_that_no_turn_was_started(server, roost):
    said = {"event_id": "0199", "turn_id": None, "request_id": "r"}
    server.gives(MESSAGES, said, status=202)
    result = roost("send", "scout", "hello", "--priority", "low")
    assert result.output == "event 0199 turn -\n"


def test_an_unknown_priority_is_a_usage_error(server, roost):
    result = roost("send", "scout", "hello", "--priority", "high")
    assert result.exit_code == 2
    assert "interrupt" in result.stderr
    assert server.asked == []


def test_chat_streams_the_reply_to_each_line(server, roost, answer, event, sse):
    server.gives("GET /api/v1/agents/scout", {"id": "scout"})
    stream = sse(
        event("1", "turn_start"),
        event("2", "message_start"),
        event("3", "message_update", text="Hel"),
        event("4", "message_update", text="lo."),
        event("5", "message_end", text="Hello."),
        event("6", "turn_end"),
        event("7", "agent_end"),
    )
    server.answers(STREAM, answer(chunks=(stream[:100], stream[100:])))
    result = roost("chat", "scout", input="hi\n\nthere\n")
    assert (result.exit_code, result.output) == (0, "Hello.\nHello.\n")
    path = "/api/v1/agents/scout/stream"
    said = [asked.body for asked in server.asked_for(path)]
    assert said == [{"text": "hi"}, {"text": "there"}]


def test_chat_reads_the_rest_of_a_reply_that_broke_off(
    server, roost, answer, event, sse
):
    server.gives("GET /api/v1/agents/scout", {"id": "scout"})
    begun = sse(event("3", "message_start"), event("4", "message_update", text="Hel"))
    server.answers(STREAM, answer(chunks=(begun,), cut=True))
    other = {**event("5", "message_update", text="?"), "payload": {"turn_id": "turn-2"}}
    rest = sse(
        other,
        event("6", "message_update", text="lo."),
        event("7", "message_end"),
        event("8", "agent_end"),
    )
    server.answers("GET /api/v1/events/stream", answer(chunks=(rest,)))
    result = roost("chat", "scout", input="hi\n")
    assert (result.exit_code, result.output) == (0, "Hello.\n")
    asked = server.asked_for("/api/v1/events/stream")[0]
    assert asked.query == {"scope": "agent/scout", "after": "4"}
    assert asked.headers["last-event-id"] == "4"


def test_chat_with_nobody_says_so_before_the_first_line(server, roost):
    server.refuses("GET /api/v1/agents/nemo", 404, "There is no agent 'nemo'.")
    result = roost("chat", "nemo", input="hi\n")
    assert result.exit_code == 1
    assert "There is no agent 'nemo'." in result.stderr
