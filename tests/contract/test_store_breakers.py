"""Circuit breakers, on each store."""

from __future__ import annotations

import threading
from typing import Any

from broker import breakers
from broker.breakers import FAILURES_LIMIT, REST_LIMIT_SECONDS, REST_SECONDS
from broker.times import SECOND_US


def fail(store: Any, times: int = 1, provider: str = "acme") -> None:
    for number in range(times):
        with store.write() as tx:
            breakers.failed(tx, provider, f"It is down ({number}).")


def may_try(store: Any, provider: str = "acme") -> float:
    with store.write() as tx:
        return breakers.may_try(tx, provider)


def let_pass(store: Any, seconds: float) -> None:
    """Move all that is remembered into the past."""
    with store.write() as tx:
        tx.execute(
            "UPDATE breakers SET opens_at = opens_at - ?, probed_at = probed_at - ?",
            int(seconds * SECOND_US),
            int(seconds * SECOND_US),
        )


def test_a_provider_is_left_alone_after_failures_in_a_row(store) -> None:
    fail(store, FAILURES_LIMIT - 1)
    assert may_try(store) == 0.0
    fail(store)
    assert 0 < may_try(store) <= REST_SECONDS
    assert may_try(store, "another") == 0.0
    (row,) = breakers.list_open(store.database)
    assert (row["provider"], row["state"], row["failures"]) == ("acme", "open", 5)
    assert row["error"] == "It is down (0)."


def test_a_success_between_failures_begins_the_count_anew(store) -> None:
    fail(store, FAILURES_LIMIT - 1)
    with store.write() as tx:
        breakers.went_well(tx, "acme")
    fail(store, FAILURES_LIMIT - 1)
    assert may_try(store) == 0.0


def test_one_call_alone_tries_a_provider_that_has_rested(store) -> None:
    fail(store, FAILURES_LIMIT)
    let_pass(store, REST_SECONDS + 1)
    assert breakers.list_open(store.database)[0]["state"] == "half_open"
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda: found.append(may_try(store))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0.0, *[1.0] * 7]
    with store.write() as tx:
        breakers.went_well(tx, "acme")
    assert breakers.list_open(store.database) == []


def test_a_try_that_fails_doubles_the_rest_up_to_a_limit(store) -> None:
    fail(store, FAILURES_LIMIT)
    rests = []
    for _ in range(8):
        let_pass(store, REST_LIMIT_SECONDS + 1)
        assert may_try(store) == 0.0
        fail(store)
        rests.append(round(may_try(store)))
    assert rests == [30, 60, 120, 240, 300, 300, 300, 300]


def test_a_try_whose_process_died_is_made_by_another(store) -> None:
    fail(store, FAILURES_LIMIT)
    let_pass(store, REST_SECONDS + 1)
    assert (may_try(store), may_try(store)) == (0.0, 1.0)
    let_pass(store, breakers.PROBE_SECONDS + 1)
    assert may_try(store) == 0.0


def test_nothing_is_remembered_of_a_provider_that_does_well(store) -> None:
    assert not breakers.has_failed(store.database, "acme")
    assert may_try(store) == 0.0
    assert breakers.list_open(store.database) == []
