"""Databases that an application can do without."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from asgi_dbconn import Database, DatabaseUnavailable, Registry
from tests.support.leftovers import wait_until_async
from tests.support.loop_thread import LoopThread
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres


async def test_one_required_database_that_is_down_keeps_all_from_starting(
    postgres: PostgresServer, postgres_url: str, sqlite_url: str, proxy: Proxy
) -> None:
    """Scenario 6, required: the others are closed again, and the error names the third."""
    proxy.set_mode("refuse")
    models = Registry(
        postgres_url,
        extra={"b": sqlite_url, "c": Database(proxy.url_for(postgres_url), startup_timeout=0)},
    )
    with pytest.raises(DatabaseUnavailable, match=str(proxy.port)):
        await models.connect()
    assert not any(database.is_connected for database in models.databases.values())
    assert postgres.sessions(database=postgres_url.rpartition("/")[2]) == []


async def test_an_optional_database_joins_when_it_answers(
    postgres_url: str, sqlite_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 6, optional: the start goes on, health says degraded, and then no more."""
    proxy.set_mode("refuse")
    late = Database(proxy.url_for(postgres_url), name="c", optional=True)
    models = Registry(postgres_url, extra={"b": sqlite_url, "c": late})
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING, "asgi_dbconn"):
        async with models:
            # Its startup_timeout, ten seconds, is not waited for.
            assert time.perf_counter() - started < 5
            report = await models.health()
            assert (report.status, report.degraded, bool(report)) == ("degraded", ("c",), True)
            with pytest.raises(DatabaseUnavailable, match=r"'c' .*optional"):
                await late.ping()

            await asyncio.to_thread(proxy.set_mode, "pass")

            await wait_until_async(lambda: late.stats().loops == 1, 5)
            assert (await models.health()).status == "healthy"
            await late.ping()
    assert "going on without it" in caplog.text
    assert "has joined" in caplog.text


async def test_one_that_never_answered_is_disconnected_like_any_other(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.set_mode("refuse")
    database = Database(proxy.url_for(postgres_url), optional=True)
    for _ in range(3):
        await database.connect()
        await database.disconnect()
    assert not database.is_connected


def test_it_may_be_disconnected_on_another_loop(proxy: Proxy, postgres_url: str) -> None:
    proxy.set_mode("refuse")
    database = Database(proxy.url_for(postgres_url), optional=True)
    one, other = LoopThread("test-one"), LoopThread("test-other")
    try:
        one.run(database.connect())
        other.run(database.disconnect())
        assert not database.is_connected
    finally:
        one.close()
        other.close()


def test_when_the_loop_that_asked_is_gone_every_loop_asks_for_itself(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.set_mode("refuse")
    database = Database(proxy.url_for(postgres_url), optional=True)
    asyncio.run(database.connect())  # its task ends with this loop, its count does not
    proxy.set_mode("pass")

    async def use_and_disconnect() -> None:
        await database.ping()
        await database.disconnect()

    asyncio.run(use_and_disconnect())


async def test_a_required_one_is_unhealthy_and_not_degraded(
    postgres_url: str, sqlite_url: str, proxy: Proxy
) -> None:
    models = Registry(
        sqlite_url,
        extra={"c": Database(proxy.url_for(postgres_url), acquire_timeout=0.2, idle_check_after=0)},
    )
    async with models:
        await asyncio.to_thread(proxy.set_mode, "reset")
        await wait_until_async(lambda: proxy.open_connections == 0, 1)
        report = await models.health()
        assert (report.status, report.degraded, bool(report)) == ("unhealthy", (), False)
        await asyncio.to_thread(proxy.set_mode, "pass")
