"""Answer every `ping` with a `pong`, so many times. Arguments: environment, rounds.

Prints how many waits ended by the clock and not by the bell.
"""

import json
import sys
from pathlib import Path

from broker import open_broker
from broker.database import Database, Transaction
from broker.settings import load

WAIT_SECONDS = 1.0


def look(database: Database, name: str) -> int:
    row = database.read_one("SELECT value FROM counters WHERE prefix = ?", name)
    return row["value"] if row else 0


def write(tx: Transaction, name: str, value: int) -> None:
    tx.execute(
        "INSERT INTO counters (prefix, value) VALUES (?, ?) ON CONFLICT (prefix)"
        " DO UPDATE SET value = excluded.value",
        name,
        value,
    )
    tx.ring(name)


def main() -> None:
    broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")))
    bell = broker.bells.listen("ping")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    lost = 0
    for number in range(1, int(sys.argv[2]) + 1):
        seen = bell.generation
        while look(broker.database, "ping") < number:
            lost += not bell.wait(seen, WAIT_SECONDS)
            seen = bell.generation
        with broker.database.write(durable=False) as tx:
            write(tx, "pong", number)
    sys.stdout.write(f"{lost}\n")
    broker.close()


main()
