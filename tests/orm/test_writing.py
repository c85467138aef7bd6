"""create, get_or_create, update_or_create, update and delete: also when many do it at once."""

from __future__ import annotations

import asyncio
import sys
import warnings
from contextlib import nullcontext
from contextvars import Context
from typing import Any

import pytest
from sqlalchemy import String, TypeDecorator, UniqueConstraint, inspect, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import (
    ConfigurationError,
    DatabaseNotConnectedWarning,
    FieldError,
    MultipleObjectsReturned,
    Queryable,
    Registry,
    TransactionAborted,
)
from tests.models import make_cast
from tests.orm.people import people

# -- create


async def test_a_value_that_cannot_be_stored_is_an_error_of_the_whole_scope(
    database_url: str,
) -> None:
    async with people(database_url) as cast:
        with pytest.raises(TransactionAborted):
            async with cast.models.connection():
                await cast.User.query.create(name="ada")
                with pytest.raises(StatementError):
                    await cast.User.query.create(name=object())
                await cast.User.query.create(name="bob")
        assert await cast.User.query.count() == 0


async def test_a_type_of_ones_own_decides_what_nothing_is(database_url: str) -> None:
    class Words(TypeDecorator[list[str]]):
        impl = String
        cache_ok = True

        def process_bind_param(self, value: list[str] | None, _: Any) -> str | None:
            return None if value is None else " ".join(value)

        def process_result_value(self, value: str | None, _: Any) -> list[str]:
            return (value or "").split()

    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Text(Base):
        __tablename__ = "texts"
        id: Mapped[int] = mapped_column(primary_key=True)
        words: Mapped[list[str] | None] = mapped_column(Words)

    async with models:
        await models.create_all()
        text = await Text.query.create()
        assert text.words == (await Text.query.get(text.id)).words == []


# -- get_or_create


async def test_get_or_create_makes_what_it_does_not_find(database_url: str) -> None:
    async with people(database_url) as cast:
        users = cast.User.query
        ada, is_new = await users.get_or_create(name="ada", defaults={"age": lambda: 36})
        assert (ada.age, is_new) == (36, True)
        assert inspect(ada).detached

        again, is_new = await users.get_or_create({"age": 1}, name="ada")
        assert (again.id, again.age, is_new) == (ada.id, 36, False)
        assert (await users.get_or_create(pk=7, defaults={"name": "bob"}))[0].id == 7
        assert (await users.get_or_create(age=None, name="cyd"))[1]
        post, is_new = await cast.Post.query.get_or_create(user=ada, title="t")
        assert (post.user_id, is_new) == (ada.id, True)
        assert not (await cast.Post.query.get_or_create(user=ada, title="t"))[1]
        with pytest.raises(FieldError, match=r"name__icontains.*can find a User, but not make one"):
            users.get_or_create(name__icontains="x")
        await cast.Post.query.create(user_id=ada.id)
        with pytest.raises(MultipleObjectsReturned):
            await cast.Post.query.get_or_create(user_id=ada.id)


@pytest.mark.parametrize("scope", ["none", "transaction"])
async def test_twenty_at_once_create_one(database_url: str, scope: str) -> None:
    async with people(database_url) as cast:

        async def get_or_create(number: int) -> tuple[Any, bool]:
            async with cast.models.transaction() if scope == "transaction" else nullcontext():
                made: tuple[Any, bool] = await cast.User.query.get_or_create(
                    name="ada", defaults={"age": number}
                )
                return made

        outcomes = await asyncio.gather(*(get_or_create(number) for number in range(20)))

        assert sum(is_new for _, is_new in outcomes) == 1
        assert len({(user.id, user.age) for user, _ in outcomes}) == 1
        assert await cast.User.query.count() == 1


