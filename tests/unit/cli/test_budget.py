"""`budget`: shown, set and cleared."""

from __future__ import annotations

import json

import pytest

from broker import budgets
from webapp.cli.budget import SCOPES, UNITS

PATH = "/api/v1/agents/scout/budgets"
NONE = {"limit": None, "spent": 0, "reserved": 0, "left": None}
FOUND = {scope: {"key": f"{scope}/x", **dict.fromkeys(UNITS, NONE)} for scope in SCOPES}
FOUND["day"]["usd"] = {"limit": 5.0, "spent": 1.25, "reserved": 0.5, "left": 3.25}
FOUND["turn"]["tokens"] = {**NONE, "spent": 900}


def test_what_is_limited_or_used_is_one_line_each(server, roost) -> None:
    server.gives(f"GET {PATH}", FOUND)
    told = roost("budget", "scout")
    assert told.output == "turn.tokens\t-\t900\t0\t-\nday.usd\t5.0\t1.25\t0.5\t3.25\n"
    assert json.loads(roost("budget", "scout", "--json").output) == FOUND


def test_what_is_set_and_cleared_is_put_at_once(server, roost) -> None:
    server.gives(f"PUT {PATH}", FOUND)
    told = roost(
        *("budget", "scout", "--set", "day.usd=5", "--set", "turn.rounds=20"),
        *("--clear", "turn.usd", "--json"),
    )
    assert json.loads(told.output) == FOUND
    assert server.asked[0].body == {
        "turn": {"usd": None, "rounds": 20},
        "day": {"usd": 5.0},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "year.usd=5"), "'year.usd' is no budget"),
        (("--set", "day.usd"), "'' is not a number, as day.usd wants."),
        (("--set", "day.rounds=1.5"), "'1.5' is not a whole number"),
        (("--clear", "day"), "say turn|agent|tree|day, a dot and"),
    ],
)
def test_what_is_no_budget_is_refused(server, roost, arguments, said) -> None:
    told = roost("budget", "scout", *arguments)
    assert (told.exit_code, said in told.stderr) == (2, True)
    assert server.asked == []


def test_the_names_are_the_brokers() -> None:
    assert (budgets.SCOPES, tuple(budgets.UNITS)) == (SCOPES, UNITS)
