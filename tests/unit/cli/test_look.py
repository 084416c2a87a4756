"""`agents`, `tasks`, `show`, and the verbs."""

from __future__ import annotations

import json

import pytest

SCOUT = {
    "id": "scout",
    "name": "Scout\twith a tab",
    "state": "idle",
    "model": "demo",
    "system": "You are Scout.\nBe brief.",
    "tools": [],
    "generation": 1,
    "unread": 0,
    "created_at": "2026-11-21T09:00:00Z",
    "updated_at": "2026-11-21T09:00:00Z",
    "last_activity_at": None,
    "cost_usd_today": 0.0,
    "metadata": {},
}
EXEC = {
    "id": "exec-17",
    "type": "exec",
    "status": "failed",
    "agent_id": "scout",
    "parent_id": None,
    "payload": {"code": "throw new Error()", "timeout_seconds": 5},
    "result": None,
    "error": {"type": "timeout", "message": "It took\ntoo long.", "limit": 5},
    "attempts": 1,
    "epoch": 2,
    "waiting_for": [{"kind": "task", "id": "exec-18"}],
    "created_at": "2026-11-21T09:00:00Z",
    "started_at": "2026-11-21T09:00:01Z",
    "finished_at": "2026-11-21T09:00:06Z",
    "metadata": {},
}
UPDATE = {
    "id": "1",
    "task_id": "exec-17",
    "kind": "stdout",
    "payload": {"text": "one\ntwo\n"},
    "created_at": "2026-11-21T09:00:02Z",
}


def page(*items, next_cursor=None):
    return {"items": [*items], "next_cursor": next_cursor}


def test_agents_are_one_line_each_with_tabs_between(server, roost):
    server.gives("GET /api/v1/agents", page(SCOUT))
    assert (
        roost("agents").output == "scout\tidle\tdemo\t1\t0\t0.0\t-\tScout with a tab\n"
    )


def test_agents_as_json_are_the_api_s_items(server, roost):
    server.gives("GET /api/v1/agents", page(SCOUT))
    assert json.loads(roost("agents", "--json").output) == [SCOUT]


def test_json_may_be_said_before_the_command(server, roost):
    server.gives("GET /api/v1/agents", page(SCOUT))
    assert json.loads(roost("--json", "agents").output) == [SCOUT]


def test_no_agents_are_no_lines(server, roost):
    server.gives("GET /api/v1/agents", page())
    assert (roost("agents").output, roost("agents", "--json").output) == ("", "[]\n")


def test_a_list_is_read_page_by_page_up_to_the_limit(server, roost, answer):
    server.answers(
        "GET /api/v1/tasks",
        answer(body=page(EXEC, EXEC, next_cursor="c")),
        answer(body=page(EXEC, EXEC, next_cursor="d")),
    )
    result = roost("tasks", "--limit", "3", "--json")
    assert len(json.loads(result.output)) == 3
    asked = [(one.query["limit"], one.query.get("cursor")) for one in server.asked]
    assert asked == [("3", None), ("1", "c")]


def test_tasks_are_asked_for_by_type_status_agent_and_parent(server, roost):
    server.gives("GET /api/v1/tasks", page(EXEC))
    result = roost(
        *("tasks", "--type", "exec", "--status", "failed"),
        *("--agent", "scout", "--parent", "turn-1"),
    )
    assert server.asked[0].query == {
        "type": "exec",
        "status": "failed",
        "agent": "scout",
        "parent": "turn-1",
        "limit": "50",
    }
    assert result.output == (
        "exec-17\texec\tfailed\tscout\t1\t2026-11-21T09:00:00Z"
        "\t2026-11-21T09:00:06Z\ttimeout: It took too long.\n"
    )


def test_an_unknown_status_is_a_usage_error(server, roost):
    assert roost("tasks", "--status", "done").exit_code == 2


