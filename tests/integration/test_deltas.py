"""The deltas of many turns, written together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.models import Delta
from broker import recovery
from workers.batcher import Flush
from workers.journal import DeltaBuffer


class Held:
    """A batcher that flushes when it is told to."""

    def __init__(self) -> None:
        self.due: dict[Any, Flush] = {}

    def schedule(self, buffer: Any, flush: Flush, _last: float) -> None:
        self.due[buffer] = flush

    def forget(self, buffer: Any) -> None:
        self.due.pop(buffer, None)

    def flush(self, buffers: Sequence[DeltaBuffer]) -> None:
        flushes = {self.due.pop(each) for each in buffers}
        (flush,) = flushes
        flush(buffers)


def text(piece: str) -> Delta:
    return Delta(kind="text", text=piece)


def pieces(house, agent_id: str) -> list[str]:
    found = house.events(scope=f"agent/{agent_id}")
    return [e["payload"]["text"] for e in found if e["kind"] == "message_update"]


def buffers_of(house, batcher: Held, *agents: str) -> list[DeltaBuffer]:
    """A buffer for a turn of each agent; each turn is another worker's."""
    made = []
    for agent in agents:
        house.agent(agent)
        posted = house.post(to=agent)
        turn = house.claim_turn(posted.turn_id, by=f"worker-{agent}")
        made.append(DeltaBuffer(house.broker, turn, batcher))  # type: ignore[arg-type]
    return made


def test_many_turns_are_written_in_one_transaction_each_in_its_order(house) -> None:
    batcher = Held()
    both = buffers_of(house, batcher, "scout", "ranger")
    for number, piece in enumerate(["a", "b", "c", "d"]):
        both[number % 2].add(1, text(piece))
    before = house.database.gate_waits.count
    batcher.flush(both)
    assert house.database.gate_waits.count - before == 1
    assert (pieces(house, "scout"), pieces(house, "ranger")) == (["ac"], ["bd"])


def test_a_turn_that_lost_its_lease_writes_nothing_and_stops_no_other(house) -> None:
    batcher = Held()
    both = buffers_of(house, batcher, "scout", "ranger")
    for each in both:
        each.add(1, text("late"))
    with house.write() as tx:
        recovery.expire(tx, owner="worker-scout")
    batcher.flush(both)
    assert (pieces(house, "scout"), pieces(house, "ranger")) == ([], ["late"])


def test_what_was_taken_is_not_written_again(house) -> None:
    batcher = Held()
    one, other = buffers_of(house, batcher, "scout", "ranger")
    one.add(1, text("a"))
    other.add(1, text("b"))
    taken = one.take()
    batcher.schedule(one, batcher.due[other], 0.0)  # it was due just then
    batcher.flush([one, other])
    assert [each["text"] for each in taken] == ["a"]
    assert (pieces(house, "scout"), pieces(house, "ranger")) == ([], ["b"])
