"""Claim execs until none is left, and write their ids. Argument: the environment."""

import json
import os
import sys
from pathlib import Path

from broker import open_broker, tasks
from broker.leases import Worker
from broker.settings import load

broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")))
worker = Worker(owner=f"process-{os.getpid()}")
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
while True:
    with broker.database.write() as tx:
        row = tasks.claim_next(tx, "exec", worker)
    if row is None:
        break
    sys.stdout.write(row["id"] + "\n")
broker.close()
