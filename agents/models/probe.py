"""Whether a model can call tools, asked of its provider before the first turn (A2).

Nothing is generated, so it costs nothing: OpenRouter has a catalogue, an Ollama tells
what a model can do; of the others, what is known by name. What is not known is not
refused: the first call will tell.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from agents.models.base import ModelError
from agents.models.catalogue import UNKNOWN, known
from agents.models.ollama import ollama_root
from agents.models.provider import Access

PATIENCE_SECONDS: Final = 5.0

# Of what is said about an error, so much is read.
_READ_BYTES: Final = 10_000

OPENROUTER_URL: Final = "https://openrouter.ai/api/v1"

# What an agent's prompt and tools take before anything is said.
_SMALL_WINDOW_TOKENS: Final = 16_384
# Ollama's own window where nobody has set one.
_OLLAMA_DEFAULT_TOKENS: Final = 4096
# What models are called that hear, draw or measure, and call nothing.
_TOOLLESS: Final = re.compile(
    r"embed|whisper|dall-e|moderation|transcribe|imagen|(^|[-/])(tts|image)($|-)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found: `ok` is None when nobody could be asked, or nobody knows."""

    ok: bool | None
    detail: str


class Silent(Exception):
    """Nobody answered, or with an error; the message says why."""

    def __init__(self, said: str, status: int | None = None, body: str = "") -> None:
        super().__init__(said)
        self.status, self.body = status, body

    @property
    def says_missing(self) -> bool:
        """Whether it is the model that there is none of: a server that speaks another
        protocol answers 404, too."""
        return self.status == 404 and "not found" in self.body and "model" in self.body


def probe(name: str, access: Access) -> Probe:
    """Ask whether `provider/model` can call tools, within 5 s.

    Never raises: whatever is wrong is said in `detail`, for people.
    """
    provider, _, model = name.partition("/")
    try:
        if provider == "openrouter":
            return _ask_openrouter(model, access)
        if provider == "ollama":
            return _ask_ollama(model, access)
    except Silent as silent:
        return Probe(ok=None, detail=f"{name} could not be checked: {silent}")
    except ModelError as error:
        return Probe(ok=False, detail=str(error))
    return _look_up(name)


def _look_up(name: str) -> Probe:
    if _TOOLLESS.search(name.lower()):
        return Probe(
            ok=False,
            detail=f"{name} cannot call tools, by its name: choose a model that "
            "converses.",
        )
    if known(name) is UNKNOWN:
        return Probe(
            ok=None,
            detail=f"{name} is not known here; whether it can call tools, "
            "its first turn will show.",
        )
    return Probe(ok=True, detail=f"{name} is known to call tools.")


def _ask_openrouter(model: str, access: Access) -> Probe:
    url = f"{(access.base_url or OPENROUTER_URL).rstrip('/')}/models"
    listed = within_patience(Request(url))
    entries = {
        str(entry.get("id")): entry
        for entry in _list_of(listed, "data")
        if isinstance(entry, dict)
    }
    # `model:nitro` and the like are ways to be routed, and stand in no list.
    entry = entries.get(model) or entries.get(model.partition(":")[0])
    if entry is None:
        return Probe(
            ok=False,
            detail=f"OpenRouter has no model {model!r}; "
            "https://openrouter.ai/models lists what it has.",
        )
    if "tools" in _list_of(entry, "supported_parameters"):
        return Probe(ok=True, detail=f"{model} can call tools, says OpenRouter.")
    return Probe(
        ok=False,
        detail=f"{model} cannot call tools, says OpenRouter: choose a model whose "
        "supported parameters have `tools`.",
    )


def _ask_ollama(model: str, access: Access) -> Probe:
    root = ollama_root(access.base_url)
    asked = Request(
        f"{root}/api/show",
        data=json.dumps({"model": model}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        shown = within_patience(asked)
    except Silent as silent:
        if not silent.says_missing:
            raise
        return Probe(
            ok=False,
            detail=f"The Ollama at {root} has no model {model!r}: "
            f"run `ollama pull {model}`.",
        )
    if "tools" not in _list_of(shown, "capabilities"):
        return Probe(
            ok=False,
            detail=f"{model} cannot call tools, says Ollama: choose one from "
            "https://ollama.com/search?c=tools.",
        )
    can = f"{model} can call tools, says Ollama."
    return Probe(ok=True, detail=f"{can} {_window(model, shown)}".rstrip())


def _window(model: str, shown: Mapping[str, Any]) -> str:
    """Warn of a window that cuts conversations off: Ollama does so in silence, and
    its Chat Completions take no other size."""
    tokens = _set_window(shown)
    if tokens is not None and tokens >= _SMALL_WINDOW_TOKENS:
        return ""
    of_model = _largest_window(shown)
    largest = "" if of_model is None else f" (it was made for {of_model})"
    has = (
        f"Its num_ctx is {tokens} tokens{largest}"
        if tokens is not None
        else f"It sets no num_ctx{largest}, so its window is the server's, by default "
        f"{_OLLAMA_DEFAULT_TOKENS} tokens"
    )
    return (
        f"{has}; what is longer, Ollama cuts off without a word. Start the server with "
        f"OLLAMA_CONTEXT_LENGTH={_SMALL_WINDOW_TOKENS} or more, or make a model of "
        f"{model} with `PARAMETER num_ctx {_SMALL_WINDOW_TOKENS}`, and set "
        "ROOST_CONTEXT_TOKENS to the same."
    )


def _set_window(shown: Mapping[str, Any]) -> int | None:
    """Read num_ctx out of the parameters, which are lines of text."""
    for line in str(shown.get("parameters") or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdigit():
            return int(words[1])
    return None


def _largest_window(shown: Mapping[str, Any]) -> int | None:
    about = shown.get("model_info")
    sizes = about.items() if isinstance(about, dict) else ()
    found = (size for name, size in sizes if name.endswith(".context_length"))
    return next((size for size in found if isinstance(size, int)), None)


def _list_of(found: Any, name: str) -> list[Any]:
    listed = found.get(name) if isinstance(found, dict) else None
    return listed if isinstance(listed, list) else []


def within_patience(request: Request) -> Any:
    """Return the JSON of an answer; raise Silent where there is none in 5 s.

    In a thread of its own: a time limit of urllib's holds for each read, and for no
    look-up of a name.
    """
    answers: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_fetch(request))
        except Silent as silent:
            answers.put(silent)

    threading.Thread(target=ask, name="probe", daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE_SECONDS)
    except Empty:
        raise Silent(
            f"{request.full_url} did not answer within {PATIENCE_SECONDS:.0f} s."
        ) from None
    if isinstance(answer, Silent):
        raise answer
    return answer


def _fetch(request: Request) -> Any:
    url = request.full_url
    if request.type not in ("http", "https"):
        raise Silent(f"{url} is no address of the web.")
    try:
        with urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return json.load(response)
    except HTTPError as error:
        said = f"{url} answered {error.code}."
        raise Silent(said, error.code, _body_of(error)) from error
    except URLError as error:
        raise Silent(f"{url} is not reachable ({error.reason}).") from error
    except (OSError, HTTPException) as error:
        raise Silent(f"{url} is not reachable ({error}).") from error
    except ValueError as error:
        raise Silent(f"{url} answered something that is no JSON.") from error


def _body_of(error: HTTPError) -> str:
    with error, suppress(OSError, HTTPException):
        return error.read(_READ_BYTES).decode(errors="replace")
    return ""
