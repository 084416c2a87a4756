"""Tasks: queued, listed, waited for, written down; execs and their output."""

from __future__ import annotations

import json
import time

import pytest

from tests.acceptance.system import JSON, Agent, Api
from tests.acceptance.waiting import wait_until

TASK_FIELDS = {
    *("id", "type", "status", "agent_id", "parent_id", "payload", "result", "error"),
    *("attempts", "epoch", "waiting_for", "cause_id", "created_at", "started_at"),
    *("finished_at", "usage", "cost_usd", "metadata"),
}


def _kinds(api: Api, id: str) -> list[str]:
    return [each["kind"] for each in api.items(f"/tasks/{id}/updates")]


def test_an_exec_runs_and_has_the_contracts_shape(api: Api) -> None:
    queued = api.run("globalThis.result = { list: [1, 'two', null] };")

    task = api.finished(queued["id"])

    assert queued["created"] is True
    assert set(task) >= TASK_FIELDS
    assert (task["type"], task["status"]) == ("exec", "completed")
    assert task["result"] == {"list": [1, "two", None]}
    assert task["error"] is None
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]
    assert task["created_at"].endswith("Z")


def test_the_updates_of_an_exec_tell_its_life_in_order(api: Api) -> None:
    task = api.run('console.log("out"); console.error("err"); globalThis.result = 1;')

    api.finished(task["id"])
    updates = api.items(f"/tasks/{task['id']}/updates")

    kinds = [each["kind"] for each in updates]
    assert kinds.index("start") < kinds.index("stdout") < kinds.index("exit")
    assert kinds.index("start") < kinds.index("stderr") < kinds.index("exit")
    text = {each["kind"]: each["payload"].get("text") for each in updates}
    assert (text["stdout"], text["stderr"]) == ("out\n", "err\n")
    assert updates[kinds.index("exit")]["payload"]["exit_code"] == 0
    ids = [each["id"] for each in updates]
    assert ids == sorted(set(ids))
    assert {each["task_id"] for each in updates} == {task["id"]}


def test_updates_are_read_by_cursor_and_by_kind(api: Api) -> None:
    task = api.run("globalThis.result = 1;")
    api.finished(task["id"])
    path = f"/tasks/{task['id']}/updates"
    whole = api.items(path)

    paged = api.items(path, limit=2)
    rest = api.items(path, after=whole[1]["id"])
    exits = api.items(path, kind="exit")

    assert paged == whole
    assert rest == whole[2:]
    assert exits == [each for each in whole if each["kind"] == "exit"]


def test_an_outside_update_is_appended(api: Api) -> None:
    task = api.post("/tasks", {"type": "chore", "payload": {"room": "hall"}})

    added = api.post(
        f"/tasks/{task['id']}/updates", {"kind": "progress", "payload": {"done": 0.5}}
    )

    assert api.items(f"/tasks/{task['id']}/updates")[-1] == added
    assert (added["kind"], added["payload"]) == ("progress", {"done": 0.5})


def test_a_task_whose_id_exists_is_given_back(api: Api, demo: Agent) -> None:
    body = {"type": "chore", "id": f"{demo.id}-chore", "payload": {"n": 1}}

    first = api.send("POST", "/api/v1/tasks", json=body)
    second = api.send("POST", "/api/v1/tasks", json=body)

    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (second.status_code, second.json()["created"]) == (200, False)
    assert second.json() | {"created": True} == first.json()
    assert first.headers["Location"].endswith(f"/api/v1/tasks/{body['id']}")


def test_tasks_are_listed_by_filter_and_page_newest_first(
    api: Api, demo: Agent
) -> None:
    chores = [
        api.post("/tasks", {"type": "chore", "agent_id": demo.id})["id"]
        for _ in range(5)
    ]
    child = api.post("/tasks", {"type": "chore", "parent_id": chores[0]})["id"]
    api.post(f"/tasks/{chores[4]}/cancel")

    def ids(**wanted: object) -> list[str]:
        return [each["id"] for each in api.items("/tasks", **wanted)]

    assert ids(agent=demo.id) == chores[::-1]
    assert ids(agent=demo.id, limit=2) == chores[::-1]
    assert ids(agent=demo.id, status="queued") == chores[3::-1]
    assert ids(agent=demo.id, status="cancelled") == chores[4:]
    assert ids(agent=demo.id, type="turn") == []
    assert ids(parent=chores[0]) == [child]
    page = api.get("/tasks", agent=demo.id, limit=2)
    assert len(page["items"]) == 2
    assert page["next_cursor"] is not None


def test_a_read_waits_for_the_end_and_no_longer(api: Api) -> None:
    task = api.run("await Bun.sleep(700); globalThis.result = 1;")

    began_at = time.monotonic()
    early = api.get(f"/tasks/{task['id']}", wait_seconds=0.2)
    between_at = time.monotonic()
    late = api.get(f"/tasks/{task['id']}", wait_seconds=30)
    ended_at = time.monotonic()

    assert early["status"] in ("queued", "running")
    assert 0.2 <= between_at - began_at < 0.6
    assert late["status"] == "completed"
    assert ended_at - between_at < 5


