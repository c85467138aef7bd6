"""The proxy counts round trips and misbehaves exactly as it is told."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import pytest

from tests.support.leftovers import assert_no_sessions
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until, wait_until_async

NAME = "proxied"

pytestmark = pytest.mark.postgres


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with Proxy(postgres.host, postgres.port) as proxy:
        yield proxy
    assert_no_sessions(postgres, NAME, within=5)


async def connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(url, server_settings={"application_name": NAME})


def connected(
    url: str, use: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]]
) -> None:
    async def run() -> None:
        connection = await connect(url)
        try:
            await use(connection)
        finally:
            connection.terminate()

    asyncio.run(run())


def test_round_trips_are_counted(proxy: Proxy, postgres: PostgresServer) -> None:
    async def use(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.fetchval("SELECT 1")
        with proxy.counting() as warm:
            await connection.fetchval("SELECT 1")
            assert warm.round_trips == 1
            await connection.fetchval("SELECT 1")
        with proxy.counting() as transaction:
            await connection.execute("BEGIN")
            await connection.fetchval("SELECT 1")
            await connection.execute("ROLLBACK")
        with proxy.counting() as large:
            await connection.fetchval("SELECT $1::text", "x" * 3_000_000)
        with proxy.counting() as nothing:
            await asyncio.sleep(0)
        assert warm.round_trips == 2
        assert transaction.round_trips == 3
        assert large.round_trips == 2  # prepare, then execute; however many packets
        assert nothing.round_trips == 0

    connected(proxy.url_for(postgres.url), use)
    assert proxy.connections == 1


def test_connecting_is_a_round_trip_and_with_a_question_for_tls_two(
    proxy: Proxy, postgres: PostgresServer
) -> None:
    async def run() -> None:
        for attempt in (1, 2):
            with proxy.counting() as count:
                connection = await asyncpg.connect(
                    proxy.url_for(postgres.url), ssl="disable" if attempt == 1 else "prefer"
                )
            assert count.round_trips == attempt
            connection.terminate()

    asyncio.run(run())


def test_a_farewell_is_no_round_trip(proxy: Proxy, postgres: PostgresServer) -> None:
    async def run() -> None:
        connection = await connect(proxy.url_for(postgres.url))
        before = proxy.bytes_from_clients
        with proxy.counting() as count:
            await connection.close()
            await wait_until_async(lambda: proxy.open_connections == 0, 5)
        assert proxy.bytes_from_clients > before
        assert count.round_trips == 0

    asyncio.run(run())


def test_the_url_keeps_all_but_the_address(proxy: Proxy) -> None:
    url = "postgresql://user:p%40ss@db.example:6543/name?application_name=a"
    expected = f"postgresql://user:p%40ss@127.0.0.1:{proxy.port}/name?application_name=a"
    assert proxy.url_for(url) == expected
    assert proxy.url_for("postgresql://db/name") == f"postgresql://127.0.0.1:{proxy.port}/name"


def test_stall_holds_the_bytes_of_both_directions_until_healed(
    proxy: Proxy, postgres: PostgresServer
) -> None:
    async def use(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        proxy.set_mode("stall")
        before = proxy.bytes_from_clients
        asking = asyncio.create_task(connection.fetchval("SELECT 'from afar'"))
        await wait_until_async(lambda: proxy.bytes_from_clients > before, 5)
        # The query is in the proxy, and the server has seen nothing of it.
        assert [s.query for s in postgres.sessions(NAME) if "afar" in s.query] == []
        assert not asking.done()
        proxy.set_mode("pass")
        assert await asyncio.wait_for(asking, 5) == "from afar"

        sleeping = asyncio.create_task(connection.fetchval("SELECT pg_sleep(0.1)"))
        await wait_until_async(
            lambda: any("pg_sleep" in s.query for s in postgres.sessions(NAME)), 5
        )
        proxy.set_mode("stall")
        await wait_until_async(lambda: postgres.sessions(NAME)[0].state == "idle", 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sleeping), 0.1)
        proxy.set_mode("pass")
        await asyncio.wait_for(sleeping, 5)

    connected(proxy.url_for(postgres.url), use)


def test_stall_accepts_connections(proxy: Proxy, postgres: PostgresServer) -> None:
    async def run() -> None:
        proxy.set_mode("stall")
        connecting = asyncio.create_task(connect(proxy.url_for(postgres.url)))
        await wait_until_async(lambda: proxy.connections == 1, 5)
        assert not connecting.done()
        proxy.set_mode("pass")
        connection = await asyncio.wait_for(connecting, 5)
        await connection.close()

    asyncio.run(run())


def test_refuse_lets_existing_connections_go_on(proxy: Proxy, postgres: PostgresServer) -> None:
    url = proxy.url_for(postgres.url)

    async def use(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        proxy.set_mode("refuse")
        with pytest.raises(ConnectionRefusedError):
            await connect(url)
        assert await connection.fetchval("SELECT 1") == 1
        proxy.set_mode("pass")
        await (await connect(url)).close()

    connected(url, use)


@pytest.mark.filterwarnings("error")
def test_refuse_forgets_nobody_who_was_accepted_at_that_moment(proxy: Proxy) -> None:
    clients = []
    for _ in range(50):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((LOOPBACK, proxy.port))
        clients.append(client)
        proxy.set_mode("refuse")
        proxy.set_mode("pass")
    for client in clients:
        client.close()
    wait_until(lambda: not proxy.open_connections, 5)
    gc.collect()  # complains of what was forgotten


def test_reset_breaks_old_and_new_connections(proxy: Proxy, postgres: PostgresServer) -> None:
    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        connection = await connect(proxy.url_for(postgres.url))
        assert (proxy.open_connections, len(postgres.sessions(NAME))) == (2, 1)
        proxy.set_mode("reset")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await wait_until_async(connection.is_closed, 5)
        await wait_until_async(lambda: not postgres.sessions(NAME), 5)
        assert proxy.open_connections == 0
        with pytest.raises((OSError, asyncpg.InterfaceError)):
            await connect(proxy.url_for(postgres.url))
        proxy.set_mode("pass")
        await (await connect(proxy.url_for(postgres.url))).close()

    asyncio.run(run())


def test_connections_can_be_reset_once(proxy: Proxy, postgres: PostgresServer) -> None:
    url = proxy.url_for(postgres.url)

    async def use(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        proxy.reset_connections()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        assert proxy.mode == "pass"
        await (await connect(url)).close()

    connected(url, use)


def test_delay_is_added_to_each_direction(proxy: Proxy, postgres: PostgresServer) -> None:
    async def use(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.fetchval("SELECT 1")
        proxy.delay(0.1)
        with taking(2 * 0.1, most=5):
            await connection.fetchval("SELECT 1")
        proxy.set_mode("pass")
        with taking(most=20 * 2 * 0.1):
            for _ in range(20):
                await connection.fetchval("SELECT 1")

    connected(proxy.url_for(postgres.url), use)


def test_the_end_of_either_side_reaches_the_other(proxy: Proxy, postgres: PostgresServer) -> None:
    async def run() -> None:
        url = proxy.url_for(postgres.url)
        first = await connect(url)
        await first.close()
        await wait_until_async(lambda: not postgres.sessions(NAME), 5)
        second = await connect(url)
        postgres.terminate_sessions(NAME)
        await wait_until_async(second.is_closed, 5)

    asyncio.run(run())
    wait_until(lambda: proxy.open_connections == 0, 5)


def test_a_target_that_is_down_resets_the_client() -> None:
    with Proxy("127.0.0.1", 1) as proxy:

        async def run() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            try:
                await reader.read()
            finally:
                writer.close()

        # While connecting or after it: the proxy accepts and then fails to go on.
        with pytest.raises(ConnectionResetError):
            asyncio.run(run())
        assert proxy.connections == 1
