"""The migrations and the models describe one schema, on each store."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playhouse.cysqlite_ext import CySqliteDatabase
from playhouse.schema_diff import diff_models

from broker.migrate import DIRECTORY
from broker.models import ALL, PARTIAL_INDEXES, SEARCH


@pytest.fixture(params=["sqlite", "postgres"])
def migrated(request: pytest.FixtureRequest, open_house: Callable[..., Any]) -> Any:
    """A freshly migrated home."""
    if request.param == "sqlite":
        return open_house()
    url = request.getfixturevalue("postgres_url")
    return open_house(ROOST_DATABASE_URL=url)


def test_what_the_migrations_make_is_what_the_models_say(migrated) -> None:
    database = migrated.database
    with database.dialect.session(), database.peewee.bind_ctx(ALL):
        diff = diff_models(database.peewee, ALL)
    # The differ knows no index that a Meta cannot declare; those are listed by hand.
    by_hand = {re.match(r"CREATE INDEX (\w+)", sql)[1] for sql in PARTIAL_INDEXES}
    assert {index.name for index in diff.drop_indexes} == by_hand
    assert not any(diff._replace(drop_indexes=[])), str(diff)


def test_the_migrations_and_the_models_write_the_same_ddl(house, tmp_path) -> None:
    made = CySqliteDatabase(str(tmp_path / "models.db"))
    with made, made.bind_ctx(ALL):
        made.create_tables(ALL)
        for statement in (*PARTIAL_INDEXES, *SEARCH["sqlite"]):
            made.execute_sql(statement)
        wanted = ddl(made.execute_sql(_DDL).fetchall())
    made.close()
    found = ddl([(row["sql"],) for row in house.database.read(_DDL)])
    bookkeeping = re.compile(r"schema_(migration|checksums)")
    assert [sql for sql in found if not bookkeeping.search(sql)] == wanted


_DDL = (
    "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
)


def ddl(rows: list[tuple[str]]) -> list[str]:
    return sorted(sql for (sql,) in rows)


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in DIRECTORY.glob("[0-9]*.py"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_table_has_a_docstring_that_says_what_a_row_is() -> None:
    assert [model.__name__ for model in ALL if not model.__doc__] == []
