"""Several databases: which one a query goes to, and whose scope it joins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry

from asgi_dbconn import (
    Database,
    DatabaseNotConnectedWarning,
    InvalidSchemaName,
    Queryable,
    Registry,
    UnknownDatabase,
)


@dataclass(frozen=True)
class Office:
    models: Registry
    Base: Any
    Note: Any
    """On the default database."""
    Entry: Any
    """On the database `audit`."""


def make_office(models: Registry) -> Office:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    class Entry(Base, database="audit"):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    return Office(models, Base, Note, Entry)


@asynccontextmanager
async def office(url: str, folder: Path) -> AsyncIterator[Office]:
    """The default on any kind of database, `audit` on SQLite; notes can be kept in both."""
    made = make_office(Registry(url, extra={"audit": f"sqlite:///{folder / 'audit.sqlite'}"}))
    async with made.models:
        await made.models.create_all()
        async with made.models.connection("audit") as connection:
            await connection.run_sync(made.Note.__table__.create)
        yield made


async def tables_in(models: Registry, database: str | None) -> list[str]:
    async with models.connection(database) as connection:
        return sorted(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_each_table_is_created_where_it_belongs(database_url: str, tmp_path: Path) -> None:
    made = make_office(
        Registry(database_url, extra={"audit": f"sqlite:///{tmp_path / 'audit.sqlite'}"})
    )
    async with made.models as models:
        await models.create_all("audit")
        assert (await tables_in(models, None), await tables_in(models, "audit")) == (
            [],
            ["entries"],
        )
        await models.create_all()
        assert await tables_in(models, None) == ["notes"]
        await models.drop_all(None)
        assert (await tables_in(models, None), await tables_in(models, "audit")) == (
            [],
            ["entries"],
        )
    assert list(made.models.metadata.tables) == ["notes"]
    assert list(made.models.metadatas["audit"].tables) == ["entries"]


async def test_a_model_goes_to_its_own_database(database_url: str, tmp_path: Path) -> None:
    async with office(database_url, tmp_path) as made:
        await made.Note.query.create(text="a note")
        entry = await made.Entry.query.create(text="an entry")
        entry.text = "another"
        await entry.save()
        async with made.models.session("audit") as session:
            assert (await session.scalars(select(made.Entry.text))).all() == ["another"]
        assert made.models.databases.keys() == {None, "audit"}
        assert made.models.extra.keys() == {"audit"}


async def test_using_takes_a_name_none_or_a_database(database_url: str, tmp_path: Path) -> None:
    async with office(database_url, tmp_path) as made:
        Note, Entry = made.Note, made.Entry
        audit = made.models.extra["audit"]
        here = await Note.query.create(text="here")
        there = await Note.query.using(database="audit").create(text="there")

        async def texts(query: Any) -> list[str]:
            return [note.text for note in await query]

        assert await texts(Note.query) == ["here"]
        assert await texts(Note.query.using(database="audit")) == ["there"]
        assert await texts(Note.query.using(database=audit)) == ["there"]
        assert await texts(Note.query.using(database="audit").filter(text="there")) == ["there"]
        assert await texts(Note.query.using(database="audit").using(database=None)) == ["here"]
        assert await texts(Note.query.using(database="audit").using()) == ["there"]
        # None is the registry's default, not the model's own.
        assert Entry.query.using(database=None)._target.database is made.models.database

        for note in (here, there):
            note.text += ", changed"
            await note.save()
            await note.refresh()
        assert await texts(Note.query) == ["here, changed"]
        assert await texts(Note.query.using(database=audit)) == ["there, changed"]
        await there.delete()
        assert await Note.query.count() == 1


async def test_an_unknown_name_is_an_error_that_lists_the_known_ones(
    database_url: str, tmp_path: Path
) -> None:
    async with office(database_url, tmp_path) as made:
        models = made.models

        async def awaited(work: Any) -> None:
            await work

        message = r"no database 'adit'.*the default \(None\).*'audit'"
        with pytest.raises(UnknownDatabase, match=message):
            made.Note.query.using(database="adit")
        for scope in (models.connection, models.session, models.transaction):
            with pytest.raises(UnknownDatabase, match=message):
                scope("adit")
        for tables in (models.create_all, models.drop_all):
            with pytest.raises(UnknownDatabase, match=message):
                await tables("adit")
        with pytest.raises(UnknownDatabase, match=message):
            type("Wrong", (made.Base,), {"__tablename__": "wrong"}, database="adit")


async def test_using_joins_the_scope_of_its_target(database_url: str, tmp_path: Path) -> None:
    async with office(database_url, tmp_path) as made:
        elsewhere = made.Note.query.using(database="audit")
        with pytest.raises(KeyError):
            async with made.models.transaction("audit"):
                await made.Entry.query.create(text="rolled back")
                await elsewhere.create(text="rolled back, too")
                await made.Note.query.create(text="stays: it is another database's")
                raise KeyError
        with pytest.raises(KeyError):
            async with made.models.transaction():
                await made.Note.query.create(text="rolled back")
                await elsewhere.create(text="stays")
                raise KeyError

        assert await made.Entry.query.count() == 0
        assert [note.text for note in await elsewhere] == ["stays"]
        assert [note.text for note in await made.Note.query] == ["stays: it is another database's"]


async def test_a_scope_is_per_database_not_per_registry(database_url: str) -> None:
    shared = Database(database_url)
    one, two = make_pair(shared), make_pair(shared)
    async with one.models, two.models:
        await one.models.create_all()
        with pytest.raises(KeyError):
            async with one.models.transaction():
                await one.Note.query.create(text="one")
                await two.Note.query.create(text="two")
                raise KeyError
        assert await two.Note.query.count() == 0


def make_pair(shared: Database) -> Office:
    return make_office(Registry(shared, extra={"audit": shared}))


async def test_transactions_of_two_databases_nest_and_mix(
    database_url: str, tmp_path: Path
) -> None:
    async with office(database_url, tmp_path) as made:
        models = made.models
        async with models.transaction(), models.transaction("audit"):
            await asyncio.gather(
                *(made.Note.query.create(text=str(number)) for number in range(5)),
                *(made.Entry.query.create(text=str(number)) for number in range(5)),
            )
            with pytest.raises(KeyError):
                async with models.transaction():
                    await made.Note.query.create(text="rolled back")
                    await made.Entry.query.create(text="stays")
                    raise KeyError
        assert await made.Note.query.count() == 5
        assert await made.Entry.query.count() == 5 + 1


async def test_a_database_of_its_own_has_to_be_connected(database_url: str, tmp_path: Path) -> None:
    own = Database(f"sqlite:///{tmp_path / 'own.sqlite'}", name="own")
    async with office(database_url, tmp_path) as made:
        with pytest.warns(DatabaseNotConnectedWarning, match="Database 'own'"):
            async with own.connection() as connection:
                await connection.run_sync(made.Note.__table__.create)
        async with own:
            note = await made.Note.query.using(database=own).create(text="own")
            note.text = "changed"
            await note.save()
            async with made.models.transaction(own):
                assert (await made.Note.query.using(database=own).get()).text == "changed"
        assert await made.Note.query.count() == 0


async def test_a_table_without_a_model_belongs_to_its_metadatas_database(
    database_url: str, tmp_path: Path
) -> None:
    async with office(database_url, tmp_path) as made:

        class Logged:
            id: int
            text: str

        mapped = registry(metadata=made.models.metadatas["audit"])
        mapped.map_imperatively(Logged, made.Entry.__table__)
        await made.Entry.query.create(text="an entry")
        assert [logged.text for logged in await made.models.query(Logged)] == ["an entry"]

        class Stranger:
            id: int
            text: str

        note = made.Note.__table__.to_metadata(MetaData())
        registry(metadata=note.metadata).map_imperatively(Stranger, note)
        assert await made.models.query(Stranger).count() == 0  # on the default


@pytest.mark.postgres
async def test_schemas_are_for_those_databases_that_have_them(
    postgres_url: str, tmp_path: Path
) -> None:
    async with office(postgres_url, tmp_path) as made:
        await made.models.create_all(None, schema="a")
        with made.models.with_schema("a"):
            await made.Note.query.create(text="in a")
            with pytest.raises(InvalidSchemaName, match="'audit' is SQLite"):
                await made.Entry.query.create(text="nowhere")
            await made.Entry.query.using(schema=None).create(text="without")
            with pytest.raises(InvalidSchemaName, match="'audit' is SQLite"):
                made.Note.query.using(schema="a").using(database="audit")
        assert await made.Note.query.count() == 0
        assert await made.Note.query.using(schema="a").count() == 1
