"""How a system prompt is put together from what a home and an agent say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BASE: Final = (
    "You are an agent that lives in Roost. You take turns: each message wakes you, you "
    "answer it, and you sleep again. To compute or to act, write TypeScript and run "
    "it with the exec tool: it runs with Bun in a sandbox without network, sets "
    "globalThis.result, and may import from core/… and tools/…. Tell people what you "
    "found, not what you plan."
)
# MEMORY.md is cut to this many characters: the head and the tail of it (G56).
MEMORY_CHARACTERS: Final = 8_000
# The notes of a day (G112) are shown to half of that: there are two days of them.
NOTES_CHARACTERS: Final = 4_000
_HEAD, _TAIL = 0.7, 0.2


def compose(
    printed: str | None, memory: str, own: str, notes: Mapping[str, str] | None = None
) -> str:
    """Join the home's prompt (or the built-in one), its memory, its notes by their day
    and the agent's text."""
    parts = [printed or BASE]
    if memory.strip():
        parts.append(f"## Workspace Context\n\n{cut_middle(memory.strip())}")
    for day, text in (notes or {}).items():
        if text.strip():
            cut = cut_middle(text.strip(), NOTES_CHARACTERS)
            parts.append(f"## Notes of {day}\n\n{cut}")
    if own.strip():
        parts.append(own.strip())
    return "\n\n".join(parts)


def cut_middle(text: str, limit: int = MEMORY_CHARACTERS) -> str:
    """Keep the first 70 % and the last 20 % of a limit, and say what is missing."""
    if len(text) <= limit:
        return text
    head, tail = int(limit * _HEAD), int(limit * _TAIL)
    missing = len(text) - head - tail
    return f"{text[:head]}\n[… {missing} characters left out …]\n{text[-tail:]}"
