"""How Bun is called: everything it would otherwise pick up by itself is off."""

from collections.abc import Mapping
from pathlib import Path

BOOTSTRAP = Path(__file__).parent / "runtime" / "bootstrap.ts"

# No package is fetched for a misspelt import; no bunfig.toml, .env of the directory is
# read (each could run code before the job's: measured with Bun 1.4.4).
FLAGS = ["--no-install", "--config=/dev/null", "--env-file=/dev/null"]

# Nothing is cached or sent home by the runtime itself.
QUIET = {"BUN_RUNTIME_TRANSPILER_CACHE_PATH": "0", "DO_NOT_TRACK": "1"}


def bun_arguments(
    *flags: str, bootstrap: str, channel: int, task: str, bindings: str | None = None
) -> list[str]:
    """What Bun is called with to run `task` and report on descriptor `channel`."""
    files = [task] if bindings is None else [task, bindings]
    return [*FLAGS, *flags, bootstrap, str(channel), *files]


def environment(*, home: str, granted: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a job."""
    fixed = {"PATH": "/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"}
    return {**fixed, **QUIET, **granted}