@pytest.mark.parametrize("scope", ["none", "transaction"])
async def test_twenty_at_once_update_or_create_one(database_url: str, scope: str) -> None:
    async with people(database_url) as cast:

        async def update_or_create(number: int) -> tuple[Any, bool]:
            async with cast.models.transaction() if scope == "transaction" else nullcontext():
                made: tuple[Any, bool] = await cast.User.query.update_or_create(
                    name="ada", defaults={"age": number}
                )
                return made

        outcomes = await asyncio.gather(*(update_or_create(number) for number in range(20)))

        assert sum(is_new for _, is_new in outcomes) == 1
        assert sorted(user.age for user, _ in outcomes) == list(range(20))
        assert await cast.User.query.count() == 1


async def test_twenty_in_one_transaction_create_one(database_url: str) -> None:
    async with people(database_url) as cast:
        async with cast.models.transaction():
            outcomes = await asyncio.gather(
                *(cast.User.query.get_or_create(name="ada") for _ in range(10)),
                *(cast.User.query.update_or_create(name="ada") for _ in range(10)),
            )
        assert sum(is_new for _, is_new in outcomes) == 1
        assert await cast.User.query.count() == 1


async def test_a_failed_creation_leaves_the_transaction_as_it_was(database_url: str) -> None:
    async with people(database_url) as cast:
        ada = await cast.User.query.create(name="ada")
        ada = await cast.User.query.prefetch_related("posts").get(ada.id)
        post = await cast.Post.query.create(id=1, user_id=ada.id)
        async with cast.models.transaction():
            await cast.User.query.create(name="before")
            # It is there, but not found by what is looked for.
            with pytest.raises(IntegrityError):
                await cast.Post.query.get_or_create(title="new", user=ada, defaults={"id": 1})
            with pytest.raises(IntegrityError):
                await cast.Post.query.update_or_create(title="new", defaults={"id": 1, "user": ada})
            await cast.User.query.create(name="after")
        assert await cast.User.query.count() == 3
        # Nothing of it hangs on what it was made of.
        ada.age = 3
        await ada.save()
        assert [post.id for post in await cast.Post.query] == [post.id]


