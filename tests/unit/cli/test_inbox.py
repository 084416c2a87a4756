"""`inbox`, `edit` and `withdraw`; and what `why` prints."""

from __future__ import annotations

import json

PATH = "/api/v1/agents/scout/inbox"
INPUT = {
    "id": 17,
    "priority": "wake",
    "kind": "message",
    "source": None,
    "body": "tpyo",
    "text": "typo",
    "turn_id": "turn-3",
    "turn_status": "queued",
    "read": False,
}


def test_an_inbox_is_one_line_each(server, roost) -> None:
    server.gives(f"GET {PATH}", {"items": [INPUT], "next_cursor": None})
    told = roost("inbox", "scout")
    assert told.output == "17\twake\tmessage\t-\tturn-3\tqueued\ttypo\n"
    assert json.loads(roost("inbox", "scout", "--json").output) == [INPUT]


def test_edit_sends_the_new_text(server, roost) -> None:
    server.gives(f"PATCH {PATH}/17", INPUT)
    told = roost("edit", "scout", "17", "typo")
    assert told.output == "scout will read the new text of 17.\n"
    assert server.asked[0].body == {"text": "typo"}
    assert json.loads(roost("edit", "scout", "17", "x", "--json").output) == INPUT


def test_withdraw_names_the_turn_that_it_cancelled(server, roost) -> None:
    server.gives(f"DELETE {PATH}/17", INPUT)
    told = roost("withdraw", "scout", "17")
    assert told.output == "scout will not read 17. turn-3 is cancelled.\n"
    server.gives(f"DELETE {PATH}/17", {**INPUT, "turn_id": None})
    assert roost("withdraw", "scout", "17").output == "scout will not read 17.\n"


def test_withdraw_takes_all_back(server, roost) -> None:
    server.gives(f"DELETE {PATH}", {"withdrawn": [17, 18]})
    told = roost("withdraw", "scout", "--all")
    assert told.output == "scout will not read 17, 18.\n"
    server.gives(f"DELETE {PATH}", {"withdrawn": []})
    told = roost("withdraw", "scout", "--all")
    assert told.output == "Nothing of scout's waited to be read.\n"


def test_withdraw_is_told_one_event_or_all(roost) -> None:
    for arguments in ((), ("17", "--all")):
        told = roost("withdraw", "scout", *arguments)
        assert (told.exit_code, "Name one EVENT, or say --all." in told.stderr) == (
            2,
            True,
        )


def test_what_comes_too_late_is_a_sentence(server, roost, answer) -> None:
    said = "Event 17 of agent scout is being read by turn-3, which is running."
    problem = {"status": 409, "title": "Conflict", "detail": said}
    server.answers(f"DELETE {PATH}/17", answer(status=409, body=problem))
    told = roost("withdraw", "scout", "17")
    assert (told.exit_code, said in told.stderr) == (1, True)


def test_an_event_is_named_by_its_number(roost) -> None:
    assert roost("edit", "scout", "x", "text").exit_code == 2


def test_why_tells_of_the_steps_the_summaries_and_what_else_was_read(
    server, roost
) -> None:
    link = {"id": "turn-1", "kind": "turn", "what": "turn of scout, completed"}
    done = {"status": "succeeded", "cost_usd": None}
    usage = {"input_tokens": 60, "output_tokens": 7}
    exec_ = {
        "id": "exec-1",
        "what": "exec of scout, failed",
        "took_seconds": 0.5,
        "waited_seconds": 0.25,
        "error": "It\nthrew.",
        "step": "turn-1/2",
        "led_to": [],
    }
    news = {"id": 10, "what": "exec-1 to agent/scout: over", "step": None, "led_to": []}
    turn = {
        **link,
        "took_seconds": 2.0,
        "waited_seconds": 0.01,
        "cost_usd": 0.5,
        "unblocked_by": None,
        "waits": [],
        "steps": [
            {
                **done,
                "key": "turn-1/1",
                "what": "model demo",
                "took_seconds": 1.0,
                "usage": usage,
            },
            {**done, "key": "turn-1/2", "what": "tool exec", "took_seconds": 0.75},
        ],
        "summaries": [{"what": "summary, manual, by demo", "took_seconds": 0.25}],
        "also_read": [
            {"id": 9, "what": "somebody to agent/scout: two", "turn_id": "turn-2"},
            {"id": 8, "what": "somebody to agent/scout: news", "turn_id": None},
        ],
        "reply": "both\n\nof them",
        "error": None,
        "led_to": [news, exec_],
    }
    found = {"id": "turn-1", "chain": [link], "tree": turn, "is_cut": True}
    server.gives("GET /api/v1/why/turn-1", found)
    assert roost("why", "turn-1").output.splitlines() == [
        "turn-1: turn of scout, completed",
        "",
        "turn-1  turn of scout, completed  (2.000 s, $0.5000)",
        "  1. model demo  succeeded  (1.000 s, 67 tokens)",
        "  2. tool exec  succeeded  (0.750 s)",
        "     exec-1  exec of scout, failed  (0.500 s, 0.250 s in line)",
        "       because: It threw.",
        "  summary, manual, by demo  (0.250 s)",
        "  also read 9: somebody to agent/scout: two (which turn-2 was to answer)",
        "  also read 8: somebody to agent/scout: news",
        "  replied: both of them",
        "  10  exec-1 to agent/scout: over",
        "… and more; this is as far as it is followed.",
    ]
    assert json.loads(roost("why", "turn-1", "--json").output) == found
