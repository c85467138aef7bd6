"""The pools as Prometheus and OpenTelemetry see them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from asgi_dbconn import PoolTimeout, Registry
from asgi_dbconn.contrib.opentelemetry import OpenTelemetryMetrics
from asgi_dbconn.contrib.prometheus import PrometheusMetrics


@pytest.fixture
def models(database_url: str) -> Registry:
    memory = "sqlite://"
    return Registry(database_url, extra={"side": memory}, pool_size=1, acquire_timeout=0.05)


async def use(models: Registry) -> None:
    async with models.database.engine.connect():
        with pytest.raises(PoolTimeout):
            await models.database.ping()


async def test_prometheus_reads_what_the_pools_look_like(models: Registry) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(models, registry=registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"asgi_dbconn_{name}", labels)

    async with models:
        await use(models)
        async with models.connection():
            assert value("connections", database="default", state="used") == 1
        assert value("connections", database="default", state="idle") == 1
        assert value("connections_max", database="side") == 1
        assert value("timeouts_total", database="default") == 1
        assert value("acquired_total", database="default") == 3
        assert value("acquire_wait_seconds_count", database="default") == 3
        assert value("hold_seconds_count", database="default") == 3
        held = value("hold_seconds_sum", database="default")
        assert held is not None
        assert held >= 0.05
        assert value("connect_seconds_count", database="side") == 1
        assert b"# HELP asgi_dbconn_waiting Acquires in the queue" in generate_latest(registry)

    metrics.close()
    assert generate_latest(registry) == b""
    PrometheusMetrics(models, registry=registry).close()  # the names are free again


async def test_opentelemetry_gets_its_own_conventions(models: Registry) -> None:
    reader = InMemoryMetricReader()
    metrics = OpenTelemetryMetrics(models, provider=MeterProvider([reader]))

    def points(name: str) -> dict[tuple[Any, ...], Any]:
        data = reader.get_metrics_data()
        return {
            tuple(point.attributes.values()): point  # type: ignore[union-attr]
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"db.client.connection.{name}"
            for point in metric.data.data_points
        }

    async with models:
        await use(models)
        counted = points("count")
        assert counted["default", "idle"].value == 1
        assert counted["default", "used"].value == 0
        assert points("timeouts")["default",].value == 1
        assert points("wait_time")["default",].count == 2
        assert points("use_time")["default",].sum >= 0.05
        assert points("max")["side",].value == 1
        assert points("pending_requests")["side",].value == 0
        assert points("create_time")["side",].count == 1

    metrics.close()
    assert points("count") == {}
