"""The home directory's template: what a first start finds in it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

TEMPLATE = Path(__file__).parent / "home"


def ensure_home(path: Path) -> None:
    """Fill a home that does not exist yet; leave an existing one alone.

    The copy is made beside it and renamed: a start that dies half-way leaves no half
    home, and of two processes that start at once one comes first.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".home-", dir=path.parent) as beside:
        copy = Path(beside) / "home"
        shutil.copytree(TEMPLATE, copy)
        (copy / "dot-env").rename(copy / ".env")
        (copy / ".env").chmod(0o600)
        try:
            copy.rename(path)
        except OSError:
            if not path.exists():
                raise
