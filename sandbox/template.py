"""The home directory's template: what a first start finds in it."""

import contextlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

TEMPLATE = Path(__file__).parent / "home"
# The entry that is put in place last: where it is, the home has been filled.
LAST = "core"


def ensure_home(path: Path) -> None:
    """Fill a home that has never been filled; leave every other one alone.

    The directory may exist already (the database lives in it), and what a user put
    there stays. Each entry is copied aside and renamed, `core` last: a start that dies
    half-way is finished by the next, and two that start at once do not disturb each
    other.
    """
    if (path / LAST).exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".home-", dir=path) as aside:
        copy = Path(aside) / "home"
        shutil.copytree(TEMPLATE, copy)
        (copy / "dot-env").rename(copy / ".env")
        (copy / ".env").chmod(0o600)
        for entry in sorted(copy.iterdir(), key=lambda each: each.name == LAST):
            _put(entry, path / entry.name)


def _put(entry: Path, place: Path) -> None:
    """Move an entry into place unless something is there."""
    if not place.exists():
        # Another start may have been quicker by this much; then its copy stays.
        with contextlib.suppress(OSError):
            entry.rename(place)
