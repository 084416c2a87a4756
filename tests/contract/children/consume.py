"""Consume the `turns` queue and write each hint. Argument: the environment."""

import json
import sys
from pathlib import Path

from broker import open_broker
from broker.settings import load

broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")))


def tell(task_id: str) -> None:
    sys.stdout.write(task_id + "\n")
    sys.stdout.flush()


broker.turns.bind(tell)
broker.turns.create_consumer(workers=2, check_worker_health=False).run()
