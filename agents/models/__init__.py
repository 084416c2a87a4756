"""The models behind one seam; the only place that may import a vendor's SDK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agents.models.base import Delta, Model, ModelError, Request, ToolSpec
from agents.models.demo import DemoModel
from agents.models.scripted import ScriptedModel

__all__ = ["Delta", "Model", "ModelError", "Request", "ToolSpec", "open_model"]

# Providers by the variable that holds their key, in the order in which they are chosen.
KEYS: Final[Mapping[str, str]] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "google": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}


def open_model(name: str | None) -> Model:
    """Return the model that `provider/model` names; None names the demo.

    Raises ModelError with what to do, so that a bad name fails the turn that asked for
    it, and never the process.
    """
    provider, _, rest = (name or "demo").partition("/")
    if provider == "demo":
        return DemoModel()
    if provider == "scripted" and rest:
        return ScriptedModel.from_file(Path(rest))
    raise ModelError(
        f"No adapter serves the model {name!r} in this version. "
        "Use `demo` or `scripted/FILE`.",
        kind="unknown_model",
        is_retriable=False,
    )
