"""Leaving a turn: who asks, what is cut short, and which reason wins."""

from __future__ import annotations

import threading

import pytest

from agents.control import (
    Abandoned,
    Cancelled,
    HandedOver,
    Interrupt,
    Stop,
    TurnControl,
)


def test_control_flow_is_not_swallowed_by_handlers_of_errors() -> None:
    assert not issubclass(TurnControl, Exception)


def test_an_interrupt_runs_the_actions_of_what_is_under_way_once() -> None:
    interrupt, ran = Interrupt(), []
    with interrupt.cutting(lambda: ran.append("over")):
        pass
    with interrupt.cutting(lambda: ran.append("under way")):
        interrupt.set()
        interrupt.set()
    with interrupt.cutting(lambda: ran.append("late")):
        assert ran == ["under way", "late"]
    assert ran == ["under way", "late"]
    assert interrupt.is_raised


def test_an_interrupt_wakes_whoever_sleeps_on_it() -> None:
    interrupt, woken = Interrupt(), []
    thread = threading.Thread(target=lambda: woken.append(interrupt.wait(30)))
    thread.start()
    interrupt.set()
    thread.join(5)
    assert woken == [True]
    assert not Interrupt().wait(0.001)


def test_a_turn_that_nobody_stops_goes_on() -> None:
    Stop().check()


@pytest.mark.parametrize("why", [Abandoned(), Cancelled("enough")])
def test_a_stop_cuts_short_what_blocks(why: TurnControl) -> None:
    stop = Stop()
    stop.ask(why)
    assert stop.interrupt.is_raised
    with pytest.raises(type(why)):
        stop.check()


def test_a_drain_waits_for_the_boundary_until_it_has_no_more_time() -> None:
    stop = Stop()
    stop.cut_short()
    assert not stop.interrupt.is_raised
    stop.ask(HandedOver())
    assert not stop.interrupt.is_raised
    stop.cut_short()
    assert stop.interrupt.is_raised


def test_the_first_reason_counts_unless_the_lease_is_lost() -> None:
    stop = Stop()
    stop.ask(Cancelled("enough"))
    stop.ask(HandedOver())
    with pytest.raises(Cancelled, match="enough"):
        stop.check()
    stop.ask(Abandoned())
    with pytest.raises(Abandoned):
        stop.check()
