"""What the full-text index costs an append, on SQLite: the same entries with and
without it, for texts of three lengths and both durabilities.

Words are drawn as in natural text (few often, most seldom). Nothing is written outside
a temporary directory. Usage: python bench/search.py
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measure import median, percentile

from broker import agents, entries, open_broker, search
from broker.agents import AgentChange
from broker.entries import NewEntry
from broker.settings import load

APPENDS: Final = 1_000
ROUNDS: Final = 3
LENGTHS: Final = (100, 1_000, 16_000)
VOCABULARY: Final = 20_000
INDEX: Final = search.index


def main() -> None:
    """Print one line for each case: median over rounds."""
    words = ["".join(random.choices("aeiourstlnm", k=8)) for _ in range(VOCABULARY)]
    weights = [1 / (rank + 1) for rank in range(VOCABULARY)]
    print("durability  characters  index    p50 ms    p99 ms")
    for durability in ("process", "power"):
        for length in LENGTHS:
            count = length // 9 + 1
            texts = [
                " ".join(random.choices(words, weights, k=count))[:length]
                for _ in range(50)
            ]
            for name, index in (("no", _nothing), ("yes", INDEX)):
                rounds = [_round(durability, texts, index) for _ in range(ROUNDS)]
                p50 = median([percentile(each, 0.5) for each in rounds])
                p99 = median([percentile(each, 0.99) for each in rounds])
                print(f"{durability:10}  {length:10}  {name:5} {p50:9.3f} {p99:9.3f}")


def _nothing(*_: object) -> None:
    """Index nothing."""


def _round(
    durability: str, texts: list[str], index: Callable[..., None]
) -> list[float]:
    """Append entries, each in a transaction of its own; return the milliseconds."""
    search.index = index
    with tempfile.TemporaryDirectory() as directory:
        environ = {"ROOST_HOME": directory, "ROOST_DURABILITY": durability}
        broker = open_broker(load(environ, cwd=Path(directory)))
        with broker.database.write() as tx:
            agents.upsert(tx, "scout", AgentChange())
        taken = [
            _append(broker.database, texts[n % len(texts)]) for n in range(APPENDS)
        ]
        broker.close()
    return taken


def _append(database: object, text: str) -> float:
    said = [{"type": "text", "text": text}]
    entry = NewEntry(type="tool_result", role="tool", content=said)
    began = time.perf_counter()
    with database.write() as tx:  # type: ignore[attr-defined]
        entries.append(tx, "scout", 1, "turn-1", entry)
    return (time.perf_counter() - began) * 1_000


if __name__ == "__main__":
    main()
