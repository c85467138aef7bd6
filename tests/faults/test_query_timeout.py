"""Statements that take too long, and tasks that stop waiting for theirs."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectionLost, Database, QueryTimeout, TransactionAborted
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

# A recursive query that no machine finishes in a second.
ENDLESS = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) "
    "SELECT max(i) FROM n"
)
BACKEND = text("SELECT pg_backend_pid()")


@pytest.mark.postgres
async def test_a_statement_on_a_dead_network_fails_at_its_timeout(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 16."""
    async with Database(
        proxy.url_for(postgres_url), pool_size=1, query_timeout=1.0, idle_check_after=60
    ) as database:
        async with database.connection() as connection:
            before = (await connection.execute(BACKEND)).scalar_one()
        await asyncio.to_thread(proxy.set_mode, "stall")
        # The goodbye, which may take 2 s, is not waited for.
        with taking(1.0, most=2.0):
            with pytest.raises(QueryTimeout, match=r"query_timeout.*\[DBC203\]"):
                await database.ping()
        await asyncio.to_thread(proxy.set_mode, "pass")

        async with database.connection() as connection:
            assert (await connection.execute(BACKEND)).scalar_one() != before
        assert database.stats().lost == 1


@pytest.mark.postgres
async def test_the_server_stops_a_statement_that_was_given_up(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    async with Database(postgres_url, pool_size=1, query_timeout=0.2) as database:
        with pytest.raises(TimeoutError):
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        assert not [
            session for session in postgres.sessions(database=name) if "sleep" in session.query
        ]
        await database.ping()


async def test_the_limit_is_for_each_statement(database_url: str) -> None:
    async with Database(database_url, query_timeout=0.2) as database:
        async with database.transaction() as transaction:
            with pytest.raises(ConnectionLost, match="query_timeout"):
                await transaction.connection.execute(ENDLESS)
            with pytest.raises(TransactionAborted):
                await database.ping()
            await transaction.rollback()
        for _ in range(3):
            await database.ping()


async def test_a_statement_in_time_is_not_disturbed(database_url: str) -> None:
    async with Database(database_url, pool_size=1, query_timeout=0.5) as database:
        async with database.connection() as connection:
            for _ in range(3):
                await connection.execute(text("SELECT 1"))
            done = asyncio.get_running_loop().time() + 0.6
            await wait_until_async(lambda: asyncio.get_running_loop().time() > done, 2)
            await connection.commit()  # long after the last statement's limit
            await connection.execute(text("SELECT 1"))
        assert database.stats().connects == 1


@pytest.mark.postgres
async def test_a_task_that_stops_waiting_on_a_dead_network_is_not_held(
    proxy: Proxy, postgres_url: str
) -> None:
    async with Database(
        proxy.url_for(postgres_url), pool_size=1, shutdown_timeout=0.1, idle_check_after=60
    ) as database:
        await asyncio.to_thread(proxy.set_mode, "stall")
        with taking(0.3, most=1.3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await database.ping()
        await asyncio.to_thread(proxy.set_mode, "pass")
        await database.ping()
