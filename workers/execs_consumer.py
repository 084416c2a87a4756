"""The `exec` process: `huey_consumer workers.execs_consumer.huey`.

Importing this module is starting the process, which is what huey_consumer's import path
means; nothing else may import it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import structlog

import sandbox
from broker import processes
from broker.updates import CHANNEL
from workers.execs import ExecRunner
from workers.process import start_process

process = start_process("exec")
settings = process.settings
sandbox.ensure_home(settings.home)
cage = sandbox.choose(
    settings.sandbox,
    scratch=Path(tempfile.gettempdir()),  # where the next finds what this one leaves
    bun=sandbox.find_bun(settings.bun, settings.environ.get("PATH")),
)
structlog.get_logger(__name__).info(
    "Execs run in a sandbox.", level_in_force=cage.level, detail=cage.detail
)
with process.broker.database.write() as transaction:
    facts = {"sandbox": cage.level, "detail": cage.detail}
    processes.register(transaction, processes.identify("exec", **facts))
huey = process.broker.execs
runner = ExecRunner(
    broker=process.broker,
    worker=process.worker,
    keeper=process.keeper(huey),
    batcher=process.batcher,
    sandbox=cage,
    home=settings.home,
    bell=process.broker.bells.listen(CHANNEL),
)
huey.bind(runner.run)
