"""The web process: `gunicorn --config python:webapp.serving webapp.wsgi:app`."""

from __future__ import annotations

import atexit

from broker import open_broker, processes
from broker.logs import set_up_logging
from broker.processes import identify
from broker.settings import load
from webapp.app import create_app

set_up_logging()
settings = load()
broker = open_broker(settings)
app = create_app(settings, broker)
identity = identify("web")
with broker.database.write() as transaction:
    processes.register(transaction, identity)


@atexit.register
def unregister() -> None:
    """Leave the list of processes."""
    with broker.database.write() as tx:
        processes.unregister(tx, identity.owner)
