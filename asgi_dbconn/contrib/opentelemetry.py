"""The pools of a registry as OpenTelemetry metrics, by its conventions for connection pools.

Needs ``pip install asgi-dbconn[opentelemetry]``. The names are those of
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#connection-pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.metrics import (
    CallbackOptions,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from asgi_dbconn.databases.database import Database
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.registry.registry import Registry

__all__ = ["OpenTelemetryMetrics"]

_NAME: Final = "db.client.connection"
_POOL: Final = "db.client.connection.pool.name"
_STATE: Final = "db.client.connection.state"


class OpenTelemetryMetrics(Observer):
    """Metrics of ``models``, from the creation of this object until :meth:`close`.

    They go to the global meter provider unless another one is passed.
    """

    def __init__(self, models: Registry, *, provider: MeterProvider | None = None) -> None:
        self._models = models
        self._is_closed = False
        meter = (provider or get_meter_provider()).get_meter("asgi_dbconn")
        meter.create_observable_up_down_counter(
            f"{_NAME}.count", [self._count], "{connection}", "Connections by state"
        )
        meter.create_observable_up_down_counter(
            f"{_NAME}.max", [self._most], "{connection}", "Connections that the pools may have"
        )
        meter.create_observable_up_down_counter(
            f"{_NAME}.pending_requests", [self._pending], "{request}", "Acquires in the queue"
        )
        self._timeouts = meter.create_counter(
            f"{_NAME}.timeouts", "{timeout}", "Acquires that ended in PoolTimeout"
        )
        self._wait = meter.create_histogram(f"{_NAME}.wait_time", "s", "Getting a connection")
        self._use = meter.create_histogram(f"{_NAME}.use_time", "s", "Holding a connection")
        self._create = meter.create_histogram(f"{_NAME}.create_time", "s", "Opening a connection")
        self._stop: Callable[[], None] = models.observe(self)

    def close(self) -> None:
        """Stop measuring."""
        self._is_closed = True
        self._stop()

    def acquired(self, database: str, seconds: float) -> None:
        self._wait.record(seconds, {_POOL: database})

    def released(self, database: str, seconds: float) -> None:
        self._use.record(seconds, {_POOL: database})

    def connection_opened(self, database: str, seconds: float) -> None:
        self._create.record(seconds, {_POOL: database})

    def acquire_timed_out(self, database: str, seconds: float) -> None:
        self._timeouts.add(1, {_POOL: database})

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, database in self._databases():
            stats = database.stats()
            yield Observation(stats.idle, {_POOL: name, _STATE: "idle"})
            yield Observation(stats.in_use, {_POOL: name, _STATE: "used"})

    def _most(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, database in self._databases():
            yield Observation(database.stats().size, {_POOL: name})

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, database in self._databases():
            yield Observation(database.stats().waiting, {_POOL: name})

    def _databases(self) -> Iterable[tuple[str, Database]]:
        if not self._is_closed:
            for database in dict.fromkeys(self._models.databases.values()):
                yield database.name or "default", database
