"""Metrics in Prometheus form, read from the database at each scrape.

What is counted in the database is the same whichever process answers, so nothing has to
be added up across processes. No ids are labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker import Broker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class DatabaseCollector(Collector):
    """Reads the gauges of one home."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Yield each family."""
        yield self._sizes()
        yield self._grouped(
            "roost_tasks",
            "Tasks by type and status.",
            ("type", "status"),
            "SELECT type, status, COUNT(*) AS n FROM tasks GROUP BY type, status",
        )
        yield self._grouped(
            "roost_agents",
            "Agents by state.",
            ("state",),
            "SELECT state, COUNT(*) AS n FROM agents GROUP BY state",
        )
        yield self._grouped(
            "roost_processes",
            "Processes by kind.",
            ("kind",),
            "SELECT kind, COUNT(*) AS n FROM processes GROUP BY kind",
        )
        yield self._hints()

    def _sizes(self) -> Metric:
        family = GaugeMetricFamily(
            "roost_db_size_bytes", "Bytes on disk by part.", labels=["part"]
        )
        for part, size in self._broker.database.sizes().items():
            family.add_metric([part], size)
        return family

    def _hints(self) -> Metric:
        family = GaugeMetricFamily(
            "roost_queue_hints", "Hints that wait, by queue.", labels=["queue"]
        )
        for queue in (self._broker.turns, self._broker.execs):
            family.add_metric([queue.name], queue.storage.queue_size())
        return family

    def _grouped(
        self, name: str, help: str, labels: tuple[str, ...], sql: str
    ) -> Metric:
        family = GaugeMetricFamily(name, help, labels=list(labels))
        for row in self._broker.database.read(sql):
            family.add_metric([str(row[label]) for label in labels], row["n"])
        return family


def render(broker: Broker) -> bytes:
    """Return the exposition."""
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(broker))
    return generate_latest(registry)
