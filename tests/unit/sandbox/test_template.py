"""A first start finds a home; later ones find it as it was left."""

import os
import subprocess
from pathlib import Path

from sandbox import ensure_home, find_bun
from sandbox.template import TEMPLATE

TYPESCRIPT_TESTS = Path(__file__).parent / "ts"


def test_a_first_start_fills_the_home(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    ensure_home(home)
    assert sorted(path.name for path in home.iterdir()) == [
        ".env",
        "MEMORY.md",
        "PROMPT.ts",
        "README.md",
        "core",
        "services",
        "skills",
        "tools",
        "tsconfig.json",
    ]
    assert (home / ".env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.parent.iterdir()] == ["home"]


def test_a_filled_home_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    ensure_home(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["core"]


def test_a_home_that_only_holds_the_database_is_filled(tmp_path: Path) -> None:
    (tmp_path / "roost.db").write_text("data")
    (tmp_path / "MEMORY.md").write_text("mine")
    ensure_home(tmp_path)
    assert (tmp_path / "core" / "text.ts").is_file()
    assert (tmp_path / "MEMORY.md").read_text() == "mine"
    assert (tmp_path / "roost.db").read_text() == "data"
    assert not list(tmp_path.glob(".home-*"))


def test_the_typescript_of_the_template_passes_its_own_tests() -> None:
    ran = subprocess.run(
        [str(find_bun()), "test"],
        cwd=TYPESCRIPT_TESTS,
        env={"HOME_TEMPLATE": str(TEMPLATE), "PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
