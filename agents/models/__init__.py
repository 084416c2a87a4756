"""The models behind one seam; the only place that may import a vendor's SDK."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from agents.models.base import (
    THINKING,
    Delta,
    Model,
    ModelError,
    Request,
    Thinking,
    ToolSpec,
)
from agents.models.demo import DemoModel
from agents.models.failover import Breakers, Failover, Unopened
from agents.models.guarded import Guarded
from agents.models.provider import Access
from agents.models.replay import ReplayModel
from agents.models.scripted import ScriptedModel

__all__ = [
    "PROVIDERS",
    "THINKING",
    "TIERS",
    "Delta",
    "Model",
    "ModelError",
    "Request",
    "Thinking",
    "ToolSpec",
    "access_of",
    "extras_wanted",
    "missing_sdks",
    "open_model",
    "resolve",
]

# A variable of the environment by its name; None when it is not set.
FindVariable = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a provider's adapter is and what it is told; the adapter's module imports
    the SDK, so it is imported when the first model of the provider is opened.

    `tiers` are the models that `fast`, `balanced` and `smart` mean (G115). They are
    names, not promises: a provider's list changes, and ROOST_MODEL names any.
    """

    module: str
    adapter: str
    extra: str
    key_name: str | None
    url_name: str
    tiers: Mapping[str, str]


# What each extra brings.
_SDKS: Final = {"anthropic": "anthropic", "google": "google.genai", "openai": "openai"}

TIERS: Final = ("fast", "balanced", "smart")
DEFAULT_TIER: Final = "balanced"

# In the order in which a key that is set makes one the default.
PROVIDERS: Final[Mapping[str, Provider]] = {
    "anthropic": Provider(
        module="agents.models.anthropic",
        adapter="AnthropicModel",
        extra="anthropic",
        key_name="ANTHROPIC_API_KEY",
        url_name="ANTHROPIC_BASE_URL",
        tiers={
            "fast": "claude-haiku-5-5",
            "balanced": "claude-sonnet-5-5",
            "smart": "claude-opus-5-5",
        },
    ),
    "openai": Provider(
        module="agents.models.openai_responses",
        adapter="ResponsesModel",
        extra="openai",
        key_name="OPENAI_API_KEY",
        url_name="OPENAI_BASE_URL",
        tiers={"fast": "gpt-6-luna", "balanced": "gpt-6-sol", "smart": "gpt-6-astra"},
    ),
    "google": Provider(
        module="agents.models.google",
        adapter="GoogleModel",
        extra="google",
        key_name="GEMINI_API_KEY",
        url_name="GOOGLE_GEMINI_BASE_URL",
        tiers={
            "fast": "gemini-3.6-flash",
            "balanced": "gemini-3.8-flash",
            "smart": "gemini-3.1-pro-preview",
        },
    ),
    "openrouter": Provider(
        module="agents.models.openai_chat",
        adapter="ChatModel",
        extra="openai",
        key_name="OPENROUTER_API_KEY",
        url_name="OPENROUTER_BASE_URL",
        tiers={
            "fast": "anthropic/claude-haiku-5-5",
            "balanced": "anthropic/claude-sonnet-5-5",
            "smart": "anthropic/claude-opus-5-5",
        },
    ),
    # The same key and server as `openai`, by the older protocol that others speak, too.
    "openai-chat": Provider(
        module="agents.models.openai_chat",
        adapter="ChatModel",
        extra="openai",
        key_name="OPENAI_API_KEY",
        url_name="OPENAI_BASE_URL",
        tiers={"fast": "gpt-6-luna", "balanced": "gpt-6-sol", "smart": "gpt-6-astra"},
    ),
    "ollama": Provider(
        module="agents.models.openai_chat",
        adapter="ChatModel",
        extra="openai",
        key_name=None,
        url_name="OLLAMA_HOST",
        tiers={},
    ),
}


