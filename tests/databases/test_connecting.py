"""connect() and disconnect(): verified, counted, all or nothing, on any loop and thread."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Iterator

import pytest

from asgi_dbconn import (
    ConfigurationError,
    Database,
    DatabaseUnavailable,
)
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_block_connects_and_disconnects(database_url: str) -> None:
    database = Database(database_url)
    assert not database.is_connected

    async with database:
        assert database.is_connected
        await database.ping()

    assert not database.is_connected


async def test_the_repr_tells_the_state(database_url: str) -> None:
    database = Database(database_url, name="shop")
    shown = f"<Database 'shop' {database.url} [{{}} | references: {{}} | loops: {{}}]>"

    assert repr(database) == shown.format("not connected", 0, 0)
    async with database, database:
        assert repr(database) == shown.format("connected", 2, 1)
    assert repr(database) == shown.format("not connected", 0, 0)


async def test_force_disconnects_whatever_the_count(database_url: str) -> None:
    database = Database(database_url)
    await database.connect()
    await database.connect()

    assert await database.disconnect(force=True) is not None

    assert not database.is_connected


async def test_a_dead_port_is_noticed_by_connect(dead_port: int) -> None:
    database = Database(f"postgresql://app:hush@127.0.0.1:{dead_port}/shop", startup_timeout=0)

    with pytest.raises(DatabaseUnavailable) as caught:
        await database.connect()

    text = str(caught.value)
    assert f"postgresql+asyncpg://app:***@127.0.0.1:{dead_port}/shop" in text
    assert "1 attempt" in text
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert repr(database).endswith("[not connected | references: 0 | loops: 0]>")


async def test_the_right_password_works_from_url_option_and_functions(
    postgres: PostgresServer,
) -> None:
    from tests.support.postgres import SECRET_PASSWORD

    async def ask() -> str:
        await asyncio.sleep(0)
        return SECRET_PASSWORD

    without = Database(postgres.secret_url()).url.replace(password=None)
    for database in (
        Database(postgres.secret_url()),
        Database(without, password=SECRET_PASSWORD),
        Database(without, password=lambda: SECRET_PASSWORD),
        Database(without, password=ask),
    ):
        async with database:
            await database.ping()


async def test_no_frame_of_a_connect_error_shows_the_password(
    postgres: PostgresServer, dead_port: int
) -> None:
    for url in (
        postgres.secret_url(password="wrong-guess"),
        f"postgresql://u:wrong-guess@127.0.0.1:{dead_port}/d",
    ):
        database = Database(url, startup_timeout=0)
        url = ""  # noqa: PLW2901 - this frame is in the traceback, too
        try:
            await database.connect()
        except DatabaseUnavailable as error:
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            assert "wrong-guess" not in "".join(report.format())
        else:
            pytest.fail("nothing was raised")


async def test_a_cancelled_leader_is_followed_by_the_next(proxy: Proxy, postgres_url: str) -> None:
    proxy.set_mode("stall")
    database = Database(proxy.url_for(postgres_url), connect_timeout=10)
    leader = asyncio.create_task(database.connect())
    await asyncio.sleep(0)
    follower = asyncio.create_task(database.connect())
    await asyncio.sleep(0)

    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await asyncio.to_thread(proxy.set_mode, "pass")
    await follower

    assert repr(database).endswith("[connected | references: 1 | loops: 1]>")
    await database.disconnect()


def test_a_loop_that_ends_takes_its_pool_but_not_the_count(database_url: str) -> None:
    database = Database(database_url)

    asyncio.run(database.connect())

    assert repr(database).endswith("[connected | references: 1 | loops: 0]>")
    asyncio.run(database.ping())
    assert asyncio.run(database.disconnect()) is not None


async def test_a_word_that_the_driver_does_not_know_is_a_mistake_and_not_tried_again(
    postgres_url: str,
) -> None:
    database = Database(f"{postgres_url}?colour=red", startup_timeout=30)

    with pytest.raises(ConfigurationError, match=r"colour.*follows the \?"):
        await database.connect()


async def test_the_remedy_fits_the_cause(postgres: PostgresServer, dead_port: int) -> None:
    for url, remedy in (
        (postgres.secret_url(password="wrong-guess"), "user and password right"),
        (postgres.url_for("nobody_made_this"), "has it been created"),
        (f"postgresql://u@127.0.0.1:{dead_port}/d", "Is the server running"),
        ("sqlite:////nowhere/at/all.db", "Does the folder exist"),
    ):
        with pytest.raises(DatabaseUnavailable, match=remedy):
            await Database(url, startup_timeout=0).connect()
