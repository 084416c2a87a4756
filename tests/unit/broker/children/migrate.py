"""Migrate a home from a directory. Arguments: the environment, the directory."""

import json
import sys
from pathlib import Path

from broker import open_broker
from broker.migrate import migrate
from broker.settings import load

broker = open_broker(load(json.loads(sys.argv[1]), cwd=Path("/")), migrated=False)
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
names = migrate(broker.database, None, Path(sys.argv[2]))
sys.stdout.write(json.dumps(names) + "\n")
broker.close()
