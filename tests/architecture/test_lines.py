"""Every behaviour that Roost took over from its seeds has a test that names its line.

tests/lines/*.toml say in a sentence what each line is here; `@pytest.mark.line("G31")`
marks the tests that hold it. `pytest -m 'line'` runs them all.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]


def _numbers(letter: str, *ranges: tuple[int, int]) -> set[str]:
    return {f"{letter}{n}" for first, last in ranges for n in range(first, last + 1)}


# The bus, waiting, the loop, compaction and the tools (G); the loop and its hooks (P).
WANTED: Final = _numbers("G", (7, 22), (31, 38), (53, 82), (112, 112)) | _numbers(
    "P", (1, 11), (19, 49)
)


@functools.cache
def _said() -> dict[str, str]:
    return {
        mark: sentence
        for path in sorted((TESTS / "lines").glob("*.toml"))
        for mark, sentence in tomllib.loads(path.read_text()).items()
    }


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that a module's tests are marked with, and the tests."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith("pytest.mark.line("):
                    assert isinstance(decorator, ast.Call)
                    for argument in decorator.args:
                        yield ast.literal_eval(argument), node.name


@functools.cache
def _tests() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for mark, test in _marks(path):
            found[mark].append(test)
    return found


@pytest.mark.parametrize("mark", sorted(WANTED, key=lambda m: (m[0], int(m[1:]))))
def test_every_line_has_a_test_and_a_sentence(mark: str) -> None:
    assert mark in _said(), f"say in tests/lines what {mark} is here"
    assert _tests()[mark], f"no test is marked @pytest.mark.line({mark!r})"


def test_every_mark_is_of_a_line_that_is_told() -> None:
    assert _tests().keys() <= _said().keys()
