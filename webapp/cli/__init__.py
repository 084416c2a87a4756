"""The `roost` command: mostly an HTTP client of a running Roost.

Nothing heavy is imported here: `roost --help` has to be quick, so each command brings
in requests, rich and the broker when it runs, and not before.
"""

from __future__ import annotations

from webapp.cli.group import roost

__all__ = ["main", "roost"]


def main() -> None:
    """Run the command line; the console script `roost` starts here."""
    roost(prog_name="roost")
