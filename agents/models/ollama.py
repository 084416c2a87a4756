"""Where an Ollama is, by what OLLAMA_HOST says, read as Ollama itself reads it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from agents.models.base import ModelError

PORT: Final = 11434
# What the server listens on, said by those who set the variable for the server.
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})


def ollama_root(host: str | None) -> str:
    """Return the URL of a server, without a slash: `host[:port]`, a URL, or None.

    Raises ModelError for anything else.
    """
    given = (host or "").strip().rstrip("/")
    try:
        return _root(given)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"OLLAMA_HOST is {host!r}, which is no address: "
            f"set it to host, host:port or a URL, as in 127.0.0.1:{PORT}.",
            kind="bad_address",
            is_retriable=False,
        ) from error


def _root(given: str) -> str:
    has_scheme = "://" in given
    parts = urlsplit(given if has_scheme else f"http://{given}")
    standard = {"http": 80, "https": 443}[parts.scheme] if has_scheme else PORT
    name = parts.hostname or ""
    if name in _EVERYWHERE:
        name = "127.0.0.1"
    if ":" in name:
        name = f"[{name}]"
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{name}:{parts.port or standard}{path}"


def ollama_url(host: str | None) -> str:
    """Return the base URL of its Chat Completions."""
    return f"{ollama_root(host)}/v1"