def test_show_gives_a_task_with_its_updates(server, roost):
    server.gives("GET /api/v1/tasks/exec-17", EXEC)
    server.gives("GET /api/v1/tasks/exec-17/updates", page(UPDATE))
    assert json.loads(roost("show", "exec-17", "--json").output) == {
        **EXEC,
        "updates": [UPDATE],
    }
    assert roost("show", "exec-17").output.splitlines() == [
        "id: exec-17",
        "type: exec",
        "status: failed",
        "agent_id: scout",
        "attempts: 1",
        "epoch: 2",
        "created_at: 2026-11-21T09:00:00Z",
        "started_at: 2026-11-21T09:00:01Z",
        "finished_at: 2026-11-21T09:00:06Z",
        "payload:",
        "  code: throw new Error()",
        "  timeout_seconds: 5",
        "updates:",
        "  - id: 1",
        "    task_id: exec-17",
        "    kind: stdout",
        "    payload:",
        "      text:",
        "        one",
        "        two",
        "    created_at: 2026-11-21T09:00:02Z",
        "error:",
        "  type: timeout",
        "  message:",
        "    It took",
        "    too long.",
        "  limit: 5",
        "waiting_for:",
        "  - kind: task",
        "    id: exec-18",
    ]


def test_show_gives_a_turn_with_its_steps_where_the_api_has_them(server, roost):
    steps = [{"number": 1, "kind": "model", "status": "succeeded"}]
    turn = {**EXEC, "id": "turn-1", "type": "turn", "steps": steps}
    server.gives("GET /api/v1/tasks/turn-1", turn)
    server.gives("GET /api/v1/tasks/turn-1/updates", page())
    lines = roost("show", "turn-1").output.splitlines()
    at = lines.index("steps:")
    expected = ["  - number: 1", "    kind: model", "    status: succeeded"]
    assert lines[at + 1 : at + 4] == expected


def test_show_gives_an_agent_when_no_task_has_the_id(server, roost):
    server.gives("GET /api/v1/agents/scout", SCOUT)
    lines = roost("show", "scout").output.splitlines()
    assert lines[:2] == ["id: scout", "name: Scout\twith a tab"]
    assert "  Be brief." in lines


def test_show_of_nothing_says_where_to_look(server, roost):
    result = roost("show", "nemo")
    assert result.exit_code == 1
    assert "There is no task and no agent 'nemo'." in result.stderr


def test_an_id_is_one_part_of_the_path_whatever_is_in_it(server, roost):
    roost("show", "a/b c")
    assert server.asked[0].path == "/api/v1/tasks/a%2Fb%20c"


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_what_would_name_another_route_is_a_usage_error(server, roost, id):
    assert roost("show", id).exit_code == 2
    assert server.asked == []


@pytest.mark.parametrize(
    ("verb", "status"),
    [("cancel", "cancelled"), ("kill", "cancelled"), ("retry", "queued")],
)
def test_a_verb_says_what_became_of_the_task(server, roost, verb, status):
    task = {**EXEC, "status": status}
    server.gives(f"POST /api/v1/tasks/exec-17/{verb}", task)
    result = roost(verb, "exec-17")
    assert (result.exit_code, result.output) == (0, f"exec-17 is {status}.\n")
    assert server.asked[0].body == {}
    assert json.loads(roost(verb, "exec-17", "--json").output) == task


def test_a_verb_that_is_refused_says_why(server, roost):
    detail = "Task exec-17 is completed; it cannot become cancelled."
    server.refuses("POST /api/v1/tasks/exec-17/cancel", 409, detail)
    result = roost("cancel", "exec-17")
    assert (result.exit_code, result.stderr) == (1, f"Error: {detail}\n")


def test_a_cancel_that_takes_a_moment_says_so(server, roost):
    server.gives("POST /api/v1/tasks/exec-17/cancel", {**EXEC, "status": "running"})
    said = "exec-17 is running; it will be cancelled.\n"
    assert roost("cancel", "exec-17").output == said
