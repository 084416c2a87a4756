"""What `roost doctor` is told about models: the entry point `models` of `roost.checks`.

The command line knows no model; it asks whoever has put a function there. Without
`online` nothing leaves this machine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Final

from agents.models import (
    PROVIDERS,
    ModelError,
    access_of,
    extras_wanted,
    missing_sdks,
    open_model,
    resolve,
)
from agents.models.checkup import Found, check_up, check_up_ollama
from agents.models.ollama import PORT as OLLAMA_PORT
from broker.doctor import Check
from broker.settings import Settings
from workers.variables import Variables

FindVariable = Callable[[str], str | None]

# An Ollama on this machine takes a connection in far less.
OLLAMA_SECONDS: Final = 0.2
INSTALL: Final = "make install"


def checks(settings: Settings, *, online: bool) -> Iterator[Check]:
    """Look at the models that these settings name; with `online`, ask their providers
    about them, in calls that cost nothing."""
    find = Variables(settings).find
    yield _default(find)
    yield _sdks(find)
    if online:
        yield from _providers(find)


def _default(find: FindVariable) -> Check:
    name = resolve(None, find)
    if name == "demo":
        keys = ", ".join(each for each in _key_names() if each != "OPENROUTER_API_KEY")
        return Check(
            name="model",
            status="ok",
            detail="demo: no provider has a key, so rules answer in place of a model",
            fix=f"For a model: {keys} or OPENROUTER_API_KEY in .env, then {INSTALL}.",
        )
    try:
        open_model(name, find)
    except ModelError as error:
        fix = INSTALL if error.kind == "missing_sdk" else "Change ROOST_MODEL."
        return Check(name="model", status="fail", detail=str(error), fix=fix)
    missing = [key for key in map(_key_name, _each(name)) if key and not find(key)]
    if missing:
        several = len(missing) < len(_each(name))
        return Check(
            name="model",
            status="warn" if several else "fail",
            detail=f"{name} needs {' and '.join(missing)}, which is not set",
            fix=f"Put it into .env: {missing[0]}=…",
        )
    served = " then ".join(each.partition("/")[0] for each in _each(name))
    return Check(name="model", status="ok", detail=f"{name}, served by {served}")


def _sdks(find: FindVariable) -> Check:
    missing, wanted = sorted(missing_sdks(find)), sorted(extras_wanted(find))
    if missing:
        return Check(
            name="sdks",
            status="fail",
            detail=f"not installed: {', '.join(missing)}",
            fix=INSTALL,
        )
    said = f"installed: {', '.join(wanted)}" if wanted else "none is needed"
    return Check(name="sdks", status="ok", detail=said)


def _providers(find: FindVariable) -> Iterator[Check]:
    """One check of each provider that is set up, by the models that are named of it."""
    named = ",".join(find(name) or "" for name in ("ROOST_MODEL", "ROOST_FAST_MODEL"))
    models = _each(named)
    has_any = False
    for provider, each in PROVIDERS.items():
        wanted = [name for name in models if name.partition("/")[0] == provider]
        if not wanted and (not each.key_name or not find(each.key_name)):
            continue
        if not wanted and provider == "openai-chat":
            continue  # `openai` by its older protocol, which nobody has named
        has_any = True
        for name in wanted or [f"{provider}/{each.tiers['balanced']}"]:
            yield _check(provider, check_up(name, access_of(provider, find)))
    is_named = any(name.startswith("ollama/") for name in models)
    if not is_named and (find("OLLAMA_HOST") or _ollama_is_here()):
        yield _check("ollama", check_up_ollama(access_of("ollama", find)))
    elif not has_any:
        yield Check(name="providers", status="ok", detail="none has a key")


def _check(provider: str, found: Found) -> Check:
    status = {True: "ok", False: "fail", None: "warn"}[found.ok]
    return Check(
        name=provider,
        status=status,  # type: ignore[arg-type]
        detail=found.detail,
        fix=found.fix,
    )


def _ollama_is_here() -> bool:
    address = ("127.0.0.1", OLLAMA_PORT)
    try:
        with socket.create_connection(address, timeout=OLLAMA_SECONDS):
            return True
    except OSError:
        return False


def _each(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _key_name(model: str) -> str | None:
    provider = PROVIDERS.get(model.partition("/")[0])
    return provider.key_name if provider else None


def _key_names() -> list[str]:
    names = [each.key_name for each in PROVIDERS.values() if each.key_name]
    return list(dict.fromkeys(names))
