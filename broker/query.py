"""A person's own query on the database, which can change nothing."""

from __future__ import annotations

import itertools
from typing import Final

from peewee import PeeweeException

from broker.database import Database, Row
from broker.errors import BrokerError

ROWS: Final = 1_000


class BadQuery(BrokerError):
    """A query was refused by the database."""

    slug = "bad-query"


def query(database: Database, sql: str, *, limit: int = ROWS) -> list[Row]:
    """Run one statement read-only; return at most `limit` rows, as they are stored."""
    on_sqlite = database.dialect.name == "sqlite"
    with database.dialect.session():
        raw = database.peewee
        if on_sqlite:
            raw.execute_sql("PRAGMA query_only = 1")
        else:
            raw.begin()
            raw.execute_sql("SET TRANSACTION READ ONLY")
        try:
            cursor = raw.execute_sql(sql)
            names = [column[0] for column in cursor.description or ()]
            rows = itertools.islice(cursor, limit) if names else ()
            return [dict(zip(names, row, strict=True)) for row in rows]
        except PeeweeException as error:
            raise BadQuery(f"{error}. Only reading is allowed here.") from error
        finally:
            if on_sqlite:
                raw.execute_sql("PRAGMA query_only = 0")
            else:
                raw.rollback()
