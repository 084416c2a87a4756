"""What the environment says: read here, once per process, and nowhere else.

The process's own environment wins over `.env` in the working directory, which wins over
`.env` in the home directory.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from dotenv import dotenv_values

from broker.errors import SettingsError
from broker.lifeline import environment_of, parent_of

DEFAULT_PORT: Final = 8080
TOKEN_BYTES: Final = 32
STORES: Final = ("sqlite:///", "postgresql://")
QUEUES: Final = (*STORES, "redis://")

Durability = Literal["power", "process"]
SandboxMode = Literal["auto", "required", "off"]
T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; paths are absolute."""

    home: Path
    host: str
    port: int
    token: str | None
    database_url: str
    queue_url: str
    durability: Durability
    sandbox: SandboxMode
    model: str | None
    fast_model: str | None
    context_tokens: int | None
    bun: str | None
    # Where model calls are dumped; None: nowhere.
    model_debug_directory: Path | None
    # USD per million tokens, by model or `provider/*`.
    prices: Mapping[str, Mapping[str, float]]
    limits: Mapping[str, Mapping[str, float]]
    environ: Mapping[str, str]
    # What of it was given to the process itself, and not by a `.env`.
    process_environ: Mapping[str, str]

    @property
    def run_directory(self) -> Path:
        """Where the sockets of this home live."""
        return self.home / "run"

    @property
    def on_sqlite(self) -> bool:
        """Whether the truth is one SQLite file on this machine."""
        return self.database_url.startswith("sqlite:")

    @property
    def database_path(self) -> Path:
        """The SQLite file; meaningful only when `on_sqlite`."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def queue_path(self) -> Path:
        """Huey's SQLite file; meaningful only for an sqlite queue URL."""
        return Path(self.queue_url.removeprefix("sqlite:///"))

    @property
    def sqlite_files(self) -> tuple[Path, ...]:
        """The SQLite files in use, for whoever has to keep away from them."""
        scheme = "sqlite:///"
        urls = (self.database_url, self.queue_url)
        return tuple(
            Path(url.removeprefix(scheme)) for url in urls if url.startswith(scheme)
        )