def test_a_turn_shows_its_steps(demo: Agent) -> None:
    turn = demo.turn("6 * 7")

    assert [(each["kind"], each["status"]) for each in turn["steps"]] == [
        ("model", "succeeded"),
        ("tool", "succeeded"),
        ("model", "succeeded"),
    ]


def test_an_exec_that_takes_too_long_is_ended_by_its_limit(api: Api) -> None:
    task = api.finished(api.run("await Bun.sleep(600_000);", timeout_seconds=0.5)["id"])

    assert task["status"] == "failed"
    assert task["error"]["limit"]["name"]
    assert task["result"] is None


def test_an_exec_that_prints_without_end_is_bounded(api: Api) -> None:
    code = 'for (;;) { console.log("x".repeat(10_000)); await Bun.sleep(0); }'

    task = api.finished(api.run(code, timeout_seconds=1)["id"])

    updates = api.items(f"/tasks/{task['id']}/updates")
    printed = sum(len(u["payload"].get("text", "")) for u in updates)
    assert task["status"] == "failed"
    assert printed < 3_000_000


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('throw new Error("thrown");', "thrown"),
        ("process.exit(3);", "3"),
        ("const = ;", "const"),
        ('import { a } from "core/nowhere"; globalThis.result = a;', "nowhere"),
    ],
)
def test_code_that_fails_is_a_failed_task_that_says_why(
    api: Api, code: str, said: str
) -> None:
    task = api.finished(api.run(code)["id"])

    assert (task["status"], task["result"]) == ("failed", None)
    assert task["error"]["type"]
    assert said in task["error"]["message"]


def test_an_exec_reads_its_input_and_what_is_sent_later(api: Api) -> None:
    code = (
        "const seen = [];\n"
        "for await (const line of console) {\n"
        "  seen.push(line);\n"
        '  console.log("got " + line);\n'
        "  if (seen.length === 2) break;\n"
        "}\n"
        "globalThis.result = seen;\n"
        "process.exit(0);"
    )
    code = code.replace("process.exit(0);", "")
    task = api.run(code, stdin="first")

    wait_until(lambda: "stdout" in _kinds(api, task["id"]), 20, "it reads a line")
    api.post(f"/tasks/{task['id']}/send", {"input": {"text": "second"}})

    assert api.finished(task["id"])["result"] == ["first", "second"]
    kinds = _kinds(api, task["id"])
    assert kinds.index("stdout") < kinds.index("input") < kinds.index("exit")


def test_a_failed_task_runs_again_with_another_payload(api: Api) -> None:
    failed = api.finished(api.run('throw new Error("thrown");')["id"])

    api.post(
        f"/tasks/{failed['id']}/retry", {"payload": {"code": "globalThis.result = 2;"}}
    )
    task = api.finished(failed["id"])

    assert (task["status"], task["result"], task["error"]) == ("completed", 2, None)


@pytest.mark.parametrize("verb", ["cancel", "kill", "send", "retry"])
def test_a_verb_that_comes_too_late_is_a_conflict(api: Api, verb: str) -> None:
    task = api.finished(api.run("globalThis.result = 1;")["id"])
    body: JSON = {"input": {"text": "late"}} if verb == "send" else {}

    answer = api.send("POST", f"/api/v1/tasks/{task['id']}/{verb}", json=body)

    assert answer.status_code == 409
    assert task["id"] in answer.json()["detail"]
    assert api.task(task["id"]) == task


def test_a_result_may_be_any_json(api: Api) -> None:
    values: list[object] = [None, 0, "", False, [], {}, 1.5, "é🐓", [[1], {"a": None}]]
    codes = [f"globalThis.result = {json.dumps(value)};" for value in values]

    tasks = [api.finished(id) for id in [api.run(code)["id"] for code in codes]]

    assert [task["result"] for task in tasks] == values


def test_the_sandbox_shows_no_file_of_the_home_and_no_network(
    api: Api, demo: Agent
) -> None:
    code = (
        "const tried = {};\n"
        'const { readdirSync } = await import("node:fs");\n'
        f"const home = process.argv[0] && {json.dumps('/root')};\n"
        "try { readdirSync(home); tried.home = true; } catch { tried.home = false; }\n"
        "try {\n"
        f'  await fetch("http://127.0.0.1:{api.port}/health");\n'
        "  tried.net = true;\n"
        "} catch { tried.net = false; }\n"
        "globalThis.result = tried;"
    )
    sandbox = next(
        check["detail"]
        for check in api.send("GET", "/ready").json()["checks"]
        if check["name"] == "sandbox"
    )
    if not sandbox.startswith("bubblewrap"):
        pytest.skip(f"no bubblewrap here: {sandbox}")

    assert api.finished(api.run(code)["id"])["result"] == {"home": False, "net": False}
