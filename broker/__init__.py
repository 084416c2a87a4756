"""The memory: agents, tasks, turns, steps, entries, events, leases, queue, doorbell.

Everything that must survive goes through here. `open_broker` gives a process its
handles; the modules below hold the verbs, as functions over an open transaction, so
that several commit together. This package imports no other package of Roost.
"""

from broker.opening import Broker, open_broker

__all__ = ["Broker", "__version__", "open_broker"]

__version__ = "0.1.0"
