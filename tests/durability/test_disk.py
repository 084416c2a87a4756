"""What turns leave on disk grows with their number, and is given back."""

from __future__ import annotations

import threading
from typing import Any, Final

from agents.models.scripted import ScriptedModel
from broker import retention
from broker.leases import Worker
from workers.batcher import Batcher
from workers.keeper import Keeper
from workers.turns import TurnTaker

TURNS: Final = 1_000
AGENTS: Final = 20
GROWTH: Final = 2.1
SCRIPT: Final = [
    {
        "when": {"matches": "^go "},
        "tool_calls": [{"name": "noop", "arguments": {"comment": "nothing to do"}}],
    },
    {"when": {"contains": "idle"}, "text": "There was nothing to do, and it is done."},
]


def _take_turns(house: Any, taker: TurnTaker, count: int) -> int:
    """Send and take so many turns; return the bytes of database and log after them."""
    for number in range(count):
        posted = house.post(f"go {number}", f"agent-{number % AGENTS}")
        taker.take(str(posted.turn_id))
        assert house.status(posted.turn_id) == "completed"
    house.database.truncate_log()
    return _size(house)


def _size(house: Any) -> int:
    return sum(house.database.sizes().values())


def test_two_thousand_turns_take_twice_what_one_thousand_take_and_give_it_back(
    house: Any,
) -> None:
    model = ScriptedModel(SCRIPT)
    worker = Worker(owner="worker-1", lease_seconds=600)
    taker = TurnTaker(
        broker=house.broker,
        worker=worker,
        keeper=Keeper(house.broker, worker, threading.Event()),
        batcher=Batcher(),
        default_model=None,
        find_model=lambda _: model,
    )
    for number in range(AGENTS):
        house.agent(f"agent-{number}")
    empty = _size(house)

    one = _take_turns(house, taker, TURNS) - empty
    two = _take_turns(house, taker, TURNS) - empty
    all_classes = {each.name: 0.0 for each in retention.CLASSES}
    forgotten = {f.name: f.rows for f in retention.forget(house.database, all_classes)}
    kept = _size(house) - empty

    sizes = f"{one / TURNS:.0f} bytes a turn, {two / one:.2f} times, {kept / two:.0%}"
    print(f"{sizes} kept, forgotten: {forgotten}")  # noqa: T201
    assert two <= GROWTH * one
    assert min(forgotten[name] for name in ("events", "steps", "updates")) > 0
    # An agent's history is its memory: that is all that stays.
    assert kept < 0.5 * two
