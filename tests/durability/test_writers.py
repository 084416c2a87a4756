"""Eight processes write at once: none is refused, none starves, none waits long."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
WRITERS: Final = 8
SECONDS: Final = 4.0
SHARE: Final = 0.4  # of what the luckiest writer got
P999_SECONDS: Final = 0.150
# Measured again, twice at most, when the machine was busy with something else.
TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What eight writers got in one try."""

    claims: list[int]
    waits: list[float]

    @property
    def share(self) -> float:
        return min(self.claims) / max(self.claims)

    @property
    def p999_seconds(self) -> float:
        return sorted(self.waits)[int(0.999 * len(self.waits))]

    @property
    def is_fair_and_fast(self) -> bool:
        return self.share >= SHARE and self.p999_seconds < P999_SECONDS


def _measure(home: Path) -> Measured:
    """Run all writers at once; an error in any of them fails."""
    command = [sys.executable, "-m", "tests.durability.writer", str(home), str(SECONDS)]
    writers = [
        subprocess.Popen(
            [*command, f"writer-{number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    found = [_result_of(writer) for writer in writers]
    return Measured(
        claims=[each["claimed"] for each in found],
        waits=[wait for each in found for wait in each["waits"]],
    )


def _result_of(writer: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = writer.communicate(timeout=60)
    assert (writer.returncode, err) == (0, "")
    return dict(json.loads(out))


def test_eight_writers_share_the_database(
    tmp_path: Path, open_house: Callable[..., Any]
) -> None:
    tries: list[Measured] = []
    while len(tries) < TRIES and not any(each.is_fair_and_fast for each in tries):
        tries.append(_measure(tmp_path / f"home-{len(tries)}"))

    seen = [(m.share, m.p999_seconds, len(m.waits)) for m in tries]
    print(f"share of the best, p99.9 in seconds, transactions: {seen}")  # noqa: T201
    assert any(each.is_fair_and_fast for each in tries), seen
    last = open_house(tmp_path / f"home-{len(tries) - 1}").database
    claims = last.read("SELECT task_id FROM updates WHERE kind = 'started'")
    assert len(claims) == len({claim["task_id"] for claim in claims})
    events = last.read("SELECT COUNT(*) AS n FROM events")[0]["n"]
    assert events >= sum(tries[-1].claims)
