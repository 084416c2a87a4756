"""Whether a provider can be used: its key, the model, and whether that calls tools.

Asked for the doctor, in requests that generate nothing and so cost nothing: what a
model is, what a key may, what an Ollama has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from urllib.request import Request

from agents.models.base import ModelError
from agents.models.ollama import ollama_root
from agents.models.probe import (
    OPENROUTER_URL,
    Probe,
    Silent,
    probe,
    within_patience,
)
from agents.models.provider import Access

# As the SDK that is pinned says it.
_ANTHROPIC_VERSION: Final = "2026-10-21"
_URLS: Final[Mapping[str, str]] = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
    "openai-chat": "https://api.openai.com/v1",
    "google": "https://generativelanguage.googleapis.com",
    "openrouter": OPENROUTER_URL,
}
_REFUSED: Final = frozenset({401, 403})
_MODELS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a check-up found. `ok` is None when nobody answered, or nobody knows; `fix`
    says what to do, where there is something to be done."""

    ok: bool | None
    detail: str
    fix: str | None = None


def check_up(name: str, access: Access) -> Found:
    """Ask about `provider/model`, within 10 s. Never raises."""
    if access.key_name and not access.find_key():
        detail = f"{name} cannot be asked: there is no key."
        return Found(ok=False, detail=detail, fix=_set_key(access))
    try:
        if access.key_name:
            within_patience(_question(name, access))
    except Silent as silent:
        return _refused(name, access, silent)
    found = probe(name, access)
    good = f"{access.key_name} is good. " if access.key_name else ""
    return Found(ok=found.ok, detail=good + found.detail, fix=_fix(name, found))


def check_up_ollama(access: Access) -> Found:
    """Ask an Ollama, of which no model is named, which ones it has."""
    try:
        root = ollama_root(access.base_url)
        listed = within_patience(Request(f"{root}/api/tags"))
    except (Silent, ModelError) as error:
        return Found(ok=None, detail=str(error), fix="ollama serve")
    names = list(_names(listed))
    if not names:
        detail = f"The Ollama at {root} has no model."
        return Found(ok=None, detail=detail, fix="ollama pull qwen3")
    return Found(
        ok=True,
        detail=f"The Ollama at {root} has {', '.join(names[:_MODELS_SHOWN])}.",
        fix=f"To use it: ROOST_MODEL=ollama/{names[0]} in .env, then make install.",
    )


def _question(name: str, access: Access) -> Request:
    provider, _, model = name.partition("/")
    url = (access.base_url or _URLS[provider]).rstrip("/")
    named = quote(model, safe=":")
    bearer = {"Authorization": f"Bearer {access.key()}"}
    if provider == "openrouter":
        return Request(f"{url}/key", headers=bearer)
    if provider == "anthropic":
        versioned = {**bearer, "anthropic-version": _ANTHROPIC_VERSION}
        return Request(f"{url}/v1/models/{named}", headers=versioned)
    if provider == "google":
        key = {"x-goog-api-key": access.key()}
        return Request(f"{url}/v1/models/{named}", headers=key)
    return Request(f"{url}/models/{named}", headers=bearer)


def _refused(name: str, access: Access, silent: Silent) -> Found:
    # Google says 400 to a key that is none.
    is_bad_key = silent.status == 400 and "API_KEY_INVALID" in silent.body
    if is_bad_key or silent.status in _REFUSED:
        return Found(
            ok=False,
            detail=f"{access.provider} refuses the key in {access.key_name} "
            f"({silent.status}).",
            fix=_set_key(access),
        )
    if silent.status == 404 and access.base_url is None:
        named = name.partition("/")[2]
        return Found(
            ok=False,
            detail=f"{access.provider} has no model {named!r}, or none for this key.",
            fix="Name another in ROOST_MODEL, or in the agent's `model`.",
        )
    return Found(ok=None, detail=f"{name} could not be checked: {silent}")


def _fix(name: str, found: Probe) -> str | None:
    if found.ok is not False:
        return None
    provider, _, model = name.partition("/")
    if provider == "ollama" and "has no model" in found.detail:
        return f"ollama pull {model}"
    return "Name another in ROOST_MODEL, or in the agent's `model`."


def _set_key(access: Access) -> str:
    return f"Put a key that is good into .env: {access.key_name}=…"


def _names(listed: Any) -> Iterator[str]:
    models = listed.get("models") if isinstance(listed, dict) else None
    for each in models if isinstance(models, list) else ():
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield each["name"]
