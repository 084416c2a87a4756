"""Write the table of docs/explanation/guarantees.md: kill a turn at every point."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.durability import guarantees
from tests.durability.explorer import open_explorer


def main() -> None:
    """Explore every point, and write."""
    with (
        tempfile.TemporaryDirectory(prefix="roost-crash-") as directory,
        open_explorer(Path(directory)) as explorer,
    ):
        points = explorer.reference()
        outcomes = explorer.explore(points, range(1, len(points) + 1))
    guarantees.write_table(guarantees.table_of(guarantees.rows(points, outcomes)))
    print(f"{len(points)} crash points → {guarantees.PAGE}")


if __name__ == "__main__":
    main()
