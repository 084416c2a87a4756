"""The house is built as the design says: who knows whom, and who may do what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("agents", "broker", "sandbox", "webapp", "workers")
# What the web process may never load: thinking, running, and whoever sells models.
NEVER_IN_THE_WEB: Final = frozenset(
    ["agents", "sandbox", "workers", "anthropic", "openai", "google.genai", "ollama"]
)
SHOW_MODULES: Final = """
import json, sys
import webapp.wsgi
json.dump(sorted(sys.modules), sys.stdout)
"""


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours by its path, as a syntax tree; migrations are frozen."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith("broker/migrations/"):
                yield name, ast.parse(path.read_text())


SOURCES: Final = dict(sources())


def using(*names: str) -> set[str]:
    """The modules that use a dotted name, or import it."""
    return {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if any(_uses(node, name) for name in names)
    }


def _uses(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Attribute | ast.Name):
        return ast.unparse(node) == name
    if isinstance(node, ast.Import):
        return any(_is_within(alias.name, name) for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        return any(_is_within(each, name) for each in wanted)
    return False


def _is_within(imported: str, name: str) -> bool:
    return imported == name or imported.startswith(f"{name}.")


def test_every_import_contract_holds() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def test_the_five_names_are_this_distributions_alone() -> None:
    owners = packages_distributions()
    assert {name: set(owners[name]) for name in PACKAGES} == {
        name: {"roost"} for name in PACKAGES
    }


def test_the_web_process_loads_no_model_no_tool_and_no_vendor(tmp_path: Path) -> None:
    environ = {"ROOST_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(ran.stdout)
    assert "webapp.app" in loaded
    assert [
        name
        for name in loaded
        if any(_is_within(name, never) for never in NEVER_IN_THE_WEB)
    ] == []


def test_one_module_opens_the_database() -> None:
    # The other opens copies, before they take its place.
    assert using("playhouse.cysqlite_ext", "peewee.SqliteDatabase") == {
        "broker/database.py",
        "broker/backup.py",
    }
    assert using("sqlite3", "apsw", "playhouse.sqlite_ext") == set()
    # The doctor asks it for its version.
    assert using("cysqlite") == {"broker/doctor.py"}
    assert using("cysqlite.connect", "cysqlite.Connection") == set()


def test_the_path_of_the_database_is_used_where_it_is_opened_and_nowhere_else() -> None:
    naming = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "database_path"
    }
    assert naming <= ALLOWED_TO_NAME_THE_DATABASE
    spelling = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "roost.db"
    }
    assert spelling == {"broker/settings.py"}


ALLOWED_TO_NAME_THE_DATABASE: Final = frozenset(
    [
        "broker/backup.py",  # puts a restored copy in its place
        "broker/opening.py",  # hands it to the dialect
    ]
)


def test_the_environment_is_read_in_one_place() -> None:
    readers = using("os.environ", "os.environb", "os.getenv")
    # NO_COLOR is about the terminal, not about Roost; click reads the CLI's options.
    assert readers - {"webapp/cli/group.py"} == {"broker/settings.py"}


def test_nothing_is_pickled() -> None:
    assert using("pickle", "marshal", "shelve", "dill", "cloudpickle") == set()


def test_nothing_is_printed() -> None:
    assert using("print", "builtins.print") == set()


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc", "manager"}
    assert [path for path in SOURCES if Path(path).stem in drawers] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path, tree in SOURCES.items() if not ast.get_docstring(tree)]
    assert silent == []


def test_every_package_is_typed() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").exists()] == []


def test_broad_handlers_are_few_and_each_is_known() -> None:
    broad = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in _EVERYTHING)
    }
    assert broad <= BROAD, f"{broad - BROAD} catches everything; say here why"


_EVERYTHING: Final = frozenset(["Exception", "BaseException"])
# Where whatever comes must be caught, and why.
BROAD: Final = frozenset(
    [
        "agents/hooks.py",  # a hook is foreign code; the model is told
        "agents/tools/exchange.py",  # raised again in the thread that waits
        "agents/tools/registry.py",  # the tool boundary: the model reads it
        "agents/models/listening.py",  # SDKs raise anything; it becomes a ModelError
        "agents/models/wire.py",  # raised again in the thread that waits
        "workers/hooks.py",  # a hook is foreign code; it is reported and left out
        "workers/turns.py",  # the turn boundary: it becomes the turn's failure
        "workers/summariser.py",  # whatever a model does, there is a summary
        "workers/batcher.py",  # one bad batch may not end the thread for all
        "workers/keeper.py",  # leases must go on being renewed
        "workers/scheduler.py",  # a tick may fail, the next one tries again
        "broker/database.py",  # roll back, then raise on
        "broker/backup.py",  # whatever a file that is no database makes SQLite raise
        "sandbox/supervisor.py",  # kill the job, then raise on
    ]
)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_does_nothing(package: str, tmp_path: Path) -> None:
    code = f"import {package}, os, threading\n"
    code += "assert threading.active_count() == 1 and os.listdir() == []"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True
    )
