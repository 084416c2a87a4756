"""Artifacts and numbered results, on both stores."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker import artifacts, results, retention, tasks
from broker.artifacts import NewArtifact, Page
from broker.errors import Conflict, NotFound
from broker.results import LOOK_BACK_TASKS, RESULTS_LIMIT, NumberedResult
from broker.retention import DAY_US
from broker.times import now_us


def keep(store: Any, handle: str = "turn-7/3", **more: Any) -> str:
    new = {
        "handle": handle,
        "agent_id": "scout",
        "name": "exec.json",
        "media_type": "application/json",
        "content": b'"x"',
        **more,
    }
    with store.write() as tx:
        return artifacts.store(tx, NewArtifact(**new))


def run_exec(store: Any, result: Any, agent_id: str = "scout", **more: Any) -> str:
    """Queue, claim and complete an exec."""
    id = store.create("exec", agent_id=agent_id, **more)["id"]
    store.claim(id)
    with store.write() as tx:
        tasks.end(tx, id, "completed", result=result)
    return str(id)


def latest(store: Any, agent_id: str = "scout", **more: Any) -> list[tuple[int, Any]]:
    found = results.latest(store.database, agent_id, **more)
    return [(each.number, each.json and json.loads(each.json)) for each in found]


def test_an_artifact_comes_back_byte_for_byte(store) -> None:
    content = bytes(range(256)) * 9 + "\0é".encode()
    handle = keep(store, content=content, media_type="image/png", name="bild.png")
    found = artifacts.get(store.database, handle)
    assert artifacts.read_bytes(store.database, handle) == content
    assert (found["name"], found["media_type"]) == ("bild.png", "image/png")
    assert found["size_bytes"] == len(content)
    assert not artifacts.is_text(found)


def test_a_text_is_read_in_pieces_of_characters(store) -> None:
    handle = keep(store, content="añb\0cé".encode())
    pages = [artifacts.read(store.database, handle, at, 4) for at in (0, 4, 9)]
    assert pages == [
        Page(text="añb\0", offset=0, total_characters=6, next_offset=4),
        Page(text="cé", offset=4, total_characters=6, next_offset=None),
        Page(text="", offset=9, total_characters=6, next_offset=None),
    ]
    assert artifacts.read(store.database, handle, 1, None).text == "ñb\0cé"


def test_an_unknown_handle_is_refused_by_name(store) -> None:
    for read in (artifacts.get, artifacts.read_bytes):
        with pytest.raises(NotFound, match="There is no artifact 'turn-1/1'"):
            read(store.database, "turn-1/1")


def test_a_step_that_runs_again_keeps_one_artifact(store) -> None:
    for content in (b"first", b"second"):
        keep(store, content=content)
    rows = store.database.read("SELECT content FROM artifacts")
    assert [bytes(row["content"]) for row in rows] == [b"second"]
    with pytest.raises(Conflict, match="another agent's"):
        keep(store, agent_id="ranger")


def test_an_agent_reads_what_is_its_own_and_nobody_elses(store) -> None:
    for id in ("scout", "ranger"):
        store.agent(id)
    handle = keep(store)
    assert artifacts.get_for(store.database, "scout", handle)["handle"] == handle
    with pytest.raises(NotFound):
        artifacts.get_for(store.database, "ranger", handle)


def test_a_fork_reads_what_lay_in_the_history_that_it_inherits(store) -> None:
    store.agent()
    keep(store, "turn-1/2")
    store.complete(store.take_turn())
    for fork, base in (("child", "scout"), ("grandchild", "child")):
        store.agent(fork)
        with store.write() as tx:
            tx.execute(
                "UPDATE agents SET fork_agent_id = ?, fork_entry_id ="
                " (SELECT MAX(id) FROM entries WHERE agent_id = 'scout') WHERE id = ?",
                base,
                fork,
            )
    keep(store, "turn-9/2")
    for fork in ("child", "grandchild"):
        assert artifacts.get_for(store.database, fork, "turn-1/2")
        with pytest.raises(NotFound):
            artifacts.get_for(store.database, fork, "turn-9/2")


def test_old_artifacts_are_forgotten(store) -> None:
    for number in (1, 2, 3):
        keep(store, f"turn-1/{number}")
    with store.write() as tx:
        old = now_us() - 91 * DAY_US
        tx.execute("UPDATE artifacts SET created_at = ? WHERE id < 3", old)
        tx.execute(
            "UPDATE artifacts SET created_at = ? WHERE handle <> 'turn-1/3'", old
        )
    forgotten = {each.name: each.rows for each in retention.forget(store.database, {})}
    assert forgotten["artifacts"] == 2
    rows = store.database.read("SELECT handle FROM artifacts")
    assert rows == [{"handle": "turn-1/3"}]


# Numbered results (G82, G96).


def test_results_are_numbered_for_each_agent_as_they_come(store) -> None:
    for value in ("one", None, {"three": "é\n\0"}):
        run_exec(store, value)
    run_exec(store, "other", agent_id="ranger")
    run_exec(store, "nobody's", agent_id=None)
    assert latest(store) == [(1, "one"), (2, {"three": "é\n\0"})]
    assert latest(store, "ranger") == [(1, "other")]


def test_a_result_is_one_line_of_json(store) -> None:
    run_exec(store, {"text": "a\nb \u2028 c"})
    (only,) = results.latest(store.database, "scout")
    assert only == NumberedResult(number=1, json='{"text":"a\\nb \\u2028 c"}')


def test_the_number_lies_in_the_tasks_metadata(store) -> None:
    id = run_exec(store, 4, metadata={"tool_call_id": "call-1", "variable": 99})
    row = store.task(id)
    assert json.loads(row["metadata"]) == {"tool_call_id": "call-1", "variable": 1}
    assert results.variable_of(row) == "$result1"
    nothing = store.task(run_exec(store, None, metadata={"variable": 99}))
    assert results.variable_of(nothing) is None


def test_an_end_that_is_told_twice_gives_one_number(store) -> None:
    id = store.create("exec", agent_id="scout")["id"]
    epoch = store.claim(id)["epoch"]
    for _ in range(2):
        with store.write() as tx:
            tasks.complete(tx, id, epoch, "done")
    run_exec(store, "next")
    assert latest(store) == [(1, "done"), (2, "next")]


def test_what_failed_has_no_number(store) -> None:
    id = store.create("exec", agent_id="scout")["id"]
    store.claim(id)
    with store.write() as tx:
        tasks.end(tx, id, "failed", error={"type": "x", "message": "y"})
    assert latest(store) == []


def test_a_result_counts_from_its_end_and_not_from_its_beginning(store) -> None:
    slow = store.create("exec", agent_id="scout")["id"]
    store.claim(slow)
    run_exec(store, "quick")
    with store.write() as tx:
        tasks.end(tx, slow, "completed", result="slow")
    assert latest(store) == [(1, "quick"), (2, "slow")]


def test_the_oldest_give_way_when_there_is_no_room(store) -> None:
    for letter in "abcd":
        run_exec(store, letter * 98)
    found = latest(store, max_bytes=250)
    assert found == [(1, None), (2, None), (3, "c" * 98), (4, "d" * 98)]


def test_only_the_newest_are_given(store) -> None:
    for number in range(RESULTS_LIMIT + 3):
        run_exec(store, number)
    found = latest(store)
    assert [number for number, _ in found] == list(range(4, RESULTS_LIMIT + 4))
    assert found[-1] == (RESULTS_LIMIT + 3, RESULTS_LIMIT + 2)


def test_finding_them_costs_the_same_however_old_the_agent_is(house) -> None:
    plan = house.database.read(
        f"EXPLAIN QUERY PLAN {results._NEWEST}", "scout", LOOK_BACK_TASKS, 200
    )
    told = " | ".join(row["detail"] for row in plan)
    assert "USING INDEX tasks_agent (agent_id=?)" in told
    assert "SCAN tasks" not in told
    assert "TEMP B-TREE" not in told
