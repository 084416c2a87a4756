"""A person's own query on the database, which can change nothing.

SQLite's `query_only` guards rows, and nothing else: a pragma may still change the
file's mode, ATTACH and VACUUM INTO make files, and an extension may do anything. So on
SQLite an authorizer lets pass what reads, and no other action.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from peewee import PeeweeException

from broker.database import Database, Row
from broker.errors import BrokerError

ROWS: Final = 1_000

# SQLite's numbers (https://sqlite.org/c3ref/c_alter_table.html).
_OK, _DENY = 0, 1
_PRAGMA, _READ, _SELECT, _FUNCTION, _RECURSIVE = 19, 20, 21, 31, 33
# What only tells, also when it has an argument. Full-text tables read `data_version`.
_PRAGMAS: Final = (
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
)
# What may change something when it is given a value.
_SETTINGS: Final = (
    "application_id",
    "auto_vacuum",
    "cache_size",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "journal_mode",
    "page_count",
    "page_size",
    "query_only",
    "schema_version",
    "synchronous",
    "user_version",
    "wal_autocheckpoint",
)


class BadQuery(BrokerError):
    """A query was refused by the database."""

    slug = "bad-query"


def query(database: Database, sql: str, *, limit: int = ROWS) -> list[Row]:
    """Run one statement read-only; return at most `limit` rows, as they are stored."""
    raw = database.peewee
    on_sqlite = database.dialect.name == "sqlite"
    with (
        database.dialect.session(),
        _sqlite_reads(raw) if on_sqlite else _postgres_reads(raw),
    ):
        try:
            cursor = raw.execute_sql(sql)
            names = [column[0] for column in cursor.description or ()]
            rows = itertools.islice(cursor, limit) if names else ()
            return [dict(zip(names, row, strict=True)) for row in rows]
        except PeeweeException as error:
            raise BadQuery(f"{error}. Only reading is allowed here.") from error


@contextmanager
def _sqlite_reads(raw: Any) -> Iterator[None]:
    raw.execute_sql("PRAGMA query_only = 1")
    raw.connection().authorizer(_judge)
    try:
        yield
    finally:
        raw.connection().authorizer(None)
        raw.execute_sql("PRAGMA query_only = 0")


@contextmanager
def _postgres_reads(raw: Any) -> Iterator[None]:
    raw.begin()
    raw.execute_sql("SET TRANSACTION READ ONLY")
    try:
        yield
    finally:
        raw.rollback()


def _judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite asks this of every action of a statement, before it runs."""
    return _OK if _is_reading(action, first, second) else _DENY


def _is_reading(action: int, first: str | None, second: str | None) -> bool:
    if action == _PRAGMA:
        name = (first or "").lower()
        return name in _PRAGMAS or (name in _SETTINGS and second is None)
    if action == _FUNCTION:
        return second != "load_extension"
    return action in (_READ, _SELECT, _RECURSIVE)
