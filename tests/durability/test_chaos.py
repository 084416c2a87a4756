"""Whatever is killed, and whenever: every message is answered exactly once."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from agents.messages import SKIPPED
from broker import open_broker
from broker.database import Database, Row
from broker.settings import load
from tests.durability.chaos import NOTED, SIZES, Size, errands

ROOT: Final = Path(__file__).parents[2]
SIZE: Final = (
    "full" if os.environ.get("CI") or os.environ.get("ROOST_TEST_ALL") else "small"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What was done, and what the database says of it."""

    done: dict[str, Any]
    size: Size
    database: Database

    def rows(self, sql: str, *params: object) -> list[Row]:
        return self.database.read(sql, *params)

    def turns(self) -> dict[str, Row]:
        found = self.rows("SELECT * FROM tasks WHERE type = 'turn'")
        return {row["id"]: row for row in found}

    def read_by_turn(self) -> dict[str, list[str]]:
        """The texts that each turn has read, in order: messages, and news of tasks."""
        read: dict[str, list[str]] = defaultdict(list)
        for row in self.rows(
            "SELECT turn_id, content FROM entries"
            " WHERE type IN ('user_message', 'wake') ORDER BY id"
        ):
            texts = [block["text"] for block in json.loads(row["content"])]
            read[row["turn_id"]] += texts
        return read


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """One run of chaos; its seed is printed, and ROOST_CHAOS_SEED runs it again."""
    seed = os.environ.get("ROOST_CHAOS_SEED") or str(
        random.SystemRandom().getrandbits(32)
    )
    home = tmp_path_factory.mktemp("chaos") / "home"
    command = [sys.executable, "-m", "tests.durability.chaos"]
    print(f"ROOST_CHAOS_SEED={seed} (size {SIZE}, {home})")  # noqa: T201
    ended = subprocess.run(
        [*command, str(home), str(_free_port()), seed, SIZE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_most_seconds(SIZES[SIZE]),
    )
    done = json.loads(ended.stdout)
    print({name: done[name] for name in done if name != "posted"})  # noqa: T201
    broker = open_broker(load({"ROOST_HOME": str(home)}, home), migrated=False)
    yield Aftermath(done=done, size=SIZES[SIZE], database=broker.database)
    broker.close()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _most_seconds(size: Size) -> float:
    return 90 + size.kill_seconds + 2 * size.quiet_seconds


def test_every_kind_of_process_was_killed(aftermath: Aftermath) -> None:
    assert set(aftermath.done["killed"]) == {
        "web",
        "web worker",
        "agents",
        "exec",
        "scheduler",
    }


def test_every_message_is_answered_exactly_once(aftermath: Aftermath) -> None:
    """By its own turn, or the one that took it in; that answers what it read last."""
    assert aftermath.done["is_quiet"]
    sent = {errand.text: errand for errand in errands(aftermath.size)}
    posted = aftermath.done["posted"]
    turns = aftermath.turns()
    read = aftermath.read_by_turn()

    assert {turn["status"] for turn in turns.values()} == {"completed"}
    assert len({posted[errand.key]["turn_id"] for errand in sent.values()}) == len(sent)
    for errand in sent.values():
        turn = turns[posted[errand.key]["turn_id"]]
        answering = turns[turn["absorbed_by"] or turn["id"]]
        assert errand.text in read[answering["id"]]
        last = sent.get(read[answering["id"]][-1])
        said = json.loads(turn["result"])["text"]
        assert said == (last.answer if last else NOTED), (errand, answering["id"])
        assert said == json.loads(answering["result"])["text"]


def test_every_message_is_read_exactly_once(aftermath: Aftermath) -> None:
    read = Counter(
        text for texts in aftermath.read_by_turn().values() for text in texts
    )
    sent = aftermath.rows(
        "SELECT body FROM events JOIN marks ON marks.event_id = events.id"
        " WHERE events.scope = 'agent/' || marks.reader"
    )

    assert read == Counter(row["body"] for row in sent)
    assert set(read.values()) == {1}


def test_every_turn_ends_once_in_the_stream(aftermath: Aftermath) -> None:
    counted = {
        kind: Counter(
            row["subject"]
            for row in aftermath.rows("SELECT subject FROM events WHERE kind = ?", kind)
        )
        for kind in ("turn_start", "turn_end", "agent_end")
    }
    turns = aftermath.rows("SELECT id FROM tasks WHERE type = 'turn'")
    once = Counter(row["id"] for row in turns)

    assert counted == {"turn_start": once, "turn_end": once, "agent_end": once}


def test_no_message_is_doubled(aftermath: Aftermath) -> None:
    bodies = Counter(
        row["body"]
        for row in aftermath.rows("SELECT body FROM events WHERE kind = 'message'")
    )
    sent = errands(aftermath.size)
    asked = {f"say {e.key}." for e in sent if e.kind == "ask"}

    assert set(bodies.values()) == {1}
    assert bodies.keys() - asked == {e.text for e in sent}
    made = aftermath.rows(
        "SELECT 1 AS x FROM steps WHERE name = 'delegate' AND status = 'succeeded'"
    )
    assert len(bodies) == len(sent) + len(made)


def test_no_task_is_claimed_twice_at_once(aftermath: Aftermath) -> None:
    """Each claim has the next epoch, and comes after the one before was given up."""
    logs: dict[str, list[Row]] = defaultdict(list)
    for row in aftermath.rows("SELECT * FROM updates ORDER BY id"):
        logs[row["task_id"]].append(row)
    for task in aftermath.rows("SELECT * FROM tasks"):
        claims = [u for u in logs[task["id"]] if u["kind"] == "started"]
        epochs = [json.loads(claim["payload"])["epoch"] for claim in claims]
        assert epochs == list(range(1, task["epoch"] + 1)), task["id"]
        if task["type"] == "turn":
            continue  # it gives its claim up by parking, too, which is no update
        kinds = [u["kind"] for u in logs[task["id"]]]
        given_up = sum(
            kind in ("worker_lost", "handed_over", "process_killed") for kind in kinds
        )
        assert given_up == len(claims) - 1, (task["id"], kinds)


def test_no_two_workers_wrote_one_turn_in_turns(aftermath: Aftermath) -> None:
    """The steps of a turn follow one another in its stream, and none comes back."""
    streams: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends: Counter[tuple[str, int]] = Counter()
    for row in aftermath.rows(
        "SELECT subject, kind, payload FROM events WHERE kind IN ('message_start',"
        " 'message_update', 'message_end', 'tool_execution_start',"
        " 'tool_execution_end') ORDER BY id"
    ):
        payload = json.loads(row["payload"])
        streams[row["subject"]].append((payload["step"], row["kind"]))
        if row["kind"].endswith("_end"):
            ends[row["subject"], payload["step"]] += 1
    for turn_id, written in streams.items():
        numbers = [number for number, _ in written]
        assert numbers == sorted(numbers), (turn_id, written)
    assert set(ends.values()) == {1}
    steps = aftermath.rows("SELECT task_id, number, status, result FROM steps")
    failed = [json.loads(s["result"]) for s in steps if s["status"] != "succeeded"]
    assert [each for each in failed if each["text"] != SKIPPED] == []
    # One that another has taken in shows that one's reply, and has made no step.
    replies = {(id, 1) for id, turn in aftermath.turns().items() if turn["absorbed_by"]}
    made = {(step["task_id"], step["number"]) for step in steps}
    assert made.isdisjoint(replies)
    assert set(ends) == made | replies


def test_every_history_is_whole(aftermath: Aftermath) -> None:
    """One chain of entries for each agent; each call has one result, behind it."""
    last: dict[str, int] = {}
    open_calls: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in aftermath.rows("SELECT * FROM entries ORDER BY id"):
        assert row["parent_id"] == last.get(row["agent_id"])
        last[row["agent_id"]] = row["id"]
        calls, call = open_calls[row["agent_id"]], (row["turn_id"], row["tool_call_id"])
        if row["type"] == "tool_call":
            calls.append(call)
        elif row["type"] == "tool_result":
            assert calls.pop(0) == call
        elif row["type"] in ("user_message", "assistant_message"):
            assert calls == []
    assert not any(open_calls.values())


def test_nothing_is_left_behind(aftermath: Aftermath) -> None:
    assert aftermath.done["left"] == []
    assert None not in aftermath.done["stopped"].values()
    held = "lease_owner IS NOT NULL OR process IS NOT NULL OR finished_at IS NULL"
    assert aftermath.rows(f"SELECT id FROM tasks WHERE {held}") == []
    assert aftermath.rows("SELECT * FROM marks WHERE read_at IS NULL") == []
    assert aftermath.rows("SELECT * FROM waits") == []
    assert aftermath.rows("SELECT id, state FROM agents WHERE state <> 'idle'") == []


def test_the_database_is_sound(aftermath: Aftermath) -> None:
    assert aftermath.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
