"""The verbs of a QuerySet, on every kind of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, func, inspect
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound

from asgi_dbconn import (
    ConfigurationError,
    Database,
    FieldError,
    MultipleObjectsReturned,
    ObjectNotFound,
    Registry,
)
from tests.models import Cast, make_cast


@asynccontextmanager
async def people(url: str) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url))
    async with cast.models:
        await cast.models.create_all()
        for name, age in (("ada", 36), ("bob", 20), ("cyd", None)):
            await cast.User.query.create(name=name, age=age)
        yield cast


def names(users: list[Any]) -> list[str]:
    return [user.name for user in users]


async def test_a_query_is_awaited_for_its_objects(database_url: str) -> None:
    async with people(database_url) as cast:
        assert names(await cast.User.query.order_by("name")) == ["ada", "bob", "cyd"]
        assert names(await cast.User.query.all().order_by("name")) == ["ada", "bob", "cyd"]


async def test_building_changes_nothing(database_url: str) -> None:
    async with people(database_url) as cast:
        everybody = cast.User.query
        everybody.filter(name="ada").order_by("-name").limit(1)

        assert len(await everybody) == 3
        assert len(await everybody) == 3  # and it can be awaited again


async def test_filters_are_expressions_or_lookups(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        assert names(await User.query.filter(User.age > 30)) == ["ada"]
        assert names(await User.query.filter(User.age > 10, name="bob")) == ["bob"]
        assert names(await User.query.filter(age=None)) == ["cyd"]
        assert names(await User.query.filter(name="ada").filter(age=20)) == []


async def test_order_by_takes_names_and_expressions(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        assert names(await User.query.order_by("-name")) == ["cyd", "bob", "ada"]
        assert names(await User.query.order_by(User.name.desc())) == ["cyd", "bob", "ada"]
        assert names(await User.query.order_by(func.length(User.name), "-id")) == [
            "cyd",
            "bob",
            "ada",
        ]
        assert names(await User.query.order_by("name").order_by("-name").limit(1)) == ["cyd"]


async def test_limit_bounds_the_rows(database_url: str) -> None:
    async with people(database_url) as cast:
        assert names(await cast.User.query.order_by("name").limit(2)) == ["ada", "bob"]
        assert await cast.User.query.limit(0) == []
        with pytest.raises(ConfigurationError, match="0 or more"):
            cast.User.query.limit(-1)


async def test_get_finds_by_key_lookup_and_filter(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        ada = await User.query.get(name="ada")
        assert (await User.query.get(ada.id)).name == "ada"
        assert (await User.query.get(pk=ada.id)).name == "ada"
        assert (await User.query.filter(User.age < 30).get()).name == "bob"


async def test_a_missing_row_is_an_error_of_its_own(database_url: str) -> None:
    async with people(database_url) as cast:
        with pytest.raises(ObjectNotFound, match=r"No User matches.*get_or_none") as caught:
            await cast.User.query.get(99)
        assert isinstance(caught.value, NoResultFound)
        assert isinstance(caught.value, LookupError)
        assert "sqlalche.me" not in str(caught.value)
        assert await cast.User.query.get_or_none(99) is None


async def test_two_rows_are_an_error_of_their_own(database_url: str) -> None:
    async with people(database_url) as cast:
        for verb in (cast.User.query.get, cast.User.query.get_or_none):
            with pytest.raises(MultipleObjectsReturned, match="More than one User") as caught:
                await verb()
            assert isinstance(caught.value, MultipleResultsFound)


async def test_first_takes_the_order_or_the_key(database_url: str) -> None:
    async with people(database_url) as cast:
        first = await cast.User.query.first()
        last = await cast.User.query.order_by("-name").first()
        assert first is not None
        assert last is not None
        assert (first.name, last.name) == ("ada", "cyd")
        assert await cast.User.query.filter(name="zoe").first() is None


async def test_count_and_exists(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        assert await User.query.count() == 3
        assert await User.query.filter(User.age > 30).count() == 1
        assert await User.query.limit(2).count() == 2
        assert await User.query.exists() is True
        assert await User.query.filter(name="zoe").exists() is False
        assert await User.query.limit(0).exists() is False


async def test_create_gives_back_what_the_database_filled_in(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="dan")
        post = await cast.Post.query.create(user_id=user.id)

        assert (user.id, user.age) == (4, None)
        assert (post.id, post.title) == (1, "untitled")
        for instance in (user, post):
            assert inspect(instance).detached
            assert not inspect(instance).unloaded & {"id", "name", "age", "title", "user_id"}


async def test_create_stores_relations_along_or_not_at_all(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.create(name="dan", posts=[cast.Post(title="one")])
        assert await cast.Post.query.filter(user__name="dan").count() == 1

        with pytest.raises(IntegrityError):
            await cast.User.query.create(
                id=50, name="eve", posts=[cast.Post(id=1, title="a key that is taken")]
            )
        assert not await cast.User.query.filter(name="eve").exists()


async def test_a_refused_row_is_sqlalchemys_error(database_url: str) -> None:
    async with people(database_url) as cast:
        with pytest.raises(IntegrityError):
            await cast.User.query.create(name="ada")
        assert await cast.User.query.count() == 3


async def test_update_changes_rows_and_counts_them(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        assert await User.query.filter(User.age.is_not(None)).update(age=User.age + 1) == 2
        assert (await User.query.get(name="ada")).age == 37
        assert await User.query.filter(name="zoe").update(age=1) == 0
        assert await User.query.order_by("-name").limit(1).update(age=5) == 1
        assert (await User.query.get(name="cyd")).age == 5
        with pytest.raises(ConfigurationError, match="at least one"):
            User.query.update()
        with pytest.raises(FieldError, match=r"'aeg'.*'age'"):
            User.query.update(aeg=1)


async def test_delete_removes_rows_and_counts_them(database_url: str) -> None:
    async with people(database_url) as cast:
        assert await cast.User.query.order_by("name").limit(1).delete() == 1
        assert names(await cast.User.query.order_by("name")) == ["bob", "cyd"]
        assert await cast.User.query.filter(name="zoe").delete() == 0
        assert await cast.User.query.delete() == 2


async def test_using_runs_elsewhere(database_url: str, tmp_path: Path) -> None:
    elsewhere = Database(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    models = Registry(database_url, extra={"other": elsewhere})
    cast = make_cast(models)
    async with models:
        await models.create_all()
        async with elsewhere.connection() as connection:
            await connection.run_sync(models.metadata.create_all)

        await cast.User.query.using(database="other").create(name="ada")

        assert await cast.User.query.count() == 0
        assert await cast.User.query.using(database="other").count() == 1
        assert await cast.User.query.using(database=elsewhere).count() == 1
        assert await cast.User.query.using(database="other").using(database=None).count() == 0
        assert await cast.User.query.using(database="other").using().count() == 1


async def test_scopes_of_two_databases_are_independent(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url, extra={"other": f"sqlite:///{tmp_path / 'elsewhere.db'}"})
    cast = make_cast(models)
    async with models:
        for name in (None, "other"):
            async with models.connection(name) as connection:
                await connection.run_sync(models.metadata.create_all)

        with pytest.raises(KeyError):
            async with models.transaction():
                await cast.User.query.create(name="ada")
                await cast.User.query.using(database="other").create(name="bob")
                raise KeyError

        assert await cast.User.query.count() == 0
        assert await cast.User.query.using(database="other").count() == 1


async def test_the_statement_is_plain_sqlalchemy(database_url: str) -> None:
    async with people(database_url) as cast:
        statement = cast.User.query.filter(name="ada").statement
        assert isinstance(statement, Select)
        async with cast.models.session() as session:
            assert names(list(await session.scalars(statement))) == ["ada"]


async def test_an_unloaded_relation_does_not_load_itself(database_url: str) -> None:
    from sqlalchemy.orm.exc import DetachedInstanceError

    async with people(database_url) as cast:
        ada = await cast.User.query.get(name="ada")
        with pytest.raises(DetachedInstanceError):
            _ = ada.posts


def test_query_belongs_to_the_class() -> None:
    cast = make_cast(Registry("sqlite://"))
    with pytest.raises(AttributeError, match=r"User\.query"):
        _ = cast.User(name="ada").query
