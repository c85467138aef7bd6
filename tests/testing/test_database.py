"""TestDatabase: made, used and dropped on a real server and in files, whatever happens inside."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_dbconn import (
    ConfigurationError,
    Database,
    DatabaseUnavailable,
    DatabaseURL,
    Registry,
    UnsupportedURL,
)
from asgi_dbconn.testing import TestDatabase
from tests.support.ports import free_port
from tests.support.postgres import SECRET_PASSWORD, PostgresServer
from tests.support.waiting import wait_until_async
from tests.testing.left_over import databases_made_from, files_in, new_name

Left = Callable[[], list[str]]


@pytest.fixture
def name() -> str:
    return new_name()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def original(kind: str, name: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:////nowhere/{name}.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.url_for(name)


@pytest.fixture
def left(kind: str, name: str, temporary: Path, request: pytest.FixtureRequest) -> Iterator[Left]:
    """What exists at this moment; nothing does in the end."""
    if kind == "sqlite":

        def left() -> list[str]:
            return files_in(temporary)
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")

        def left() -> list[str]:
            return databases_made_from(postgres, name)

    yield left
    assert left() == []


async def test_it_exists_inside_the_block_only(original: str, left: Left) -> None:
    database = TestDatabase(original)
    assert left() == []

    async with database as entered:
        assert entered is database
        assert any(database.name in name for name in left())
        async with Registry(database.url) as models:
            await models.ping()

    assert left() == []


async def test_it_can_be_entered_again_and_is_empty_then(original: str, left: Left) -> None:
    database = TestDatabase(original)
    for _ in range(2):
        async with database, Database(database.url) as opened, opened.connection() as connection:
            await connection.exec_driver_sql("CREATE TABLE once (id int)")


def test_it_needs_no_event_loop(original: str, left: Left) -> None:
    with TestDatabase(original) as database:
        models = Registry(database.url)
        with models.with_async_env():
            assert models.is_connected
        assert left()


async def test_it_can_be_entered_synchronously_inside_of_async_code(
    original: str, left: Left
) -> None:
    with TestDatabase(original) as database:
        async with Registry(database.url) as models:
            await models.ping()


async def test_many_are_made_at_once(original: str, left: Left) -> None:
    async def use() -> str:
        async with TestDatabase(original) as database, Registry(database.url) as models:
            await models.ping()
            return database.name

    names = await asyncio.gather(*(use() for _ in range(6)))

    assert len(set(names)) == 6


async def test_it_goes_when_the_test_fails_too(original: str, left: Left) -> None:
    with pytest.raises(ZeroDivisionError):
        async with TestDatabase(original):
            raise ZeroDivisionError


async def test_it_goes_with_those_who_are_still_connected(original: str, left: Left) -> None:
    async with TestDatabase(original) as database:
        opened = Database(database.url)
        await opened.connect()
        async with opened.connection() as connection:
            await connection.exec_driver_sql("CREATE TABLE kept (id int)")

    assert left() == []
    await opened.disconnect()


async def test_a_cancelled_beginning_leaves_nothing(original: str, left: Left) -> None:
    for steps in range(12):  # at each of the first points where it waits

        async def enter() -> None:
            async with TestDatabase(original):
                await asyncio.Event().wait()

        entering = asyncio.create_task(enter())
        for _ in range(steps):
            await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert left() == []


async def test_a_test_that_is_cancelled_leaves_nothing(original: str, left: Left) -> None:
    async def test() -> None:
        async with TestDatabase(original):
            await asyncio.Event().wait()

    running = asyncio.create_task(test())
    await wait_until_async(left, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left() == []


async def test_it_begins_as_a_copy_of_its_template(original: str, left: Left) -> None:
    async with TestDatabase(original) as template:
        async with Database(template.url) as opened, opened.connection() as connection:
            await connection.exec_driver_sql("CREATE TABLE words (word text)")
            await connection.exec_driver_sql("INSERT INTO words VALUES ('tea')")
        for _ in range(2):
            async with TestDatabase(original, template=template) as copy:
                async with Database(copy.url) as opened, opened.connection() as connection:
                    rows = await connection.exec_driver_sql("SELECT word FROM words")
                    assert rows.scalars().all() == ["tea"]
                    await connection.exec_driver_sql("INSERT INTO words VALUES ('milk')")


async def test_what_is_in_a_templates_journal_is_copied_too(temporary: Path) -> None:
    async with TestDatabase("sqlite://") as template, Database(template.url) as opened:
        async with opened.connection() as connection:
            await connection.exec_driver_sql("CREATE TABLE words (word text)")
        assert any(name.endswith("-wal") for name in files_in(temporary))
        async with TestDatabase("sqlite://", template=str(template.url.database)) as copy:
            with sqlite3.connect(str(copy.url.database)) as connected:
                assert connected.execute("SELECT * FROM words").fetchall() == []
            connected.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&cache=shared&uri=true"]
)
async def test_an_original_in_memory_gets_a_file_that_stays(url: str, temporary: Path) -> None:
    async with TestDatabase(url) as database:
        models = Registry(database.url)
        assert not database.url.is_memory
        for create in (True, False):
            async with models, models.connection() as connection:
                if create:
                    await connection.exec_driver_sql("CREATE TABLE words (word text)")
                await connection.exec_driver_sql("SELECT * FROM words")

    assert files_in(temporary) == []


def test_a_file_is_its_owners_alone(temporary: Path) -> None:
    with TestDatabase("sqlite://") as database:
        assert Path(str(database.url.database)).parent.stat().st_mode & 0o077 == 0


def test_other_parts_of_the_url_are_kept() -> None:
    original = "postgresql://ada:p%40ss@db.example:5433/shop?application_name=tests"
    url = TestDatabase(original).url

    assert url.replace(database="shop") == DatabaseURL(original)
    assert "p%40ss" in url.reveal()


def test_no_password_is_shown() -> None:
    database = TestDatabase("postgresql://ada:hush@db.example/shop", password="hushhush")
    assert "hush" not in repr(database)

    with pytest.raises(ConfigurationError) as caught:
        TestDatabase("postgresql://ada:hush@db.example/shop", pool_siez=1, password="hush")  # type: ignore[call-arg]
    assert "hush" not in _our_frames(caught.value)

    with pytest.raises(UnsupportedURL) as refused:
        TestDatabase("mysql://ada:hush@db.example/shop")
    assert "hush" not in _our_frames(refused.value)


async def test_a_server_that_is_not_there_is_an_error() -> None:
    database = TestDatabase(f"postgresql://127.0.0.1:{free_port()}/shop", startup_timeout=0)
    with pytest.raises(DatabaseUnavailable, match="gave no connection"):
        await database.__aenter__()


@pytest.mark.postgres
async def test_a_role_with_a_password_makes_and_drops_its_own(
    postgres: PostgresServer, name: str
) -> None:
    if postgres.is_external:
        pytest.skip("knows no role of that server that needs a password")
    async with TestDatabase(postgres.secret_url(name)) as database:
        assert databases_made_from(postgres, name) == [database.name]
        async with Registry(database.url) as models:
            await models.ping()
    url = postgres.secret_url(name).replace("s3cret", "wrong")
    async with TestDatabase(url, password=lambda: SECRET_PASSWORD):
        assert databases_made_from(postgres, name)

    assert databases_made_from(postgres, name) == []


@pytest.mark.postgres
async def test_a_role_that_may_not_create_databases_is_told_so(
    postgres: PostgresServer, name: str
) -> None:
    if postgres.is_external:
        pytest.skip("that server decides by itself whom it lets in")
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    try:
        url = DatabaseURL(postgres.url).replace(username=name)
        with pytest.raises(ConfigurationError, match="CREATEDB"):
            await TestDatabase(url).__aenter__()
    finally:
        postgres.execute(f"DROP ROLE {name}")


@pytest.mark.postgres
async def test_a_template_somebody_is_connected_to_is_an_error(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with Database(postgres_url):
        with pytest.raises(ConfigurationError, match="Close all connections"):
            await TestDatabase(
                postgres_url, template=str(DatabaseURL(postgres_url).database)
            ).__aenter__()


@pytest.mark.postgres
async def test_where_the_maintenance_database_is_shut_the_originals_own_serves(
    postgres: PostgresServer, postgres_url: str
) -> None:
    if postgres.is_external:
        pytest.skip("shuts a database of the server")
    role = new_name()
    postgres.execute(f"CREATE ROLE {role} LOGIN CREATEDB")
    postgres.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        url = DatabaseURL(postgres_url).replace(username=role)
        async with TestDatabase(url, startup_timeout=0) as database:
            assert databases_made_from(postgres, database.name)
        assert not databases_made_from(postgres, database.name)
    finally:
        postgres.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        postgres.execute(f"DROP ROLE {role}")


def _our_frames(error: BaseException) -> str:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if "asgi_dbconn" in frame.f_code.co_filename]
    assert ours
    return f"{error} {[frame.f_locals for frame in ours]}"
