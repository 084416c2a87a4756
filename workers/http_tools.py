"""The HTTP tools of a home: `tools.json`, with secrets from `.env`.

Both files are looked at for every turn and read again when they have changed, so an
edit needs no restart, and a mistake fails turns and never the process. A secret goes
from `.env` into a header and nowhere else: no error names a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from agents.tools import Tool, builtin_tools
from agents.tools.http import BadDeclaration, HttpDeclaration, declare, http_tool

FILE: Final = "tools.json"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# What a header may hold: visible ASCII, with blanks inside.
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")

Stamp = tuple[int, int]


class ToolsError(Exception):
    """`tools.json` makes no tools."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why} Mend it, then retry the turn.")
        self.path = path

    def as_json(self) -> dict[str, Any]:
        """Return the error as a task carries it."""
        return {"type": "bad_tools", "message": str(self), "path": str(self.path)}


def load(home: Path | None) -> tuple[Tool, ...]:
    """Return the declared tools in their order; none where there is no `tools.json`.

    Raises ToolsError with what to change.
    """
    declared = _stamp(home / FILE) if home else None
    if home is None or declared is None:
        return ()
    return _load(home, declared, _stamp(home / ".env"))


def _stamp(path: Path) -> Stamp | None:
    """What tells one version of a file from the next."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_mtime_ns, seen.st_size


@lru_cache(maxsize=8)  # homes: one in a process, several in a test run
def _load(home: Path, *_stamps: Stamp | None) -> tuple[Tool, ...]:
    """Read both files. The stamps are older than what is read, so a change while we
    read is seen by the next load."""
    path = home / FILE
    try:
        return tuple(_tools(_read(path), _secrets(home / ".env")))
    except BadDeclaration as error:
        raise ToolsError(path, str(error)) from error


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ToolsError(path, f"It cannot be read as JSON: {error}.") from error
    if not isinstance(found, list):
        raise ToolsError(path, "It must be a JSON list of tools.")
    return found


def _secrets(path: Path) -> dict[str, str]:
    """The variables of `.env` as they are written: nothing of the process's own."""
    try:
        found = dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        why = f"It cannot be read ({type(error).__name__})."
        raise ToolsError(path, why) from None  # the error holds the bytes
    return {name: value for name, value in found.items() if value}


def _tools(raw: Iterable[object], secrets: Mapping[str, str]) -> Iterator[Tool]:
    taken = {each.name: "is built in" for each in builtin_tools()}
    for number, each in enumerate(raw, start=1):
        name = each.get("name") if isinstance(each, dict) else None
        try:
            declared = declare(each)
            if declared.name in taken:
                why = f"a tool of this name {taken[declared.name]}; choose another."
                raise BadDeclaration(f"`name`: {why}")
            yield _tool(declared, secrets)
        except BadDeclaration as error:
            raise BadDeclaration(f"Tool {number} ({name!r}): {error}") from error
        taken[declared.name] = "is declared above"


def _tool(declared: HttpDeclaration, secrets: Mapping[str, str]) -> Tool:
    headers = {
        name: _resolved(name, value, secrets)
        for name, value in declared.headers.items()
    }
    used = _VARIABLE.findall(" ".join(declared.headers.values()))
    return http_tool(declared, headers, [secrets[name] for name in used])


def _resolved(header: str, value: str, secrets: Mapping[str, str]) -> str:
    for name in _VARIABLE.findall(value):
        if name not in secrets:
            raise BadDeclaration(
                f"the header {header} needs {name}, and `.env` beside this file does "
                f"not set it: add the line {name}=…"
            )
    if "${" in _VARIABLE.sub("", value):
        raise BadDeclaration(
            f"the header {header} has a ${{ that names no variable: write ${{NAME}}, "
            "of letters, digits and underscores."
        )
    whole = _VARIABLE.sub(lambda found: secrets[found[1]], value)
    if not _HEADER_VALUE.fullmatch(whole):
        raise BadDeclaration(
            f"the header {header} must be visible ASCII, without a blank at its ends."
        )
    return whole
