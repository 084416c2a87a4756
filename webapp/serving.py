"""gunicorn's settings: threads enough for streams, and an end within a second.

gunicorn reads this module as its configuration; every lower-case name is a setting.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from broker.lifeline import end_with_parent
from broker.settings import load

_settings = load()

bind = f"{_settings.host}:{_settings.port}"
worker_class = "webapp.refusals.ProblemWorker"
workers = 2
# A stream holds a thread (webapp.live caps them at 40 a process): 24 stay for requests.
threads = 64
graceful_timeout = 3
timeout = 60
# Two instances would fight for the default path of gunicorn 27's control socket.
control_socket_disable = True
# The most that gunicorn offers: a query may be about 8 kB long.
limit_request_line = 8190
accesslog = None
errorlog = "-"
loglevel = "warning"


def on_starting(server: Any) -> None:  # noqa: ARG001 (gunicorn's signature)
    """Tie the master's life to whoever started it."""
    end_with_parent(_settings.environ)


def post_worker_init(worker: Any) -> None:
    """On SIGTERM, end the open streams first, so that nothing has to be waited for."""
    previous = signal.getsignal(signal.SIGTERM)
    live = worker.wsgi.extensions["roost"].live

    def end(number: int, frame: FrameType | None) -> None:
        live.stop()
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGTERM, end)
