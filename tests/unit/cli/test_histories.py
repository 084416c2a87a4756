"""`fork`, `label`, `export` and `search`."""

from __future__ import annotations

import json

import pytest

FORK = "POST /api/v1/agents/scout/fork"
LABELS = "GET /api/v1/agents/scout/labels"
LABEL = "/api/v1/agents/scout/labels/good"
EXPORT = "GET /api/v1/agents/scout/export"
GOOD = {"agent_id": "scout", "name": "good", "entry_id": 17, "created_at": "…Z"}
HIT = {
    "entry_id": 17,
    "agent_id": "scout",
    "generation": 1,
    "type": "user_message",
    "turn_id": "turn-1",
    "snippet": "the red\tbuild",
    "created_at": "2026-11-21T09:00:00Z",
}


def test_a_fork_is_made_where_it_is_said_and_its_id_printed(server, roost):
    server.gives(FORK, {"id": "scout-2", "state": "idle"}, 201)
    result = roost(
        *("fork", "scout", "--at", "17", "--id", "scout-2"),
        *("--model", "demo", "--system", ""),
    )
    assert (result.exit_code, result.output) == (0, "scout-2\n")
    assert server.asked[0].body == {
        "entry_id": 17,
        "id": "scout-2",
        "model": "demo",
        "system": "",
    }
    made = json.loads(roost("fork", "scout", "--label", "good", "--json").output)
    assert (made["id"], server.asked[1].body) == ("scout-2", {"label": "good"})


def test_a_fork_at_two_places_is_a_usage_error(server, roost):
    assert roost("fork", "scout", "--at", "1", "--label", "good").exit_code == 2
    assert roost("fork", "scout", "--at", "here").exit_code == 2
    assert server.asked == []


def test_a_fork_that_is_refused_says_why(server, roost):
    server.refuses(FORK, 409, "There is an agent owl already; choose another id.")
    result = roost("fork", "scout", "--id", "owl")
    assert (result.exit_code, "an agent owl already" in result.stderr) == (1, True)


def test_a_label_is_put_shown_listed_and_taken_away(server, roost):
    for method in ("PUT", "GET", "DELETE"):
        server.gives(f"{method} {LABEL}", GOOD)
    server.gives(LABELS, {"items": [GOOD], "next_cursor": None})
    for arguments in (["good", "17"], ["good"], [], ["good", "--delete"]):
        result = roost("label", "scout", *arguments)
        assert (result.exit_code, result.output) == (0, "good\t17\t…Z\n")
    assert [each.method for each in server.asked] == ["PUT", "GET", "GET", "DELETE"]
    assert server.asked[0].body == {"entry_id": 17}
    assert json.loads(roost("label", "scout", "good", "--json").output) == GOOD
    assert json.loads(roost("label", "scout", "--json").output) == [GOOD]


@pytest.mark.parametrize(
    "arguments",
    [["--delete"], ["good", "17", "--delete"], ["good", "x"], ["good", "0"]],
)
def test_a_label_that_makes_no_sense_is_a_usage_error(server, roost, arguments):
    assert roost("label", "scout", *arguments).exit_code == 2
    assert server.asked == []


def test_an_export_is_printed_byte_by_byte(server, roost, answer):
    chunks = (b'{"type": "session"}\n', "{…}\n".encode()[:3], "{…}\n".encode()[3:])
    server.answers(EXPORT, answer(chunks=chunks))
    result = roost("export", "scout")
    assert result.stdout_bytes == b"".join(chunks)
    assert server.asked[0].query == {"format": "jsonl"}


def test_an_export_is_written_to_a_file_when_it_is_whole(
    server, roost, answer, tmp_path
):
    file = tmp_path / "scout.html"
    file.write_text("the old one")
    server.answers(EXPORT, answer(chunks=(b"<html>",), cut=True))
    broken = roost("export", "scout", "--format", "html", "-o", str(file))
    assert (broken.exit_code, file.read_text()) == (1, "the old one")
    server.answers(EXPORT, answer(chunks=(b"<html>", b"</html>")))
    roost("export", "scout", "--format", "html", "-o", str(file))
    assert file.read_text() == "<html></html>"
    assert server.asked[1].query == {"format": "html"}
    assert [each.name for each in tmp_path.glob("*.part")] == []


def test_an_export_that_is_refused_or_cannot_be_written_says_why(
    server, roost, answer, tmp_path
):
    server.refuses(EXPORT, 404, "There is no agent 'scout'.")
    refused = roost("export", "scout", "-o", str(tmp_path / "x"))
    assert (refused.exit_code, "no agent 'scout'" in refused.stderr) == (1, True)
    server.answers(EXPORT, answer(chunks=(b"x",)))
    nowhere = roost("export", "scout", "-o", str(tmp_path / "none" / "x"))
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (1, True)


def test_a_search_is_one_line_a_hit(server, roost):
    server.gives("GET /api/v1/search", {"items": [HIT], "next_cursor": None})
    result = roost(
        *("search", "red build", "--agent", "scout"),
        *("--type", "user_message", "--limit", "5"),
    )
    assert result.output == (
        "17\tscout\tuser_message\t2026-11-21T09:00:00Z\tthe red build\n"
    )
    assert server.asked[0].query == {
        "q": "red build",
        "agent": "scout",
        "type": "user_message",
        "limit": "5",
    }
    assert json.loads(roost("search", "red", "--json").output) == [HIT]


CASSETTE = {"turn_id": "turn-1", "model": "demo", "answers": [{"text": "grün"}]}


def test_a_record_is_printed_or_written_whole(server, roost, tmp_path):
    server.gives("GET /api/v1/tasks/turn-1/cassette", CASSETTE)
    file = tmp_path / "cassette.json"
    printed = roost("record", "turn-1")
    written = roost("record", "turn-1", "-o", str(file))
    assert json.loads(printed.output) == json.loads(file.read_text()) == CASSETTE
    assert (written.exit_code, written.output) == (0, "")


def test_a_turn_that_cannot_be_recorded_says_why(server, roost):
    server.refuses("GET /api/v1/tasks/turn-1/cassette", 409, "Turn turn-1 is queued.")
    result = roost("record", "turn-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Turn turn-1 is queued." in result.stderr
