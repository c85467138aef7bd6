"""A registry made from settings connects where they say, with the options they say."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_dbconn import ConfigurationError, Database, DatabaseURL, Registry, Settings, monkay
from tests.models import make_cast
from tests.support.postgres import SECRET_PASSWORD, PostgresServer


async def test_a_registry_from_the_environment_works(
    database_url: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ASGI_DBCONN_EXTRA__AUDIT", f"{sqlite_url}.audit")
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "2")

    models = Registry.from_settings()
    cast = make_cast(models)

    async with models:
        await models.create_all()
        await cast.User.query.create(name="ada")
        assert await cast.User.query.count() == 1
        await models.ping()
    assert set(models.extra) == {"audit"}
    assert [database.options.pool_size for database in models.databases.values()] == [2, 2]


@pytest.mark.postgres
async def test_a_password_can_stand_apart_from_the_url(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = DatabaseURL(postgres.secret_url()).replace(password=None)
    monkeypatch.setenv("DATABASE_URL", url.reveal())
    monkeypatch.setenv("ASGI_DBCONN_PASSWORD", SECRET_PASSWORD)

    async with Registry.from_settings() as models:
        await models.ping()


@pytest.mark.postgres
async def test_the_schema_of_the_settings_is_where_queries_run(postgres_url: str) -> None:
    models = Registry.from_settings(Settings(database=postgres_url, schema="shop"))
    cast = make_cast(models)

    async with models:
        await models.create_all()
        await cast.User.query.create(name="ada")
        async with models.connection() as connection:
            count = await connection.exec_driver_sql('SELECT count(*) FROM shop."users"')
            assert count.scalar_one() == 1


def test_settings_of_the_process_are_read_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_DBCONN_DATABASE", "sqlite:///first")
    assert Registry.from_settings().database.url.database == "first"

    monkeypatch.setenv("ASGI_DBCONN_DATABASE", "sqlite:///second")
    assert Registry.from_settings().database.url.database == "first"  # read once
    assert Registry.from_settings(Settings()).database.url.database == "second"
    with monkay.with_settings(Settings(database="sqlite:///third")):
        assert Registry.from_settings().database.url.database == "third"


def test_a_registry_of_ones_own_class_keeps_its_class_and_its_defaults() -> None:
    class Small(Registry):
        def __init__(self, database: Any, *, pool_size: int = 2, **options: Any) -> None:
            super().__init__(database, pool_size=pool_size, **options)

    models = Small.from_settings(Settings(database="sqlite://"))

    assert type(models) is Small
    assert models.database.options.pool_size == 2
    chosen = Small.from_settings(Settings(database="sqlite://", pool_size=10))
    assert chosen.database.options.pool_size == 10


def test_without_a_database_the_error_says_where_it_was_looked_for() -> None:
    class Shop(Settings):
        pass

    with pytest.raises(ConfigurationError) as caught:
        Registry.from_settings(Shop())
    assert "Set ASGI_DBCONN_DATABASE or DATABASE_URL in the environment or in .env" in str(
        caught.value
    )
    assert "Shop(database=...)" in str(caught.value)


@pytest.mark.parametrize("given", ["sqlite://", Settings, Database("sqlite://")])
def test_something_that_is_no_settings_object_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"settings is an object of asgi_dbconn.Settings"):
        Registry.from_settings(given)
