"""Hooks that are installed: distributions name them in the entry-point group
`roost.hooks`.

An `agents` process loads them once, when it starts. One that cannot be loaded is
reported and left out; the process serves without it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from agents.hooks import Hooks

GROUP: Final = "roost.hooks"

log = structlog.get_logger(__name__)


def installed_hooks() -> Hooks:
    """Chain what is installed, in the order of the entries' names; the first of two
    with the same name counts."""
    hooks = Hooks()
    names: set[str] = set()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name not in names:
            names.add(entry.name)
            hooks += _load(entry)
    return hooks


def _load(entry: EntryPoint) -> Hooks:
    bound = log.bind(name=entry.name, value=entry.value)
    try:
        found = entry.load()
    except Exception:  # noqa: BLE001 (foreign code; whatever it raises is reported)
        bound.exception("Hooks could not be loaded; Roost goes on without them.")
        return Hooks()
    if not isinstance(found, Hooks):
        bound.error("An entry of roost.hooks is no agents.hooks.Hooks; it is left out.")
        return Hooks()
    bound.info("Hooks are loaded.")
    return found
