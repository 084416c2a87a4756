"""The memory: agents, tasks, turns, steps, entries, events, leases, queue, doorbell.

Everything that must survive goes through here. `open_broker` gives a process its
handles; the modules below hold the verbs, as functions over an open transaction, so
that several commit together. This package imports no other package of Roost.

`open_broker` is imported when it is asked for: `broker.settings` alone must stay cheap,
because every `roost` command reads it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.opening import Broker, open_broker

__all__ = ["Broker", "__version__", "open_broker"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Broker", "open_broker"):
        from broker import opening

        return getattr(opening, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
