"""The stores, each behind the same fixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.models import ALL


def _empty(house: Any) -> Any:
    with house.write() as tx:
        for model in ALL:
            tx.execute(f"DELETE FROM {model._meta.table_name}")
    return house


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, open_house: Callable[..., Any]) -> Any:
    """An empty home on each store."""
    if request.param == "sqlite":
        return open_house()
    url = request.getfixturevalue("postgres_url")
    return _empty(open_house(ROOST_DATABASE_URL=url))
