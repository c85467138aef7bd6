"""The Registry: names, options, MetaData, and one lifetime for all its databases."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import (
    ConfigurationError,
    Database,
    DatabaseUnavailable,
    DatabaseURL,
    Queryable,
    Registry,
    UnknownDatabase,
)
from tests.models import make_cast
from tests.support.postgres import PostgresServer


@pytest.fixture
def dead_url() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"postgresql://app:hush@127.0.0.1:{bound.getsockname()[1]}/shop"


def test_databases_have_names_and_the_default_has_none() -> None:
    own = Database("sqlite://", name="mine")
    models = Registry("sqlite://", extra={"audit": "sqlite:///audit.db", "own": own})

    assert set(models.databases) == {None, "audit", "own"}
    assert models.database is models.databases[None]
    assert dict(models.extra) == {"audit": models.databases["audit"], "own": own}
    assert models.extra["audit"].name == "audit"


@pytest.mark.parametrize(
    "given", ["sqlite:///x.db", DatabaseURL("sqlite:///x.db"), Database("sqlite:///x.db")]
)
def test_a_database_is_given_as_text_url_or_object(given: str | DatabaseURL | Database) -> None:
    assert Registry(given).database.url == DatabaseURL("sqlite:///x.db")


@pytest.mark.parametrize("name", ["", "  "])
def test_a_name_is_not_empty(name: str) -> None:
    with pytest.raises(ConfigurationError, match="that is not empty"):
        Registry("sqlite://", extra={name: "sqlite://"})


async def test_all_databases_open_and_close_together(postgres_url: str, sqlite_url: str) -> None:
    models = Registry(postgres_url, extra={"a": sqlite_url, "b": "sqlite://"})

    async with models as entered:
        assert entered is models
        assert models.is_connected
        assert all(database.is_connected for database in models.databases.values())

    assert not any(database.is_connected for database in models.databases.values())


async def test_enter_and_exit_work_as_hooks_without_arguments(database_url: str) -> None:
    models = Registry(database_url)

    assert asyncio.iscoroutinefunction(models.__aenter__)
    assert asyncio.iscoroutinefunction(models.__aexit__)
    await models.__aenter__()
    assert models.is_connected
    assert await models.__aexit__() is None  # type: ignore[func-returns-value]
    assert not models.is_connected


async def test_nesting_counts(database_url: str) -> None:
    models = Registry(database_url)
    async with models:
        async with models:
            pass
        await models.database.ping()

    assert not models.is_connected


async def test_one_dead_database_of_three_closes_the_others(
    postgres: PostgresServer, postgres_url: str, sqlite_url: str, dead_url: str
) -> None:
    models = Registry(
        postgres_url, extra={"audit": dead_url, "local": sqlite_url}, startup_timeout=0
    )

    with pytest.raises(DatabaseUnavailable) as caught:
        await models.connect()

    assert "'audit'" in str(caught.value)
    assert str(DatabaseURL(dead_url)) in str(caught.value)
    assert not any(database.is_connected for database in models.databases.values())
    assert not postgres.sessions(database=postgres_url.rpartition("/")[2])


async def test_a_database_shared_by_two_registries_stays_for_the_second(database_url: str) -> None:
    shared = Database(database_url)
    one, two = Registry(shared), Registry("sqlite://", extra={"shared": shared})
    async with two:
        async with one:
            pass
        await shared.ping()

    assert not shared.is_connected


async def test_one_database_under_two_names_is_opened_once(database_url: str) -> None:
    shared = Database(database_url)
    async with Registry(shared, extra={"again": shared}):
        assert "references: 1 " in repr(shared)

    assert not shared.is_connected


def test_an_unknown_name_lists_the_known_ones() -> None:
    cast = make_cast(Registry("sqlite://", extra={"audit": "sqlite://"}))

    for use in (
        lambda: cast.User.query.using(database="adit"),
        lambda: cast.models.connection("adit"),
        lambda: cast.models.find_database("adit"),
    ):
        with pytest.raises(UnknownDatabase, match=r"'adit'.*'audit'.*extra") as caught:
            use()
        assert isinstance(caught.value, LookupError)


def test_a_model_chooses_its_database_and_metadata() -> None:
    models = Registry("sqlite://", extra={"audit": "sqlite://"})

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Entry(Base, database="audit"):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert set(models.metadata.tables) == {"notes"}
    assert set(models.metadatas["audit"].tables) == {"entries"}
    assert Note.metadata is models.metadata
    with pytest.raises(UnknownDatabase, match="'audit'"):

        class Lost(Base, database="adit"):
            __tablename__ = "lost"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_base_may_bring_its_own_metadata() -> None:
    models = Registry("sqlite://", extra={"audit": "sqlite://"})
    own = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

    class Base(Queryable, DeclarativeBase, registry=models):
        metadata = own

    class Entry(Base, database="audit"):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert models.metadata is own
    assert models.metadatas["audit"].naming_convention["pk"] == "pk_%(table_name)s"
    assert Entry.metadata is models.metadatas["audit"]

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match="before any model"):

        class Late(Queryable, DeclarativeBase, registry=models):
            metadata = MetaData()


def test_a_model_without_a_registry_says_how_to_give_one() -> None:
    class Base(Queryable, DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match="registry=models"):
        _ = Note.query
    with pytest.raises(ConfigurationError, match="no registry"):

        class Entry(Base, database="audit"):
            __tablename__ = "entries"
            id: Mapped[int] = mapped_column(primary_key=True)


async def test_create_all_and_drop_all_know_whose_tables_are_whose(
    database_url: str, tmp_path: Path
) -> None:
    models = Registry(database_url, extra={"audit": f"sqlite:///{tmp_path / 'audit.db'}"})

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Entry(Base, database="audit"):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)

    async def tables(name: str | None) -> list[str]:
        async with models.connection(name) as connection:
            return await connection.run_sync(lambda sync: inspect(sync).get_table_names())

    async with models:
        await models.create_all(database="audit")
        assert (await tables(None), await tables("audit")) == ([], ["entries"])
        await models.create_all()
        await models.create_all()
        assert (await tables(None), await tables("audit")) == (["notes"], ["entries"])
        await models.drop_all(database=None)
        assert (await tables(None), await tables("audit")) == ([], ["entries"])
        await models.drop_all()
        assert await tables("audit") == []
        with pytest.raises(UnknownDatabase):
            await models.create_all(database="adit")


async def test_any_mapped_class_can_be_queried(database_url: str) -> None:
    class Base(DeclarativeBase):
        pass

    class Plain(Base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    models = Registry(database_url)
    async with models:
        async with models.connection() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await models.query(Plain).create()
        assert [plain.id for plain in await models.query(Plain)] == [1]


async def test_tables_may_be_created_by_everybody_at_once(database_url: str) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await asyncio.gather(*(cast.models.create_all() for _ in range(10)))
        assert await cast.User.query.count() == 0
