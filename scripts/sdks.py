"""Print `models` when the settings of this directory name a provider, else nothing.

`make install` asks it which pinned set is wanted beside the base. Settings are read as
every process of Roost reads them, so a key in `.env` counts as one in the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print the wanted set; with settings that cannot be used, say so and return 1."""
    sys.path.insert(0, str(ROOT))
    from agents.models import extras_wanted
    from broker.errors import SettingsError
    from broker.settings import load

    try:
        wanted = extras_wanted(load().environ.get)
    except SettingsError as error:
        print(f"roost: {error.detail}", file=sys.stderr)
        return 1
    if wanted:
        print("models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
