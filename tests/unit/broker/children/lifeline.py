"""A parent that starts a child tied to its life, and tells the child's pid."""

import subprocess
import sys
import time

CHILD = """
import os, time
from broker.lifeline import end_with_parent
end_with_parent({})
print(os.getpid(), flush=True)
time.sleep(60)
"""

subprocess.Popen([sys.executable, "-c", CHILD])
time.sleep(60)
