"""Choose the best sandbox this machine gives, by trying it.

A level is offered only when a canary job has shown that it holds: that the cage is
tight in the places that have leaked elsewhere, not that a program is installed.
"""

import subprocess
from pathlib import Path
from typing import Literal, TypeAlias

from sandbox.bare import BareSandbox
from sandbox.binaries import bubblewraps, find_bun
from sandbox.bubblewrap import BubblewrapSandbox
from sandbox.control import Control
from sandbox.errors import SandboxUnavailable
from sandbox.host import Host, program_within_reach, survey
from sandbox.job import Job, Sandbox
from sandbox.outcome import JSON, Outcome, Output
from sandbox.policy import Policy

Mode: TypeAlias = Literal["auto", "required", "off"]

CANARY_SECONDS = 20.0  # Bun starts in 10 ms; a loaded machine may need seconds
CANARY = (Path(__file__).parent / "runtime" / "canary.ts").read_text()

NOT_COVERED = "no seccomp filter, cgroup or Landlock yet"
BARE = (
    "no cage: jobs can read files, reach the network and see the processes of their"
    " user; not limited: processes, disk; a daemon that leaves its session survives"
)
WHAT_TO_DO = (
    "Allow unprivileged user namespaces (sysctl user.max_user_namespaces; in Docker"
    " a seccomp profile that allows them), `apt-get install bubblewrap` where AppArmor"
    " restricts them to that program, or set ROOST_SANDBOX=auto to accept less."
)


def choose(
    mode: Mode,
    *,
    scratch: Path,
    bun: Path | None = None,
    bubblewrap: Path | None = None,
) -> Sandbox:
    """Return a sandbox that has run a canary job.

    `auto`: bubblewrap, else a bare process. `required`: bubblewrap, else
    `SandboxUnavailable`. `off`: a bare process. `scratch` is a directory of the
    caller's for the directories of running jobs. The result's `detail` says what holds.
    """
    host = survey((bun or find_bun()).resolve(), scratch.resolve())
    if mode == "off":
        return _bare(host, "the cage is off (ROOST_SANDBOX=off)")
    refusals: list[str] = []
    for program in bubblewraps(str(bubblewrap) if bubblewrap else None):
        caged = _caged(program, host, refusals)
        if caged:
            return caged
    why = "; ".join(refusals) or "no bubblewrap found, or only setuid ones"
    if mode == "required":
        raise SandboxUnavailable(f"bubblewrap does not hold here: {why}. {WHAT_TO_DO}")
    return _bare(host, f"bubblewrap does not hold here: {why}")


def _caged(program: Path, host: Host, refusals: list[str]) -> Sandbox | None:
    """A bubblewrap that holds, or a line in `refusals` that says why it does not."""
    try:
        reachable = program_within_reach(program, host)
        detail = _detail(program, host, version=_version(reachable))
        sandbox = BubblewrapSandbox(reachable, host, detail=detail)
    except (OSError, subprocess.CalledProcessError) as error:
        refusals.append(f"{program}: {error}")
        return None
    leaks = leaks_of(sandbox, root=sandbox.root_listing)
    if leaks:
        refusals.append(f"{program}: {'; '.join(leaks)}")
        return None
    return sandbox


def _bare(host: Host, why: str) -> Sandbox:
    detail = "; ".join([why, BARE, *host.weaker])
    sandbox = BareSandbox(host, detail=detail)
    outcome = _run(sandbox, "globalThis.result = 1")
    if outcome.result != 1:
        raise SandboxUnavailable(f"Bun does not run here ({host.bun}): {_why(outcome)}")
    return sandbox


def _version(program: Path) -> str:
    command = [str(program), "--version"]
    return subprocess.run(
        command, env={}, capture_output=True, check=True, text=True
    ).stdout.strip()


def _detail(program: Path, host: Host, *, version: str) -> str:
    whose = "this process' user" if host.user is None else f"user {host.user}"
    holds = f"{version} ({program}), jobs run as {whose}: no network, no host files"
    return "; ".join([holds, NOT_COVERED, *host.weaker])


def leaks_of(sandbox: Sandbox, *, root: list[str]) -> list[str]:
    """Run the canary and list where the cage is open; empty when it holds."""
    outcome = _run(sandbox, CANARY)
    if outcome.status != "completed" or not isinstance(outcome.result, dict):
        return [f"the canary job did not complete: {_why(outcome)}"]
    expected: dict[str, JSON] = {
        "root": list[JSON](root),
        "effective_capabilities": "0000000000000000",
        "no_new_privileges": "1",
        "inherited_environment_bytes": 0,
        "interfaces": ["lo"],
        "core_pattern": "EACCES",
        "root_directory": "EROFS",
    }
    return [
        f"{name} is {outcome.result.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if outcome.result.get(name) != value
    ]


def _run(sandbox: Sandbox, code: str) -> Outcome:
    return sandbox.run(
        Job(id="canary", code=code),
        Policy(wall_seconds=CANARY_SECONDS),
        emit=_ignore,
        control=Control(),
    )


def _ignore(_output: Output) -> None:
    """The canary's output says nothing that its result does not."""


def _why(outcome: Outcome) -> str:
    return outcome.error.message if outcome.error else "it gave no result"
