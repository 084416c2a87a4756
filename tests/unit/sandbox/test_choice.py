"""A level that does not hold is not offered."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import (
    Control,
    Job,
    Outcome,
    Output,
    Policy,
    SandboxUnavailable,
    choose,
    find_bun,
)
from sandbox.bare import BareSandbox
from sandbox.choice import leaks_of
from sandbox.host import survey
from sandbox.scripted import ScriptedSandbox


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A bubblewrap that knows its version and can do nothing."""
    path = tmp_path / "bwrap"
    path.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "no way" >&2; exit 1; }')
    path.chmod(0o755)
    return path


def test_required_refuses_what_does_not_hold_and_says_what_to_do(
    broken: Path, tmp_path: Path
) -> None:
    with pytest.raises(SandboxUnavailable) as refusal:
        choose("required", scratch=tmp_path / "scratch", bubblewrap=broken)
    assert "no way" in str(refusal.value)
    assert "user.max_user_namespaces" in str(refusal.value)


def test_auto_takes_less_and_says_so(broken: Path, tmp_path: Path) -> None:
    sandbox = choose("auto", scratch=tmp_path / "scratch", bubblewrap=broken)
    assert sandbox.level == "bare"
    assert "no way" in sandbox.detail
    assert "no cage" in sandbox.detail


def test_off_is_bare_and_says_so(tmp_path: Path) -> None:
    sandbox = choose("off", scratch=tmp_path / "scratch")
    assert sandbox.level == "bare"
    assert sandbox.detail.startswith("the cage is off (ROOST_SANDBOX=off)")


def test_a_bun_that_does_not_run_is_no_sandbox_at_all(
    broken: Path, tmp_path: Path
) -> None:
    with pytest.raises(SandboxUnavailable, match="Bun does not run here"):
        choose("off", scratch=tmp_path / "scratch", bun=broken)


def test_the_canary_finds_a_bare_process_open_everywhere(tmp_path: Path) -> None:
    """What the canary refuses to find in a cage, it does find outside of one."""
    sandbox = BareSandbox(survey(find_bun(), tmp_path / "scratch"))
    leaks = leaks_of(sandbox, root=["bin", "dev", "job", "lib", "proc", "tmp"])
    named = {leak.split(" ")[0] for leak in leaks}
    assert {"root", "no_new_privileges"} <= named


def test_a_canary_that_says_the_wrong_thing_is_a_leak() -> None:
    with ScriptedSandbox([Outcome(status="completed", result={"root": []})]) as sandbox:
        leaks = leaks_of(sandbox, root=["bin"])
    assert "root is [] instead of ['bin']" in leaks
    assert "core_pattern is None instead of 'EACCES'" in leaks


def test_two_sandboxes_of_one_scratch_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    first = choose("off", scratch=tmp_path)
    second = choose("off", scratch=tmp_path)
    for sandbox in (first, second, first):
        run: Callable[..., Outcome] = sandbox.run
        outcome = run(
            Job(id="exec-1", code="globalThis.result = 1"),
            Policy(),
            emit=_ignore,
            control=Control(),
        )
        assert outcome.result == 1


def _ignore(output: Output) -> None:
    """The test looks at the outcome alone."""
