"""The PostgreSQL server can be used, looked at, and stopped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import (
    ENVIRONMENT_VARIABLE,
    SECRET_USER,
    ExternalServerError,
    PostgresServer,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres


def query(url: str, sql: str, name: str = "client") -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url, server_settings={"application_name": name})
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_databases_are_created_and_dropped(postgres: PostgresServer) -> None:
    with postgres.database("some") as url:
        name = query(url, "SELECT current_database()")
        assert str(name).startswith("some_")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        query(url, "SELECT 1")


def test_a_database_in_use_is_dropped(postgres: PostgresServer) -> None:
    url = postgres.create_database("in use")

    async def run() -> None:
        connection = await asyncpg.connect(url)
        postgres.drop_database("in use")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.execute("SELECT 1")
        connection.terminate()

    asyncio.run(run())


def test_only_the_secret_user_needs_a_password(postgres: PostgresServer) -> None:
    assert query(postgres.url, "SELECT current_user") == "postgres"
    assert query(postgres.secret_url(), "SELECT current_user") == SECRET_USER
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(postgres.secret_url(password="wrong"), "SELECT 1")
    stored = postgres.fetch("SELECT rolpassword FROM pg_authid WHERE rolname = $1", SECRET_USER)
    assert stored[0][0].startswith("SCRAM-SHA-256$")


def test_sessions_shows_clients_and_not_the_observer(postgres: PostgresServer) -> None:
    async def run() -> None:
        settings = {"application_name": "visible"}
        connection = await asyncpg.connect(postgres.url, server_settings=settings)
        try:
            await connection.fetchval("SELECT 42")
            (session,) = postgres.sessions("visible")
            assert session.pid == connection.get_server_pid()
            assert (session.database, session.state) == ("postgres", "idle")
            assert session.query == "SELECT 42"
            assert session in postgres.sessions()
            assert postgres.sessions("other") == []
            assert session in postgres.sessions(database="postgres")
            assert postgres.sessions(database="template1") == []
        finally:
            await connection.close()

    asyncio.run(run())
    # Once all clients have gone, only the observer, which asks, is connected.
    wait_until(lambda: not postgres.sessions(), 5)
    assert postgres.fetch("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")[0][0]


def test_sessions_are_terminated_by_name(postgres: PostgresServer) -> None:
    async def run() -> None:
        settings = {"application_name": "victim"}
        connection = await asyncpg.connect(postgres.url, server_settings=settings)
        assert postgres.terminate_sessions("other") == 0
        assert await connection.fetchval("SELECT 1") == 1
        assert postgres.terminate_sessions("victim") == 1
        assert postgres.sessions("victim") == []
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()

    asyncio.run(run())


def test_the_observer_survives_the_end_of_its_own_session(postgres: PostgresServer) -> None:
    own = postgres.fetch("SELECT pg_backend_pid()")[0][0]
    assert query(postgres.url, f"SELECT pg_terminate_backend({own}, 5000)") is True
    assert postgres.fetch("SELECT pg_backend_pid()")[0][0] != own


def test_a_restart_keeps_port_and_data(postgres: PostgresServer) -> None:
    port, first = postgres.port, postgres.pid
    with postgres.database() as url:
        query(url, "CREATE TABLE kept AS SELECT 7 AS number")
        postgres.stop()
        assert postgres.pid is None
        with pytest.raises(ConnectionRefusedError):
            query(url, "SELECT 1")
        postgres.start()
        assert (postgres.port, postgres.pid == first) == (port, False)
        assert query(url, "SELECT number FROM kept") == 7


def test_a_smart_stop_waits_for_clients_and_a_fast_one_does_not(postgres: PostgresServer) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(postgres.url)
        with pytest.raises(TimeoutError):
            postgres.stop("smart", timeout=0.2)
        assert await connection.fetchval("SELECT 1") == 1
        postgres.stop("fast", timeout=10)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()

    asyncio.run(run())
    postgres.start()


def test_an_external_server_is_used_and_not_stopped(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url.replace("postgresql://", "postgresql+asyncpg://")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, url)
    with PostgresServer() as external:
        assert external.is_external
        assert (external.port, external.url) == (postgres.port, postgres.url)
        with external.database() as database:
            assert query(database, "SELECT 1") == 1
        for forbidden in (external.stop, external.start, external.secret_url):
            with pytest.raises(ExternalServerError, match=ENVIRONMENT_VARIABLE):
                forbidden()
    assert query(postgres.url, "SELECT 1") == 1


def test_the_server_is_not_root(postgres: PostgresServer) -> None:
    assert postgres.pid is not None
    process = Path(f"/proc/{postgres.pid}").stat()
    assert process.st_uid != 0
    if os.geteuid() != 0:
        assert process.st_uid == os.geteuid()
