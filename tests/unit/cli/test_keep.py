"""`backup`, `restore`, `gc` and `sql`, with a real home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from webapp.cli import roost as group


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(each) for each in arguments])


def names() -> list[str]:
    told = run("sql", "SELECT id FROM agents ORDER BY id", "--json").stdout
    return [row["id"] for row in json.loads(told)]


def test_a_backup_comes_back_and_the_hints_go(home: Path, tmp_path: Path) -> None:
    run("sql", "SELECT 1")
    told = json.loads(run("backup", tmp_path / "a.db", "--json").stdout)
    assert told["bytes"] == (tmp_path / "a.db").stat().st_size
    (home / "queue.db").write_bytes(b"hints")
    told = json.loads(run("restore", tmp_path / "a.db", "--json").stdout)
    assert Path(told["previous"]).is_file()
    assert list(home.glob("queue.db*")) == []
    assert names() == []


def test_what_cannot_be_kept_is_said_in_a_sentence(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("no database")
    for arguments, sentence in [
        (("backup", tmp_path / "bad"), "exists already"),
        (("restore", tmp_path / "bad"), "is no database of Roost"),
        (("gc", "--keep", "nothing=3"), "No class 'nothing'"),
        (("gc", "--keep", "events"), "must look like events=30"),
    ]:
        told = run(*arguments)
        assert told.exit_code != 0
        assert sentence in told.stderr


def test_gc_counts_by_class_and_a_dry_run_forgets_nothing(home: Path) -> None:
    told = json.loads(run("gc", "--dry-run", "--keep", "events=1.5", "--json").stdout)
    assert (told["dry_run"], told["freed_bytes"]) == (True, 0)
    keep = {each["class"]: each["keep_days"] for each in told["classes"]}
    assert (keep["events"], keep["deltas"]) == (1.5, 2)
    assert "0 rows were forgotten" in run("gc").stdout


@pytest.mark.line("P22")
def test_sql_only_reads(home: Path) -> None:
    assert run("sql", "SELECT 1 AS one").stdout.split()[-1] == "1"
    told = run("sql", "DELETE FROM agents")
    assert told.exit_code != 0
    assert told.stderr.startswith("Error:")
