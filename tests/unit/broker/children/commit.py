"""Commit as often as possible until told the time is over, then say how often.

Argument: the environment. Standard input: `go SECONDS`.
"""

import json
import sys
import time
from pathlib import Path

from broker import open_broker
from broker.settings import load

broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")))
sys.stdout.write("ready\n")
sys.stdout.flush()
until = time.monotonic() + float(sys.stdin.readline())
commits = 0
while time.monotonic() < until:
    with broker.database.write() as tx:
        tx.execute(
            "INSERT INTO counters (prefix, value) VALUES ('x', 1)"
            " ON CONFLICT (prefix) DO UPDATE SET value = counters.value + 1"
        )
    commits += 1
sys.stdout.write(f"{commits}\n")
broker.close()