def open_model(
    name: str | None,
    find: FindVariable = lambda _: None,
    breakers: Breakers | None = None,
) -> Model:
    """Return the model that `provider/model`, a tier or None (the default) names; of
    several names with a comma between, the first that can answer at each call.

    Raises ModelError with what to do, so that a bad name fails the turn that asked for
    it, and never the process. A key is looked for when a call is made, not here.
    """
    names = [each.strip() for each in resolve(name, find).split(",")]
    if len(names) == 1 or breakers is None:
        models = [_open_one(names[0], find)]
    else:
        models = [_open_if_there(each, find) for each in names]
    is_vendors = any(model.name.partition("/")[0] in PROVIDERS for model in models)
    if breakers is None or not is_vendors:
        return models[0]
    return Failover(models, breakers)


def _open_if_there(wanted: str, find: FindVariable) -> Model:
    """Open one of several: without its SDK the others may serve."""
    try:
        return _open_one(wanted, find)
    except ModelError as error:
        if error.kind != "missing_sdk":
            raise
        return Unopened(wanted, error)


def _open_one(wanted: str, find: FindVariable) -> Model:
    provider, _, rest = wanted.partition("/")
    if wanted == "demo":
        return DemoModel()
    if provider == "scripted" and rest:
        return ScriptedModel.from_file(Path(rest))
    if provider == "replay" and rest:
        return ReplayModel.from_file(Path(rest))
    if provider in PROVIDERS and rest:
        return _open(provider, rest, find)
    known = ", ".join(f"`{each}/MODEL`" for each in PROVIDERS)
    raise ModelError(
        f"There is no model {wanted!r}. Use {known}, `scripted/FILE`, `replay/FILE` "
        "or `demo`.",
        kind="unknown_model",
        is_retriable=False,
    )


def resolve(name: str | None, find: FindVariable) -> str:
    """Return the full name of a model: of a tier the default provider's, of None its
    balanced one; `demo` where no provider has a key."""
    wanted = name or find("ROOST_MODEL") or DEFAULT_TIER
    return ",".join(_resolve(each.strip(), find) for each in wanted.split(","))


def _resolve(name: str, find: FindVariable) -> str:
    if name not in TIERS:
        return name
    default = find("ROOST_MODEL") or DEFAULT_TIER
    if default.partition(",")[0].strip() in TIERS:  # of whoever has a key
        provider = _first_with_key(find) or "demo"
        default = provider
    else:
        provider = default.partition("/")[0]
    if provider not in PROVIDERS or not PROVIDERS[provider].tiers:
        return default
    return f"{provider}/{PROVIDERS[provider].tiers[name]}"


def extras_wanted(find: FindVariable) -> set[str]:
    """Return the extras whose SDKs these variables ask for: of each provider that has a
    key, of an Ollama that has an address, of every vendor that a model's name names."""
    named = [find("ROOST_MODEL") or "", find("ROOST_FAST_MODEL") or ""]
    vendors = {
        each.strip().partition("/")[0] for name in named for each in name.split(",")
    }
    return {
        provider.extra
        for name, provider in PROVIDERS.items()
        if name in vendors or find(provider.key_name or provider.url_name)
    }


def missing_sdks(find: FindVariable) -> set[str]:
    """Return the extras that are wanted and not installed; imports none of them."""
    return {extra for extra in extras_wanted(find) if not _has_sdk(_SDKS[extra])}


def access_of(name: str, find: FindVariable) -> Access:
    """Return how a provider is reached by these variables."""
    provider = PROVIDERS[name]
    return Access(
        provider=name,
        key_name=provider.key_name,
        find_key=lambda: find(provider.key_name) if provider.key_name else None,
        base_url=find(provider.url_name),
    )


def _has_sdk(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of a parent of it
        return False


def _first_with_key(find: FindVariable) -> str | None:
    for name, provider in PROVIDERS.items():
        if provider.key_name and find(provider.key_name):
            return name
    return None


def _open(name: str, model: str, find: FindVariable) -> Model:
    provider = PROVIDERS[name]
    try:
        module: Any = importlib.import_module(provider.module)
    except ImportError as error:
        raise ModelError(
            f"The provider {name} needs its SDK, which is not installed here "
            f"({error.name}): run `make install`, or where there is no Makefile "
            f"pip install 'roost[{provider.extra}]'. Then restart, and retry this "
            "turn.",
            kind="missing_sdk",
            is_retriable=False,
        ) from error
    access = access_of(name, find)
    return Guarded(getattr(module, provider.adapter)(model, access), access)
