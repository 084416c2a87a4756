"""The `agents` process that models.py starts: ours as it is, and beside it a socket
that says how much processor time each of its threads has used.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

from workers.turns_consumer import huey

__all__ = ["huey"]


def cpu_seconds() -> dict[str, float]:
    """Return the processor time of each thread by name, `all` for the process."""
    used = {"all": time.process_time()}
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            used[thread.name] = used.get(thread.name, 0.0) + time.clock_gettime(clock)
    return used


def tell() -> None:
    """Answer whoever connects."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(Path(os.environ["BENCH_DIRECTORY"]) / "cpu"))
        server.listen()
        while True:
            with server.accept()[0] as asker:
                asker.sendall(json.dumps(cpu_seconds()).encode())


threading.Thread(target=tell, daemon=True).start()
