"""Receipts: one answer to one key."""

from __future__ import annotations

import pytest

from broker import processes, receipts
from broker.receipts import Answer, KeyReused, StillRunning

ANSWER = Answer(status=201, body="{}", location="/x")


def test_the_first_answer_is_given_again(house) -> None:
    with house.write() as tx:
        assert receipts.begin(tx, "k", "hash") is None
        receipts.finish(tx, "k", ANSWER)
        assert receipts.begin(tx, "k", "hash") == ANSWER
        with pytest.raises(KeyReused):
            receipts.begin(tx, "k", "other")


def test_a_request_that_runs_says_so_and_a_forgotten_one_is_new(house) -> None:
    with house.write() as tx:
        receipts.begin(tx, "k", "hash")
        with pytest.raises(StillRunning):
            receipts.begin(tx, "k", "hash")
        receipts.forget(tx, "k")
        assert receipts.begin(tx, "k", "hash") is None


@pytest.mark.parametrize(
    "changed", ["owner = 'web@{here}:1:1'", "owner = 'web@far:1:1', created_at = 0"]
)
def test_a_request_whose_process_died_is_taken_over(house, changed) -> None:
    with house.write() as tx:
        receipts.begin(tx, "k", "hash")
        change = changed.format(here=processes.this_host())
        tx.execute(f"UPDATE receipts SET {change}")
        with pytest.raises(KeyReused):
            receipts.begin(tx, "k", "other")
        assert receipts.begin(tx, "k", "hash") is None
        with pytest.raises(StillRunning):
            receipts.begin(tx, "k", "hash")


def test_a_request_on_another_machine_is_waited_for(house) -> None:
    with house.write() as tx:
        receipts.begin(tx, "k", "hash")
        tx.execute("UPDATE receipts SET owner = 'web@far:1:1'")
        with pytest.raises(StillRunning):
            receipts.begin(tx, "k", "hash")