def load(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """Read the settings; raise SettingsError naming a variable it cannot use."""
    process = _process_environment() if environ is None else dict(environ)
    local = read_dotenv((cwd or Path.cwd()) / ".env")
    home = _home({**local, **process})
    values = {**read_dotenv(home / ".env"), **local, **process}
    return Settings(
        home=home,
        host=values.get("ROOST_HOST") or "127.0.0.1",
        port=_port(values.get("PORT")),
        token=values.get("ROOST_TOKEN") or _read_token(home),
        database_url=_url(values, "ROOST_DATABASE_URL", home / "roost.db", STORES),
        queue_url=_url(values, "ROOST_QUEUE_URL", home / "queue.db", QUEUES),
        durability=_one_of(values, "ROOST_DURABILITY", ("power", "process")),
        sandbox=_one_of(values, "ROOST_SANDBOX", ("auto", "required", "off")),
        model=values.get("ROOST_MODEL") or None,
        fast_model=values.get("ROOST_FAST_MODEL") or None,
        context_tokens=_tokens(values.get("ROOST_CONTEXT_TOKENS")),
        bun=values.get("ROOST_BUN") or None,
        model_debug_directory=_directory(values.get("ROOST_MODEL_DEBUG_DIR")),
        prices=_prices(values.get("ROOST_PRICES")),
        limits=_limits(values.get("ROOST_LIMITS")),
        environ=values,
        process_environ=_given_environment() if environ is None else process,
    )


def _process_environment() -> dict[str, str]:
    """The environment, with what a person gave before all else.

    honcho lets `.env` win over that and makes up a PORT per process (5000, 5100, …).
    """
    found = dict(os.environ)
    if "HONCHO_PROCESS_NAME" in found:
        found.pop("PORT", None)
    return found | _given_environment()


def _given_environment() -> dict[str, str]:
    """The environment that a person gave: below honcho, honcho's own."""
    if "HONCHO_PROCESS_NAME" in os.environ:
        return environment_of(parent_of(os.getppid()))
    return dict(os.environ)


def ensure_token(settings: Settings) -> str:
    """Return the token, making and keeping one (mode 0600) on the first start."""
    if settings.token:
        return settings.token
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "token"
    token = secrets.token_urlsafe(TOKEN_BYTES)
    descriptor, draft = tempfile.mkstemp(dir=settings.home, prefix="token.")
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    try:
        os.link(draft, path)  # whole or not at all: others may read it at once
    except FileExistsError:
        return _get_token(settings.home)
    finally:
        Path(draft).unlink()
    return token


def _get_token(home: Path) -> str:
    token = _read_token(home)
    if token is None:
        raise SettingsError(
            f"{home / 'token'} is empty. Remove it and start again to have one made."
        )
    return token


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a `.env`; none where there is no file."""
    found = dotenv_values(path) if path.is_file() else {}
    return {name: value for name, value in found.items() if value is not None}


def _home(values: Mapping[str, str]) -> Path:
    if named := values.get("ROOST_HOME"):
        return Path(named).expanduser().absolute()
    data = values.get("XDG_DATA_HOME")
    base = (
        Path(data)
        if data
        else Path(values.get("HOME", "~")).expanduser() / ".local/share"
    )
    return (base / "roost").absolute()


def _directory(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingsError(f"PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def _tokens(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise SettingsError(
            f"ROOST_CONTEXT_TOKENS is {text!r}; it must be a number of tokens, "
            "or 0 for no compaction that nobody asked for."
        )
    return int(text)


def _prices(text: str | None) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise SettingsError(f"ROOST_PRICES is not JSON ({error}). {_PRICES}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"ROOST_PRICES is no JSON object. {_PRICES}")
    for model, price in found.items():
        if not _is_price(price):
            raise SettingsError(
                f"ROOST_PRICES gives {model!r} the price {json.dumps(price)}. {_PRICES}"
            )
    return found


_PRICES: Final = (
    'It must be like {"openai/gpt-6-sol": {"input": 2, "output": 10, "cache_read": '
    '0.2, "cache_write": 2.5}, "ollama/*": {"input": 0, "output": 0}}: US dollars per '
    "million tokens, those for a cache optional."
)


_LIMITS: Final = (
    'It must be like {"anthropic/*": {"requests_per_minute": 50, "tokens_per_minute": '
    '200000, "in_flight": 8}, "openai/gpt-6-sol": {"in_flight": 4}}: numbers above 0, '
    "for a model or for all of a provider."
)
_LIMIT_UNITS: Final = {"requests_per_minute", "tokens_per_minute", "in_flight"}


def _limits(text: str | None) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise SettingsError(f"ROOST_LIMITS is not JSON ({error}). {_LIMITS}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"ROOST_LIMITS is no JSON object. {_LIMITS}")
    for name, limit in found.items():
        if not _is_limit(limit):
            raise SettingsError(
                f"ROOST_LIMITS gives {name!r} the limit {json.dumps(limit)}. {_LIMITS}"
            )
    return found


def _is_limit(limit: object) -> bool:
    return (
        isinstance(limit, dict)
        and bool(limit)
        and limit.keys() <= _LIMIT_UNITS
        and all(
            type(each) in (int, float) and 0 < each < float("inf")
            for each in limit.values()
        )
    )


def _is_price(price: object) -> bool:
    return (
        isinstance(price, dict)
        and {"input", "output"} <= set(price)
        and set(price) <= {"input", "output", "cache_read", "cache_write"}
        and all(_is_amount(each) for each in price.values())
    )


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _url(
    values: Mapping[str, str], name: str, path: Path, schemes: tuple[str, ...]
) -> str:
    url = values.get(name) or f"sqlite:///{path}"
    if not url.startswith(schemes):
        raise SettingsError(f"{name} must begin with one of {', '.join(schemes)}.")
    return url


def _one_of(values: Mapping[str, str], name: str, allowed: tuple[T, ...]) -> T:
    text = values.get(name) or allowed[0]
    for value in allowed:
        if text == value:
            return value
    raise SettingsError(f"{name} is {text!r}; it must be one of {', '.join(allowed)}.")


def _read_token(home: Path) -> str | None:
    path = home / "token"
    return (path.read_text().strip() or None) if path.is_file() else None
