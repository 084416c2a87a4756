"""Budgets over HTTP: set, shown, raised, refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker import budgets
from broker.budgets import Used
from webapp.app import create_app

Call = Callable[..., Any]
NONE = {"limit": None, "spent": 0, "reserved": 0, "left": None}


@pytest.fixture
def house(open_house: Callable[..., Any]) -> Any:
    """A home with a token and one agent, `scout`."""
    house = open_house(ROOST_TOKEN="secret")
    house.agent()
    return house


@pytest.fixture
def api(house) -> Call:
    client = create_app(house.broker.settings, house.broker).test_client()

    def call(method: str, body: Any = None, agent: str = "scout") -> Any:
        return client.open(
            f"/api/v1/agents/{agent}/budgets",
            method=method,
            headers={"Authorization": "Bearer secret"},
            json=body,
        )

    return call


def use(house: Any, **used: Any) -> None:
    turn = house.take_turn()
    with house.write() as tx:
        budgets.settle(tx, turn.id, "scout", Used(**used))


def test_an_agent_without_budgets_has_counted_all_the_same(house, api) -> None:
    use(house, tokens=150, cost_usd=0.25, rounds=1, seconds=2.5)
    shown = api("GET").json
    assert shown["turn"]["key"] == "turn/turn-1"
    assert set(shown) == set(budgets.SCOPES)
    for scope in budgets.SCOPES:
        assert set(shown[scope]) == {"key", *budgets.UNITS}
    assert shown["tree"]["usd"] == {**NONE, "spent": 0.25}
    assert shown["agent"]["seconds"] == {**NONE, "spent": 2.5}


def test_what_is_put_is_shown_with_what_is_left(house, api) -> None:
    use(house, tokens=150, cost_usd=0.25)
    limits = {
        "turn": {"tokens": 10_000, "usd": 0.5, "rounds": 20, "seconds": 600},
        "day": {"usd": 5},
    }
    put = api("PUT", limits)
    assert put.status_code == 200
    assert put.json == api("GET").json
    assert put.json["turn"]["tokens"] == {
        "limit": 10_000,
        "spent": 150,
        "reserved": 0,
        "left": 9850,
    }
    assert put.json["day"]["usd"] == {
        "limit": 5.0,
        "spent": 0.25,
        "reserved": 0.0,
        "left": 4.75,
    }
    assert put.json["tree"]["usd"]["limit"] is None


def test_null_takes_one_away_and_what_is_not_named_stays(api) -> None:
    api("PUT", {"turn": {"tokens": 1, "rounds": 2}, "day": {"usd": 5}})
    shown = api("PUT", {"turn": {"tokens": None}, "agent": {"usd": 1}}).json
    limits = [
        shown[scope][unit]["limit"]
        for scope, unit in (
            ("turn", "tokens"),
            ("turn", "rounds"),
            ("day", "usd"),
            ("agent", "usd"),
        )
    ]
    assert limits == [None, 2, 5.0, 1.0]
    assert api("PUT", {"turn": None}).json["turn"]["rounds"]["limit"] is None


def test_what_is_used_beyond_a_limit_leaves_nothing(house, api) -> None:
    use(house, tokens=150)
    shown = api("PUT", {"turn": {"tokens": 100}}).json
    assert shown["turn"]["tokens"]["left"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"year": {"usd": 1}}, "year"),
        ({"day": {"euros": 1}}, "euros"),
        ({"day": {"usd": -1}}, "usd"),
        ({"day": {"usd": "much"}}, "usd"),
        ({"day": {"rounds": 1.5}}, "rounds"),
        ({"day": {"tokens": 10**16}}, "tokens"),
    ],
)
def test_what_is_no_budget_is_refused_by_name(api, body, field) -> None:
    answer = api("PUT", body)
    assert answer.status_code == 400
    assert field in str(answer.json["errors"])
    assert api("GET").json["day"]["usd"] == NONE


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_agent_that_is_not_there_has_none(api, method) -> None:
    answer = api(method, {} if method == "PUT" else None, agent="scuot")
    assert answer.status_code == 404
    assert "Did you mean 'scout'?" in answer.json["detail"]
