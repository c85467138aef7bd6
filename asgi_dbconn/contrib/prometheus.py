"""The pools of a registry as Prometheus metrics. Needs ``pip install asgi-dbconn[prometheus]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from asgi_dbconn.databases.database import Database
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.pools.statistics import PoolStats
from asgi_dbconn.registry.registry import Registry

__all__ = ["PrometheusMetrics"]

_PREFIX: Final = "asgi_dbconn"
# From a tenth of a millisecond (the pool has an idle connection) to the usual timeouts.
_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)

# Field of PoolStats, and the help text of its metric.
_COUNTED: Final = {
    "acquired": "Connections acquired",
    "connects": "Physical connections opened",
    "connect_errors": "Attempts to open a connection that failed",
    "lost": "Connections that were lost",
    "retired": "Connections replaced for their age or by a refresh",
    "timeouts": "Acquires that ended in PoolTimeout",
    "overloads": "Acquires that ended in PoolOverloaded",
    "leaks": "Connections that were not released within leak_after",
    "unclean": "Connections that were released with an open transaction or statement",
    "unknown_commits": "Commits that were cancelled or aborted before their answer",
    "transient_uses": "Verbs and scopes that opened a transient engine",
}


class PrometheusMetrics(Observer):
    """Metrics of ``models``, from the creation of this object until :meth:`close`.

    The state of the pools is read when Prometheus collects it. Only waiting, holding and connecting
    are measured when they happen. There can be one object for each Prometheus registry.
    """

    def __init__(self, models: Registry, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._snapshot = _Snapshot(models)
        self._wait = _histogram(registry, "acquire_wait", "Getting a connection")
        self._hold = _histogram(registry, "hold", "Holding a connection")
        self._connect = _histogram(registry, "connect", "Opening a physical connection")
        registry.register(self._snapshot)
        self._stop: Callable[[], None] = models.observe(self)

    def close(self) -> None:
        """Stop measuring ``models``; the metrics' names may be used again."""
        self._stop()
        for collector in (self._snapshot, self._wait, self._hold, self._connect):
            self._registry.unregister(collector)

    def acquired(self, database: str, seconds: float) -> None:
        self._wait.labels(database).observe(seconds)

    def released(self, database: str, seconds: float) -> None:
        self._hold.labels(database).observe(seconds)

    def connection_opened(self, database: str, seconds: float) -> None:
        self._connect.labels(database).observe(seconds)


class _Snapshot(Collector):
    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        stats = {database.name or "default": database.stats() for database in self._databases()}
        yield _gauge("connections_max", "Connections that the pools may have", stats, "size")
        yield _gauge("waiting", "Acquires in the queue", stats, "waiting")
        connections = GaugeMetricFamily(
            f"{_PREFIX}_connections", "Connections that are open", labels=("database", "state")
        )
        for name, pool_stats in stats.items():
            connections.add_metric((name, "idle"), pool_stats.idle)
            connections.add_metric((name, "used"), pool_stats.in_use)
        yield connections
        for field, text in _COUNTED.items():
            counter = CounterMetricFamily(f"{_PREFIX}_{field}", text, labels=("database",))
            for name, pool_stats in stats.items():
                counter.add_metric((name,), getattr(pool_stats, field))
            yield counter

    def _databases(self) -> Iterator[Database]:
        yield from dict.fromkeys(self._models.databases.values())


def _gauge(name: str, text: str, stats: dict[str, PoolStats], field: str) -> Metric:
    gauge = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=("database",))
    for database, pool_stats in stats.items():
        gauge.add_metric((database,), getattr(pool_stats, field))
    return gauge


def _histogram(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(
        f"{_PREFIX}_{name}_seconds", text, ("database",), buckets=_BUCKETS, registry=registry
    )