async def test_who_comes_second_gets_the_firsts(database_url: str) -> None:
    # By another name than what is looked for: both find nothing, and one is refused.
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Seat(Base):
        __tablename__ = "seats"
        __table_args__ = (UniqueConstraint("row", "number"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        row: Mapped[int]
        number: Mapped[int]
        taken_by: Mapped[str | None]

    async with models:
        await models.create_all()
        made = await asyncio.gather(
            *(
                Seat.query.update_or_create(row=1, number=number % 3, defaults={"taken_by": "x"})
                for number in range(30)
            )
        )
        assert sum(is_new for _, is_new in made) == 3
        assert await Seat.query.count() == 3


# -- update_or_create


async def test_update_or_create_changes_what_it_finds(database_url: str) -> None:
    async with people(database_url) as cast:
        users = cast.User.query
        ada, is_new = await users.update_or_create(name="ada", defaults={"age": 1})
        assert (ada.age, is_new) == (1, True)
        same, is_new = await users.update_or_create(name="ada", defaults={"age": lambda: 2})
        assert (same.id, same.age, is_new) == (ada.id, 2, False)
        assert inspect(same).detached
        assert await users.values_list("name", "age") == [("ada", 2)]
        await users.filter(age=2).update_or_create({"name": "eve"}, name="ada")
        assert await users.values_list("name", flat=True) == ["eve"]
        with pytest.raises(FieldError, match="'aeg'"):
            users.update_or_create(name="ada", defaults={"aeg": 1})
        assert not any([(await users.update_or_create(name="eve"))[1]])


async def test_update_or_create_locks_the_row_alone(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.create(name="ada", posts=[cast.Post()])
        posts = cast.Post.query.select_related("user")
        post, is_new = await posts.update_or_create(title="untitled", defaults={"title": "t"})
        assert (post.title, post.user.name, is_new) == ("t", "ada", False)


# -- update and delete


async def test_slices_are_changed_and_counted(database_url: str) -> None:
    async with people(database_url) as cast:
        for number in range(6):
            await cast.User.query.create(name=f"{number}", age=number)
        users, User = cast.User.query, cast.User

        assert await users.order_by("-age").limit(2).update(age=User.age + 10) == 2
        assert await users.order_by("age").offset(1).limit(2).delete() == 2
        assert await users.filter(User.age > 10).order_by("age").limit(5).delete() == 2
        assert await users.limit(0).delete() == 0
        assert await users.order_by("age").values_list("name", flat=True) == ["0", "3"]


async def test_relations_narrow_and_are_not_changed(database_url: str) -> None:
    async with people(database_url) as cast:
        ada = await cast.User.query.create(name="ada", posts=[cast.Post(), cast.Post()])
        await cast.User.query.create(name="bob", posts=[cast.Post()])

        assert await cast.Post.query.filter(user=ada).limit(1).update(title="t") == 1
        assert await cast.Post.query.filter(user__name="ada").update(title="u") == 2
        assert await cast.User.query.filter(posts__title="untitled").update(age=1) == 1
        assert await cast.Post.query.filter(user__age=1).delete() == 1
        assert await cast.Post.query.filter(cast.Post.user_id == cast.User.id).delete() == 2
        with pytest.raises(FieldError, match="'user' of Post is a relation"):
            cast.Post.query.update(user=ada)


@pytest.mark.postgres
async def test_a_job_is_taken_once(postgres_url: str) -> None:
    async with people(postgres_url, pool_size=5) as cast:
        for number in range(20):
            await cast.User.query.create(name=f"job {number}", age=0)
        free = cast.User.query.filter(age=0).order_by("id").limit(3)

        # Without a lock, who waited for a row sees that it is taken, and takes none instead of it.
        taken = await asyncio.gather(*(free.update(age=1) for _ in range(5)))
        assert sum(taken) == await cast.User.query.filter(age=1).count()

        await cast.User.query.update(age=0)
        async with cast.models.transaction():
            assert await free.with_for_update().update(age=2) == 3
            others = free.with_for_update(skip_locked=True).update(age=3)
            # Outside of the transaction.
            outside = asyncio.get_running_loop().create_task(others, context=Context())
            assert await outside == 3
        assert await cast.User.query.filter(age=2).count() == 3
        assert await cast.User.query.filter(age=3).count() == 3


# -- where nobody is connected


async def test_the_warning_names_the_line_that_wrote_the_query(database_url: str) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
    users = cast.User.query
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = sys._getframe().f_lineno + 1
        await asyncio.gather(users.get_or_create(name="ada"), users.create(name="bob"))
        user, _ = await users.update_or_create(name="ada", defaults={"age": 1})
        user.age = 2
        await asyncio.gather(user.save())
        await asyncio.gather(user.refresh())
        await user.delete()
    ours = [warning for warning in caught if warning.category is DatabaseNotConnectedWarning]
    assert {warning.filename for warning in ours} == {__file__}
    assert {warning.lineno - first for warning in ours} == {0, 1, 3, 4, 5}


@pytest.mark.parametrize("verb", ["get_or_create", "update_or_create"])
async def test_without_lookups_no_row_is_taken(database_url: str, verb: str) -> None:
    async with people(database_url) as cast:
        users = cast.User.query
        await users.create(name="root", age=99)
        for arguments in ({"defaults": {"name": "new"}}, {}):
            with pytest.raises(ConfigurationError, match="Without lookups any User matches"):
                await getattr(users, verb)(**arguments)
        assert await users.values_list("name", "age") == [("root", 99)]


async def test_a_statement_that_begins_with_a_subquery_counts_its_rows(database_url: str) -> None:
    async with people(database_url) as cast:
        User = cast.User
        await User.query.bulk_create([{"name": f"user {number}"} for number in range(5)])
        first = select(User.id).order_by(User.id).limit(2).cte("first")

        chosen = User.query.filter(User.id.in_(select(first.c.id)))
        assert await chosen.update(age=1) == 2
        assert await chosen.filter(age=7).update(age=2) == 0
        assert await chosen.delete() == 2
        async with cast.models.transaction():
            free = User.query.filter(age=None).order_by("id").limit(2).with_for_update()
            assert [await free.update(age=1) for _ in range(3)] == [2, 1, 0]
