"""Directories of processes that are gone are removed, others are not."""

import gc
import subprocess
import sys
from pathlib import Path

from sandbox.reach import copy_tree, open_to_others, remove_tree
from sandbox.scratch import PREFIX, Scratch

ABANDON = """
import os, sys
from pathlib import Path
from sandbox.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
print(scratch.path, flush=True)
os._exit(0)
"""


def test_a_directory_goes_with_its_owner(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    path = scratch.path
    assert path.is_dir()
    del scratch
    gc.collect()
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    alive = Scratch(tmp_path)
    abandoned = Path(
        subprocess.run(
            [sys.executable, "-c", ABANDON, str(tmp_path)],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
    )
    assert abandoned.is_dir()
    next_one = Scratch(tmp_path)
    assert not abandoned.exists()
    assert alive.path.is_dir()
    assert next_one.path.is_dir()


def test_what_is_not_a_directory_of_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    (tmp_path / f"{PREFIX}file").write_text("")
    Scratch(tmp_path)
    assert other.is_dir()
    assert (tmp_path / f"{PREFIX}file").exists()


def test_a_copy_can_be_read_by_everyone_and_is_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "a.ts").write_text("a")
    (source / "inner" / "a.ts").chmod(0o600)
    (source / "run").write_text("b")
    (source / "run").chmod(0o700)
    (source / "link").symlink_to("inner/a.ts")
    source.chmod(0o700)
    assert not open_to_others(source)
    copy = copy_tree(source, tmp_path / "copy")
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in [copy, *copy.rglob("*")]
        if not path.is_symlink()
    }
    assert modes == {"copy": 0o755, "inner": 0o755, "a.ts": 0o644, "run": 0o755}
    assert (copy / "link").readlink() == Path("inner/a.ts")
    assert (copy / "link").read_text() == "a"


def test_a_closed_directory_above_closes_what_is_below(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert not open_to_others(inner)
    assert open_to_others(Path("/usr/bin"))


def test_directories_a_job_has_closed_are_removed_and_no_others_opened(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    tree = tmp_path / "tree"
    (tree / "closed" / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "closed").chmod(0)
    remove_tree(tree)
    assert not tree.exists()
    assert outside.stat().st_mode & 0o777 == 0o755
