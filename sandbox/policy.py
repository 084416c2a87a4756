"""Policy: the limits of a job and what it is granted.

A policy made by an operator can only be narrowed on its way to the job; nothing here
can widen one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

from sandbox.errors import PolicyError

MIB = 1024 * 1024
# Bun alone is resident with 20 to 90 MB (measured, Bun 1.4.4).
LEAST_MEMORY_BYTES = 128 * MIB
# Bun opens about 20 descriptors and starts about 15 threads before any code runs.
LEAST_OPEN_FILES = 64
LEAST_PROCESSES = 32
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and grants of one job. `None` for `cpu_seconds` means wall time decides.

    `memory_bytes` counts the resident memory of all processes of the job together,
    `processes` its processes and threads, `file_bytes` the largest single file,
    `disk_bytes` all files, `output_bytes` stdout and stderr together, `result_bytes`
    the JSON of the result. `env` is the whole of what the job's environment is granted.
    """

    wall_seconds: float = 60.0
    cpu_seconds: float | None = None
    memory_bytes: int = 1024 * MIB
    processes: int = 128
    open_files: int = 256
    file_bytes: int = 64 * MIB
    disk_bytes: int = 128 * MIB
    output_bytes: int = MIB
    result_bytes: int = MIB
    network: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name))

    def narrow(self, **changes: object) -> Self:
        """Return this policy with `changes`, none of which may be wider.

        Raises `PolicyError` naming the field, what was asked and what is allowed, for
        a wider value, a value of the wrong type and an unknown field.
        """
        known = {item.name for item in fields(self)}
        for name, asked in changes.items():
            if name not in known:
                allowed = f"one of {', '.join(sorted(known))}"
                raise PolicyError(name, asked=asked, allowed=allowed)
            _check(name, asked)
            _check_narrower(name, asked, getattr(self, name))
        return replace(self, **changes)  # type: ignore[arg-type]  # checked above


LEAST: Mapping[str, int] = {
    "memory_bytes": LEAST_MEMORY_BYTES,
    "open_files": LEAST_OPEN_FILES,
    "processes": LEAST_PROCESSES,
}


def _check(name: str, value: object) -> None:
    if name == "env":
        _check_env(value)
    elif name == "network":
        if not isinstance(value, bool):
            raise PolicyError(name, asked=value, allowed="true or false")
    elif name != "cpu_seconds" or value is not None:
        _check_number(name, value)


def _check_number(name: str, value: object) -> None:
    kind = (int, float) if name.endswith("_seconds") else (int,)
    noun = "a number of seconds" if name.endswith("_seconds") else "a whole number"
    least = LEAST.get(name, 0)
    wanted = f"{noun}, {least} or more" if least else f"{noun} above 0"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise PolicyError(name, asked=value, allowed=wanted)
    if not 0 < value < float("inf") or value < least:
        raise PolicyError(name, asked=value, allowed=wanted)


def _check_env(value: object) -> None:
    if not isinstance(value, Mapping):
        raise PolicyError("env", asked=value, allowed="names and values")
    for name, text in value.items():
        if not isinstance(name, str) or not ENVIRONMENT_NAME.match(name):
            raise PolicyError("env", asked=name, allowed="names like API_URL")
        if not isinstance(text, str) or "\0" in text:
            # The value may be a secret: an error message is no place for it.
            asked = f"a {type(text).__name__} for {name}"
            raise PolicyError("env", asked=asked, allowed="text without NUL")


def _check_narrower(name: str, asked: object, allowed: object) -> None:
    if isinstance(asked, Mapping) and isinstance(allowed, Mapping):
        extra = sorted(key for key in asked if asked[key] != allowed.get(key))
        if extra:
            granted = f"a part of {sorted(allowed)}, values unchanged"
            raise PolicyError(name, asked=extra, allowed=granted)
    elif allowed is not None and (asked is None or _number(asked) > _number(allowed)):
        raise PolicyError(name, asked=asked, allowed=f"at most {allowed}")


def _number(value: object) -> float:
    assert isinstance(value, (int, float))  # _check has seen to it
    return value
