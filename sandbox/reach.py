"""What another user id can reach, and copies of what it cannot.

A root worker runs jobs as an unprivileged user, for whom a home under /root or a
directory of mode 0700 is out of reach, read-only binds included.
"""

import os
import shutil
import stat
from pathlib import Path

NOBODY = 65534  # the overflow user: owns nothing


def open_to_others(path: Path) -> bool:
    """Whether a stranger may reach and read `path` (mode bits; ACLs are not read)."""
    real = path.resolve()
    mode = real.stat().st_mode
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & wanted == wanted and all(
        parent.stat().st_mode & stat.S_IXOTH for parent in real.parents
    )


def copy_tree(source: Path, target: Path) -> Path:
    """Copy a directory so that everyone can read it: by hard link where that does."""
    shutil.copytree(source, target, symlinks=True, copy_function=_copied)
    for directory, _, _ in os.walk(target):
        Path(directory).chmod(0o755)
    return target


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second place, where everyone can read it."""
    mode = source.stat().st_mode
    if not mode & stat.S_IROTH or not _linked(source, target):
        shutil.copyfile(source, target)
        target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def _copied(source: str, target: str) -> None:
    if Path(source).is_symlink():
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        link_or_copy(Path(source), Path(target))


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        return False
    return True


def remove_tree(path: Path) -> None:
    """Remove a directory, also where a job has closed its own directories."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists() and os.geteuid() != 0:
        for directory, names, _ in os.walk(path):
            for name in names:
                _reopen(Path(directory) / name)
        shutil.rmtree(path, ignore_errors=True)


def _reopen(directory: Path) -> None:
    """Open a directory before the walk gets to it; what a link leads to is not ours."""
    if not directory.is_symlink():
        directory.chmod(0o700)
