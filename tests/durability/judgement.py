"""What has to be true after a death and a recovery, wherever the death was.

`judge` checks everything that must hold in any case and returns what may differ;
`expected_after` says what must have come of it, from the points that were reached.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.durability.one_turn import PROMPT, REPLY, SCRIPT

SKY: Final = "the sky is blue"

Report = dict[str, Any]
Requests = Callable[[str], list[str]]  # the keys of all requests for an effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where the worker may die: what it does there, and on which side."""

    what: str
    where: str

    @classmethod
    def parse(cls, line: str) -> Point:
        what, _, where = line.partition("|")
        return cls(what=what, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a death at one point came to."""

    asks: int
    looks: int
    mails: int
    is_mail_uncertain: bool
    book_requests: int
    bookings: int
    job_starts: int
    turns: int


# How often each effect has begun, and has been written down.

UNDISTURBED: Final = Outcome(
    asks=len(SCRIPT),
    looks=1,
    mails=1,
    is_mail_uncertain=False,
    book_requests=1,
    bookings=1,
    job_starts=3,
    turns=1,
)


def expected_after(reached: list[Point]) -> Outcome:
    """Say what has to have happened in the end, from what the dead worker had done.

    What was written down is not done again; what was begun and not written down is done
    again, unless it must not be: that is uncertain instead.
    """
    done = Counter((point.what, point.where) for point in reached)

    def committed(what: str) -> int:
        return max(
            done[what, "after COMMIT"], done[what, "after COMMIT, before the hint"]
        )

    def lost(begun: int, written_down: str) -> int:
        return begun - committed(written_down)

    asking = Point(what="the model", where="before it is asked")
    asked = done[asking.what, asking.where] - (reached[-1] == asking)
    mailed = done["mail", "after its request"]
    mail_began = committed("TurnJournal.start_call mail")
    mail_ended = committed("TurnJournal.record_call mail")
    is_uncertain = mail_began > mail_ended
    record = "ExecRunner._recorder.record"
    return Outcome(
        asks=len(SCRIPT) + lost(asked, "TurnJournal.finish_answer"),
        looks=1 + lost(done["look", "after it looked"], "TurnJournal.record_call look"),
        mails=mailed if is_uncertain else 1,
        is_mail_uncertain=is_uncertain,
        book_requests=1
        + lost(done["book", "after its request"], "TurnJournal.finish_call book"),
        bookings=1,
        job_starts=3
        + lost(done[record, "before COMMIT"], "ExecRunner._end")
        + lost(done[f"{record} prompt", "before COMMIT"], "ExecRunner._end prompt"),
        turns=1,
    )


def judge(report: Report, requests: Requests) -> Outcome:
    """Check all that must hold whatever happened; return what may differ."""
    assert report["integrity"] == ["ok"]
    turn = _the_one([t for t in report["tasks"] if t["id"] == "turn-1"])
    news = _check_news(report, turn)
    _check_nothing_is_left(report, news)
    _check_reply(report, turn)
    _check_journal(report, turn)
    mail = _check_history(report, turn, news)
    bookings = requests("book")
    assert set(bookings) == {f"{turn['id']}/5"}
    return Outcome(
        asks=len(requests("ask")),
        looks=len(requests("look")),
        mails=len(requests("mail")),
        is_mail_uncertain=mail == "uncertain",
        book_requests=len(bookings),
        bookings=len(set(bookings)),
        job_starts=len(requests("job")),
        turns=1,
    )


def _the_one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


def _check_news(report: Report, turn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the turn that `probe` was given, if it was over before it was awaited:
    its end is news then, which the turn takes in before it asks the model again."""
    news = [t for t in report["tasks"] if t["type"] == "turn" and t["id"] != turn["id"]]
    for each in news:
        cause = _the_one([e for e in report["events"] if e["id"] == each["cause_id"]])
        assert (cause["kind"], cause["subject"]) == ("task_update", "probe")
        assert each["absorbed_by"] == turn["id"]
        assert json.loads(each["result"])["text"] == REPLY
    assert len(news) <= 1
    return news


def _check_nothing_is_left(report: Report, news: list[dict[str, Any]]) -> None:
    """No lease, no wait, no reservation, no unread input, no process, no leader."""
    assert {t["status"] for t in report["tasks"]} == {"completed"}
    assert [t for t in report["tasks"] if t["lease_owner"] or t["process"]] == []
    assert {t["id"] for t in report["tasks"]} == {
        "turn-1",
        "prompt-1",
        "exec-1",
        "probe",
        *(each["id"] for each in news),
    }
    assert report["waits"] == []
    assert report["reservations"] == []
    for meter in report["meters"]:
        assert {meter[n] for n in meter if n.startswith("reserved_")} == {0}
    assert report["processes"] == []
    assert report["leaders"] == []
    assert [mark for mark in report["marks"] if mark["read_at"] is None] == []
    agent = _the_one(report["agents"])
    assert (agent["state"], agent["turn_id"]) == ("idle", None)


def _check_reply(report: Report, turn: dict[str, Any]) -> None:
    """One input, one end of the turn, one reply with the right text."""
    assert json.loads(turn["result"]) == {"text": REPLY}
    told = [event for event in report["events"] if event["subject"] == turn["id"]]
    of_kind = Counter(event["kind"] for event in told)
    assert of_kind["turn_start"] == of_kind["turn_end"] == 1
    assert [e["kind"] for e in report["events"]].count("message") == 1
    end = _the_one([event for event in told if event["kind"] == "agent_end"])
    assert json.loads(end["payload"])["text"] == REPLY
    ids = [event["id"] for event in report["events"]]
    assert ids == sorted(set(ids))
    epochs = [
        json.loads(update["payload"])["epoch"]
        for update in report["updates"]
        if update["kind"] == "started" and update["task_id"] == turn["id"]
    ]
    assert epochs == list(range(1, turn["epoch"] + 1))


def _check_journal(report: Report, turn: dict[str, Any]) -> None:
    """Each step once, in order, and over."""
    names = [name for response in SCRIPT for name in ("", *_called(response))]
    steps = sorted(report["steps"], key=lambda step: int(step["number"]))
    assert [step["number"] for step in steps] == list(range(1, len(names) + 1))
    assert [step["kind"] == "model" for step in steps] == [not name for name in names]
    assert [step["name"] for step in steps if step["kind"] == "tool"] == [
        name for name in names if name
    ]
    meter = _the_one([m for m in report["meters"] if m["key"] == f"turn/{turn['id']}"])
    assert meter["spent_rounds"] == names.count("")  # each answer counted once
    for step in steps:
        allowed = {"succeeded"} | ({"uncertain"} if step["name"] == "mail" else set())
        assert step["status"] in allowed, step
        assert step["task_id"] == turn["id"]
        assert step["finished_at"] is not None


def _called(response: dict[str, Any]) -> list[str]:
    return [call["name"] for call in response.get("tool_calls", ())]


def _check_history(
    report: Report, turn: dict[str, Any], news: list[dict[str, Any]]
) -> str:
    """Each call has one result, behind its answer and in its order; say mail's status.

    The expected history is built from the script, so nothing can be missing, doubled or
    out of order.
    """
    parents = [None, *(entry["id"] for entry in report["entries"])]
    assert [entry["parent_id"] for entry in report["entries"]] == parents[:-1]
    entries = [entry for entry in report["entries"] if entry["turn_id"] == turn["id"]]
    _check_prompt([entry for entry in report["entries"] if not entry["turn_id"]])
    expected = [("user_message", None)]
    for response in SCRIPT:
        names = _called(response)
        expected.append(("assistant_message", None))
        expected += [("tool_call", name) for name in names]
        expected += [("tool_result", name) for name in names]
    found = [(entry["type"], entry["tool_name"]) for entry in entries]
    assert [each for each in found if each[0] != "wake"] == expected
    assert [each for each in found if each[0] == "wake"] == [("wake", None)] * len(news)
    calls = [e["tool_call_id"] for e in entries if e["type"] == "tool_call"]
    results = [e for e in entries if e["type"] == "tool_result"]
    assert [each["tool_call_id"] for each in results] == calls
    assert len(set(calls)) == len(calls)
    return _check_results(results)


def _check_prompt(entries: list[dict[str, Any]]) -> None:
    """The generation has one prompt, and it is what PROMPT.ts prints, once."""
    assert [entry["type"] for entry in entries] == ["tools_config", "system_prompt"]
    assert _text(entries[1]) == PROMPT


def _check_results(results: list[dict[str, Any]]) -> str:
    look, mail, book, exec_, background, awaited = results
    assert (look["status"], _text(look)) == ("succeeded", SKY)
    assert (book["status"], _text(book)) == ("succeeded", "booked 7, 1 time")
    assert json.loads(_text(exec_))["result"] == 42
    assert json.loads(_text(background))["task_id"] == "probe"
    assert json.loads(_text(awaited))["result"] == "deep"
    assert exec_["status"] == background["status"] == awaited["status"] == "succeeded"
    if mail["status"] == "uncertain":
        assert "outcome is unknown" in _text(mail)
    else:
        assert (mail["status"], _text(mail)) == ("succeeded", "mailed to ada")
    return str(mail["status"])


def _text(entry: dict[str, Any]) -> str:
    return str(json.loads(entry["content"])[0]["text"])
