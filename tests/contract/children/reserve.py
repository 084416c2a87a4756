"""Make model calls that use all that they may, turn by turn, until none fits.

Arguments: the environment, the turns, which `worker-1` holds. Prints what was used.
"""

import json
import sys
from pathlib import Path

from broker import budgets, open_broker, steps, tasks
from broker.budgets import Ask, Grant, Used
from broker.settings import load

broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")))
ASK = Ask(
    model="m/1",
    input_tokens=100,
    output_tokens=1000,
    input_usd=0.0,
    output_token_usd=0.0,
)
waiting = [tasks.get(broker.database, id) for id in sys.argv[2:]]
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
spent = 0
while waiting:
    turn = waiting.pop(0)
    with broker.database.write() as tx:
        found = budgets.reserve(tx, turn["id"], turn["agent_id"], ASK)
        if isinstance(found, Grant):
            number, _ = steps.start_model(tx, turn["id"], turn["epoch"], "m/1")
            budgets.hold(tx, turn["id"], number, found)
    if isinstance(found, Grant):
        used = Used(tokens=found.amounts["tokens"], rounds=1)
        with broker.database.write() as tx:
            budgets.settle(tx, turn["id"], turn["agent_id"], used)
        spent += used.tokens
        waiting.append(turn)
sys.stdout.write(f"{spent}\n")
broker.close()
