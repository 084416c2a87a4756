"""The table of docs/explanation/guarantees.md, from what the crash explorer saw.

A point is known by what was being written and on which side the worker died, never by
its number, so the table changes only when the product does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.durability.judgement import UNDISTURBED, Outcome, Point

PAGE: Final = Path(__file__).parents[2] / "docs/explanation/guarantees.md"
BEGIN: Final = "<!-- crash explorer: begin -->"
END: Final = "<!-- crash explorer: end -->"
HEAD: Final = (
    "| In the middle | The worker dies | What happens then | model asked |"
    " `look` | `mail` | `book` | jobs run | replies |\n"
    "|---|---|---|---|---|---|---|---|---|"
)

# What is in the middle at a point. A point that has no words here fails the test: a new
# write is a new promise, and somebody has to say which.
IN_THE_MIDDLE: Final[Mapping[str, str]] = {
    "House.post": "writing down the message and its turn",
    "TurnTaker._claim": "claiming the turn",
    "PromptMaker._printed": "queueing PROMPT.ts",
    "TurnTaker._park prompt": "parking the turn until its prompt is there",
    "ExecRunner.run prompt": "claiming the run of PROMPT.ts",
    "ExecRunner._recorder.record prompt": "writing down which process runs PROMPT.ts",
    "OutputLog._write_all prompt": "writing down what PROMPT.ts prints",
    "ExecRunner._end prompt": "writing down how PROMPT.ts ended",
    "PromptMaker._freeze": "writing down the prompt",
    "TurnJournal.start_answer": "writing down that the model is asked",
    "the model": "asking the model",
    "_flush_together": "streaming a piece of its answer",
    "TurnJournal.finish_answer": "writing down the answer and its planned calls",
    "TurnJournal.standing": "looking how far the calls have come",
    "TurnJournal.start_call look": "writing down that `look` begins",
    "look": "`look`, which is pure",
    "TurnJournal.record_call look": "writing down the result of `look`",
    "TurnJournal.start_call mail": "writing down that `mail` begins",
    "mail": "`mail`, which may happen at most once",
    "TurnJournal.record_call mail": "writing down the result of `mail`",
    "TurnJournal.append_results": "appending the results of calls made together",
    "TurnJournal.start_call book": "writing down that `book` begins",
    "book": "`book`, which is idempotent by its key",
    "TurnJournal.finish_call book": "writing down the result of `book`",
    "TurnJournal.start_call exec": "writing down that `exec` begins",
    "TurnRuntime.start_exec": "queueing the exec",
    "TurnRuntime.wait_for": "looking whether the exec is over",
    "TurnTaker._park": "parking the turn",
    "ExecRunner.run": "claiming the exec",
    "ExecRunner._recorder.record": "writing down which process runs the job",
    "OutputLog._write_all": "writing down what the job prints",
    "ExecRunner._end": "writing down how the exec ended, which wakes the turn",
    "TurnJournal.finish_call exec": "writing down the result of `exec`",
    "TurnJournal.record_call exec": "writing down that the exec is in the background",
    "TurnJournal.start_call await_task": "writing down that `await_task` begins",
    "TurnJournal.record_call await_task": "writing down the result of `await_task`",
    "TurnTaker._complete": "writing down the reply, and the inputs as read",
}
# What the counts cannot say.
ALSO: Final[Mapping[tuple[str, str], str]] = {
    ("House.post", "before COMMIT"): (
        "nothing was accepted, and nobody was told so: the sender sends again, under"
        " the same key"
    ),
    ("House.post", "after COMMIT"): "the sender may send again: the key makes it one",
    ("TurnTaker._claim", "before COMMIT"): (
        "the hint is lost with the worker: the scheduler offers the turn again"
    ),
    ("ExecRunner.run", "before COMMIT"): (
        "the hint is lost with the worker: the scheduler offers the exec again"
    ),
    ("ExecRunner.run prompt", "before COMMIT"): (
        "the hint is lost with the worker: the scheduler offers it again"
    ),
    ("TurnTaker._complete", "after COMMIT"): "nothing: it was over",
}


def rows(points: Iterable[Point], outcomes: Iterable[Outcome]) -> dict[Point, str]:
    """Return a row of the table for each named point, in order of first appearance."""
    found: dict[Point, dict[Outcome, None]] = {}
    for point, outcome in zip(points, outcomes, strict=True):
        found.setdefault(point, {})[outcome] = None
    return {point: _row(point, list(seen)) for point, seen in found.items()}


def _row(point: Point, outcomes: list[Outcome]) -> str:
    assert point.what in IN_THE_MIDDLE, (
        f"{point.what} writes, and nobody has said what its death means: "
        "name it in tests/durability/guarantees.py, then run scripts/guarantees.py."
    )
    shown = {_cells(outcome) for outcome in outcomes}
    then = "; or ".join(dict.fromkeys(_then(point, outcome) for outcome in outcomes))
    cells = " | ".join(" or ".join(sorted(set(c))) for c in zip(*shown, strict=True))
    return f"| {IN_THE_MIDDLE[point.what]} | {point.where} | {then} | {cells} |"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    twice = "once, and once again" if outcome.asks > UNDISTURBED.asks else "once"
    mail = f"{outcome.mails}, reported unknown" if outcome.is_mail_uncertain else "1"
    book = f"1 of {outcome.book_requests}" if outcome.book_requests > 1 else "1"
    once = UNDISTURBED.job_starts
    jobs = f"{outcome.job_starts} of {once}" if outcome.job_starts > once else f"{once}"
    return twice, str(outcome.looks), mail, book, jobs, str(outcome.turns)


def _then(point: Point, outcome: Outcome) -> str:
    said = [ALSO[point.what, point.where]] if (point.what, point.where) in ALSO else []
    if point.where.endswith("before the hint"):
        said.append("the hint is never sent: the scheduler offers the task again")
    if outcome.asks > UNDISTURBED.asks:
        said.append("nobody wrote the answer down: the model is asked again")
    if outcome.looks > UNDISTURBED.looks:
        said.append("it looks again, which does no harm")
    if outcome.is_mail_uncertain:
        said.append("it is not repeated: the model reads that the outcome is unknown")
    if outcome.book_requests > UNDISTURBED.book_requests:
        said.append("it is sent again under the same key, which the other side knows")
    if outcome.job_starts > UNDISTURBED.job_starts:
        said.append("the job dies with its worker, or is swept; it runs again")
    return "; ".join(said) or "another worker goes on from here"


def table_of(found: Mapping[Point, str]) -> str:
    """Return the whole table."""
    return "\n".join([HEAD, *found.values()])


def committed_table() -> str:
    """Return the table that the page holds."""
    between = re.search(f"{BEGIN}\n(.*?)\n{END}", PAGE.read_text(), re.DOTALL)
    assert between, f"{PAGE} has lost its markers"
    return between[1]


def write_table(table: str) -> None:
    """Put the table into the page."""
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")
