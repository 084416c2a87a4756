"""What the doctor finds, and what it says to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker import breakers, doctor, processes
from broker.settings import load


def found(house: Any) -> dict[str, tuple[str, str]]:
    return {c.name: (c.status, c.detail) for c in doctor.checks(house.broker.settings)}


def register(house: Any, *kinds: str, **facts: Any) -> None:
    with house.write() as tx:
        for kind in kinds:
            processes.register(tx, processes.identify(kind, **facts))


def test_a_home_in_which_all_runs_is_well(house) -> None:
    register(house, *doctor.NEEDED, sandbox="bubblewrap", detail="0.11")
    assert {
        name: status for name, (status, _) in found(house).items()
    } == dict.fromkeys(
        (
            "sqlite",
            "disk",
            "schema",
            "integrity",
            "journal",
            "agents",
            "exec",
            "scheduler",
            "sandbox",
            "leases",
            "circuits",
        ),
        "ok",
    )


def test_a_process_that_does_not_run_or_died_is_missed(house) -> None:
    register(house, *doctor.NEEDED)
    with house.write() as tx:
        tx.execute("UPDATE processes SET start_ticks = 1 WHERE kind = 'agents'")
    told = found(house)
    assert told["agents"] == ("fail", "No agents process runs: nobody takes turns.")
    assert (told["exec"][0], told["sandbox"]) == ("ok", ("warn", "not known yet"))


def test_a_sandbox_without_a_cage_is_warned_of(house) -> None:
    register(house, "exec", sandbox="bare", detail="no bwrap")
    assert found(house)["sandbox"] == ("warn", "bare: no bwrap")


def test_an_overdue_lease_is_warned_of(house) -> None:
    house.create(id="e")
    house.claim("e", lease_seconds=-doctor.STUCK_SECONDS - 1)
    assert found(house)["leases"][0] == "warn"


def test_a_provider_that_is_left_alone_is_told_of_and_nothing_fails(house) -> None:
    with house.write() as tx:
        for _ in range(breakers.FAILURES_LIMIT):
            breakers.failed(tx, "acme", "It is down.")
    status, detail = found(house)["circuits"]
    assert status == "warn"
    assert detail.startswith("acme has failed 5 times in a row and is left alone for 1")
    assert "(It is down.)" in detail


def test_a_schema_that_is_not_applied_is_warned_of(tmp_path: Path) -> None:
    settings = load({"ROOST_HOME": str(tmp_path / "new")}, cwd=tmp_path)
    told = {c.name: c for c in doctor.checks(settings)}
    assert told["schema"].status == "warn"
    assert told["schema"].fix is not None


def test_a_schema_of_a_newer_roost_fails(house) -> None:
    with house.write() as tx:
        tx.execute("UPDATE schema_migration SET name = '9999_later'")
    status, detail = found(house)["schema"]
    assert (status, "newer Roost" in detail) == ("fail", True)


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    settings = load({"ROOST_HOME": str(tmp_path)}, cwd=tmp_path)
    (tmp_path / "roost.db").write_bytes(b"no database" * 1000)
    told = {c.name: c for c in doctor.checks(settings)}
    assert told["database"].status == "fail"
