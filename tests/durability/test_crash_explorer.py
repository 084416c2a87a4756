"""A turn is killed at every commit boundary and between them, each in a fresh home."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.durability import guarantees
from tests.durability.explorer import Explorer, open_explorer
from tests.durability.judgement import UNDISTURBED, Point

EVERYTHING: Final = bool(os.environ.get("CI") or os.environ.get("ROOST_TEST_ALL"))
STRIDE: Final = 1 if EVERYTHING else 5
TWICE: Final = 24 if EVERYTHING else 4
# A recovery is about as long as what was left of the turn.
RECOVERY_POINTS: Final = 80
SEED: Final = 7


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Two workers' nurseries and the world outside."""
    with open_explorer(tmp_path_factory.mktemp("crash")) as opened:
        yield opened


@pytest.fixture(scope="module")
def points(explorer: Explorer) -> list[Point]:
    """Every crash point of the turn, in order."""
    return explorer.reference()


def test_a_death_anywhere_loses_nothing_and_repeats_nothing(
    explorer: Explorer, points: list[Point]
) -> None:
    numbers = range(1, len(points) + 1, STRIDE)

    outcomes = explorer.explore(points, numbers)

    found = guarantees.rows([points[number - 1] for number in numbers], outcomes)
    committed = guarantees.committed_table()
    assert [row for row in found.values() if row not in committed.splitlines()] == []
    if EVERYTHING:
        assert guarantees.table_of(found) == committed


def test_the_guarantees_name_every_crash_point(points: list[Point]) -> None:
    named = guarantees.rows(points, [UNDISTURBED] * len(points))
    rows = guarantees.committed_table().splitlines()[2:]

    assert [_name(row) for row in rows] == [_name(row) for row in named.values()]


def _name(row: str) -> list[str]:
    return row.split(" | ")[:2]


def test_a_second_death_in_recovery_changes_nothing(
    explorer: Explorer, points: list[Point]
) -> None:
    chosen = random.Random(SEED)
    deaths = [
        (chosen.randint(1, len(points)), chosen.randint(1, RECOVERY_POINTS))
        for _ in range(TWICE)
    ]

    outcomes = explorer.die_twice(deaths)

    assert [o for o in outcomes if o.mails != 1 and not o.is_mail_uncertain] == []
    assert max(outcome.mails for outcome in outcomes) == 1
    assert {outcome.bookings for outcome in outcomes} == {1}
    assert max(outcome.asks for outcome in outcomes) <= UNDISTURBED.asks + 2
    assert max(o.job_starts for o in outcomes) <= UNDISTURBED.job_starts + 2
