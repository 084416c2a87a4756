"""The `agents` process: `huey_consumer workers.turns_consumer.huey`.

Importing this module is starting the process, which is what huey_consumer's import path
means; nothing else may import it.
"""

from __future__ import annotations

from functools import partial

from agents.models import open_model
from workers.breakers import SharedBreakers
from workers.dumps import dumps_of
from workers.hooks import installed_hooks
from workers.process import start_process
from workers.turns import TurnTaker
from workers.variables import Variables

process = start_process("agents")
huey = process.broker.turns
variables = Variables(process.settings)
taker = TurnTaker(
    broker=process.broker,
    worker=process.worker,
    keeper=process.keeper(huey),
    batcher=process.batcher,
    default_model=process.settings.model,
    home=process.settings.home,
    hooks=installed_hooks(),
    find_model=partial(
        open_model,
        find=variables.find,
        breakers=SharedBreakers(process.broker),
    ),
    dumps=dumps_of(process.settings, variables),
)
huey.bind(taker.take)
