"""health(): quick, honest, and cheap for those who ask too often."""

from __future__ import annotations

import asyncio
import time

from asgi_dbconn import Registry
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy


async def test_databases_that_answer_are_healthy(database_url: str) -> None:
    models = Registry(database_url, extra={"audit": "sqlite://"})
    async with models:
        report = await models.health()

    assert report
    assert set(report.databases) == {None, "audit"}
    assert all(database.seconds is not None for database in report.databases.values())


async def test_what_is_not_connected_is_not_healthy_and_opens_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    models = Registry(postgres_url)

    report = await models.health()

    assert not report.is_healthy
    assert report.databases[None].reason == "not connected"
    assert models.stats()[None].transient_uses == 0


async def test_a_dead_network_is_answered_for_in_time(proxy: Proxy, postgres_url: str) -> None:
    models = Registry(
        proxy.url_for(postgres_url),
        extra={"audit": "sqlite://"},
        idle_check_after=0,
        acquire_timeout=0.5,
    )
    async with models:
        await asyncio.to_thread(proxy.set_mode, "stall")
        started = time.perf_counter()
        report = await models.health(timeout=0.2)
        assert time.perf_counter() - started < 0.4
        await asyncio.to_thread(proxy.set_mode, "pass")

    assert report.databases["audit"].is_healthy
    assert report.databases[None].reason == "TimeoutError"


async def test_a_hundred_callers_share_one_ping(proxy: Proxy, postgres_url: str) -> None:
    models = Registry(proxy.url_for(postgres_url), idle_check_after=60)
    async with models:
        with proxy.counting() as counted:
            reports = await asyncio.gather(*(models.health() for _ in range(100)))

    assert all(reports)
    assert counted.round_trips == 1


async def test_a_saturated_pool_is_told_by_name_and_code(postgres_url: str) -> None:
    models = Registry(postgres_url, pool_size=1, acquire_timeout=0.1)
    async with models:
        # On the engine, whose connection the ping does not join.
        async with models.database.engine.connect():
            report = await models.health()

    assert report.databases[None].reason == "PoolTimeout DBC211"
