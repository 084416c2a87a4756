"""A person's own query: what it may read, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.query import BadQuery, query


def modes(house) -> tuple[object, ...]:
    names = ("journal_mode", "query_only", "user_version", "foreign_keys")
    return tuple(house.database.read(f"PRAGMA {name}")[0][name] for name in names)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n FROM tasks",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x LIMIT 3)"
        " SELECT * FROM x",
        "SELECT name FROM sqlite_master WHERE type = 'table'",
        "SELECT * FROM pragma_table_info('tasks')",
        "SELECT json_extract(payload, '$.a'), datetime('now') FROM events",
        "EXPLAIN QUERY PLAN SELECT * FROM events",
        "PRAGMA table_info(tasks)",
        "PRAGMA journal_mode",
        "PRAGMA Integrity_Check",
    ],
)
def test_what_reads_is_answered(house, sql) -> None:
    house.agent()
    house.post("hello")
    assert query(house.database, sql)


def test_the_full_text_index_is_read(house) -> None:
    house.agent()
    house.complete(house.take_turn("find the heron"))
    tables = query(
        house.database,
        "SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5%'",
    )
    [name] = [each["name"] for each in tables]
    found = query(house.database, f"SELECT * FROM {name} WHERE {name} MATCH 'heron'")
    assert len(found) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM agents",
        "CREATE TABLE x (a)",
        "CREATE TEMP TABLE x (a)",
        "PRAGMA journal_mode = delete",
        "PRAGMA journal_mode(delete)",
        "PRAGMA main.journal_mode = memory",
        "PRAGMA query_only = 0",
        "PRAGMA user_version = 7",
        "PRAGMA foreign_keys = 0",
        "PRAGMA wal_checkpoint",
        "PRAGMA incremental_vacuum",
        "PRAGMA optimize",
        "SELECT * FROM pragma_wal_checkpoint",
        "SELECT load_extension('x')",
        "ATTACH 'FILE' AS other",
        "VACUUM INTO 'FILE'",
        "VACUUM",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "SAVEPOINT x",
    ],
)
def test_what_is_no_reading_is_refused_and_changes_nothing(
    house, sql, tmp_path: Path
) -> None:
    house.agent()
    file = tmp_path / "made"
    before = modes(house)
    with pytest.raises(BadQuery, match="Only reading is allowed here"):
        query(house.database, sql.replace("FILE", str(file)))
    assert modes(house) == before
    assert not file.exists()
    house.post("what came before can be written after it")
