"""The memory: models, tasks, turns, events, leases, queue, doorbell."""

__version__ = "0.1.0"
