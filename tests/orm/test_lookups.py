"""Keyword lookups: what they find, what they escape, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ConfigurationError, FieldError, Queryable, Registry
from tests.models import make_cast
from tests.orm.library import library

ROWS = [("Ada", 36), ("adam", 20), ("bob_1", None), ("b%b", 50), ("bxb", 7)]


@pytest.mark.parametrize(
    ("lookup", "found"),
    [
        ({"name": "Ada"}, ["Ada"]),
        ({"name__exact": "Ada"}, ["Ada"]),
        ({"age": None}, ["bob_1"]),
        ({"name__ne": "Ada"}, ["adam", "b%b", "bob_1", "bxb"]),
        ({"age__ne": None}, ["Ada", "adam", "b%b", "bxb"]),
        ({"name__iexact": "ADA"}, ["Ada"]),
        ({"name__icontains": "AD"}, ["Ada", "adam"]),
        ({"name__contains": "%"}, ["b%b"]),
        ({"name__contains": "_"}, ["bob_1"]),
        ({"name__startswith": "b%"}, ["b%b"]),
        ({"name__istartswith": "AD"}, ["Ada", "adam"]),
        ({"name__endswith": "_1"}, ["bob_1"]),
        ({"name__iendswith": "DA"}, ["Ada"]),
        ({"age__in": [7, 50]}, ["b%b", "bxb"]),
        ({"age__in": []}, []),
        ({"age__lt": 20}, ["bxb"]),
        ({"age__lte": 20}, ["adam", "bxb"]),
        ({"age__gt": 36}, ["b%b"]),
        ({"age__gte": 36}, ["Ada", "b%b"]),
        ({"age__range": (20, 36)}, ["Ada", "adam"]),
        ({"age__isnull": True}, ["bob_1"]),
        ({"age__isnull": False}, ["Ada", "adam", "b%b", "bxb"]),
        ({"name__regex": "^b.b$"}, ["b%b", "bxb"]),
        ({"pk": 1}, ["Ada"]),
        ({"pk__in": [1, 2]}, ["Ada", "adam"]),
        ({"posts__title": "t"}, ["Ada"]),
        ({"posts__title__istartswith": "T"}, ["Ada"]),
        ({"posts__user__name": "Ada"}, ["Ada"]),
    ],
)
async def test_a_lookup_finds_its_rows(
    database_url: str, lookup: dict[str, Any], found: list[str]
) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
        for name, age in ROWS:
            await cast.User.query.create(name=name, age=age)
        for _ in range(2):
            await cast.Post.query.create(title="t", user_id=1)

        users = await cast.User.query.filter(**lookup)

    assert sorted(user.name for user in users) == found


# Of the library: Ada (uk) taught Bob (us), who taught Cyd. Ada wrote One (100 pages, red) and
# Two (red, green), Bob wrote Three (300 pages) and Ada edited it, nobody wrote Four.
AUTHORS = [
    ({"country__in": ["uk", None]}, ["Ada", "Cyd"]),
    ({"country__in": [None]}, ["Cyd"]),
    ({"country__in": {"us": 1}.keys()}, ["Bob"]),
    ({"country__iexact": None}, ["Cyd"]),
    ({"called__startswith": "C"}, ["Cyd"]),
    ({"shout": "ADA"}, ["Ada"]),
    ({"written__gte": 1}, ["Ada", "Bob"]),
    ({"biography__isnull": False}, ["Ada"]),
    ({"pk__exact": 2}, ["Bob"]),
    ({"pk__gt": 1}, ["Bob", "Cyd"]),
    ({"pk": None}, []),
    ({"mentor": None}, ["Ada"]),
    ({"mentor__isnull": True}, ["Ada"]),
    ({"mentor__isnull": False}, ["Bob", "Cyd"]),
    ({"mentor__name": "Ada"}, ["Bob"]),
    ({"mentor__pk": 2}, ["Cyd"]),
    ({"mentor__mentor__name": "Ada"}, ["Cyd"]),
    ({"mentor__mentor__mentor__name": "Ada"}, []),
    ({"pupils__isnull": True}, ["Cyd"]),
    ({"pupils": None}, ["Cyd"]),
    ({"pupils__pupils__isnull": False}, ["Ada"]),
    ({"pupils__pupils__pupils__isnull": False}, []),
    ({"pupils__mentor__pupils__name": "Cyd"}, ["Bob"]),
    ({"pupils__country": None}, ["Bob"]),
    ({"books__isnull": True}, ["Cyd"]),
    ({"books__pages": None}, ["Ada"]),
    ({"books__pages": None, "books__title": "One"}, []),
    ({"books__editor__name": "Ada"}, ["Bob"]),
    ({"books__editor__books__title": "One"}, ["Bob"]),
    ({"books__tags__text": "green"}, ["Ada"]),
    ({"books__tags__isnull": True}, ["Bob"]),
    ({"books__tags__books__title": "One"}, ["Ada"]),
]


@pytest.mark.parametrize(("lookup", "found"), AUTHORS)
async def test_a_lookup_finds_its_authors_and_exclude_the_others(
    database_url: str, lookup: dict[str, Any], found: list[str]
) -> None:
    async with library(database_url) as cast:
        authors = cast.Author.query.order_by("pk")
        assert await authors.filter(**lookup).values_list("name", flat=True) == found
        assert [author.name for author in await authors.exclude(**lookup)] == [
            name for name in ("Ada", "Bob", "Cyd") if name not in found
        ]


async def test_values_that_serve_once_are_taken_once(database_url: str) -> None:
    async with library(database_url) as cast:
        uk_or_us = cast.Author.query.filter(country__in=(country for country in ("us", "uk")))
        assert (await uk_or_us.count(), await uk_or_us.count()) == (2, 2)


async def test_relations_are_compared_with_objects(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book, Tag = cast.Author, cast.Book, cast.Tag
        ada, bob, cyd = await Author.query.order_by("pk")
        red, green = await Tag.query.order_by("pk")
        titles = Book.query.order_by("pk").values_list

        async def of(**lookups: Any) -> list[str]:
            books = Book.query.filter(**lookups).order_by("pk")
            found: list[str] = await books.values_list("title", flat=True)
            return found

        assert await of(author=ada) == ["One", "Two"]
        assert await of(author__in=[bob, None]) == ["Three", "Four"]
        assert await of(author__in=[]) == []
        assert await of(author=cyd) == []
        assert await of(tags=green) == ["Two"]
        assert await of(tags__in=[red, green]) == ["One", "Two"]
        assert await of(tags__in=[green, None]) == ["Two", "Three", "Four"]
        assert await of(author=ada, tags=green) == ["Two"]
        excluded = Book.query.exclude(author=ada).order_by("pk")
        assert await excluded.values_list("title", flat=True) == ["Three", "Four"]
        assert len(await titles()) == 4
        # found by objects, made of objects
        book, is_new = await Book.query.get_or_create({"title": "Five"}, author=bob)
        assert (book.title, is_new) == ("Three", False)


async def test_a_subquery_is_a_list_of_values(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        writers = select(Book.author_id)  # one of them NULL
        authors = Author.query.order_by("pk")
        assert [author.name for author in await authors.filter(pk__in=writers)] == ["Ada", "Bob"]
        # Where IN says "unknown", because of that NULL, it is not said to be in it.
        assert [author.name for author in await authors.exclude(pk__in=writers)] == ["Cyd"]
        nobody = select(func.max(Book.pages)).where(Book.title == "none").scalar_subquery()
        assert len(await authors.exclude(Author.id > nobody)) == 3


async def test_a_key_makes_what_it_does_not_find(database_url: str) -> None:
    async with library(database_url) as cast:
        author, is_new = await cast.Author.query.get_or_create({"name": "Dan"}, pk=70)
        assert (author.id, is_new) == (70, True)
        author, is_new = await cast.Author.query.get_or_create(name__exact="Eve", called="Eve")
        assert (author.name, is_new) == ("Eve", True)
        with pytest.raises(FieldError, match="can find a Author, but not make one"):
            await cast.Author.query.get_or_create(name__icontains="zoe")


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        ({"nmae": 1}, r"no field 'nmae'. Did you mean 'name'\? Choose from: age, id, name, posts"),
        ({"name__foo": 1}, "no lookup 'foo'"),
        ({"posts__titel": 1}, "Post has no field 'titel'"),
        ({"posts__title__foo": 1}, "no lookup 'foo'"),
        ({"pk": (1, 2)}, "one value"),
        ({"name__": 1}, "no lookup ''"),
        ({"name__in": "Ada"}, "takes several values, as a list, .*not 'Ada'"),
        ({"age__in": 5}, "not 5"),
        ({"age__range": [1]}, r"two values, \(from, to\), not \[1\]"),
        ({"age__range": "ab"}, "two values"),
        ({"age__range": (1, None)}, "two values"),
        ({"age__lt": None}, "nothing is more or less than None"),
        ({"age__isnull": "false"}, "True or False, not 'false'"),
        ({"age__isnull": None}, "True or False"),
        ({"name__contains": 5}, "takes a string, not 5"),
        ({"name__icontains": None}, "takes a string, not None"),
        ({"name__regex": None}, "a pattern as a string"),
        ({"posts": 5}, "compared with a Post, not with 5. .*write posts__pk"),
        ({"posts__in": [5]}, "posts__pk"),
        ({"posts__ne": None}, "no lookup 'ne'|no field 'ne'"),
        ({"posts__isnull": 1}, "True or False"),
    ],
)
def test_what_does_not_exist_is_refused_when_written(lookup: dict[str, Any], said: str) -> None:
    cast = make_cast(Registry("sqlite://"))

    with pytest.raises(FieldError, match=said) as caught:
        cast.User.query.filter(**lookup)

    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ConfigurationError)


async def test_a_composite_key_is_a_tuple(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Seat(Base):
        __tablename__ = "seats"
        row: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    async with models:
        await models.create_all()
        for number in range(3):
            await Seat.query.create(row=1, number=number)

        assert (await Seat.query.get((1, 2))).number == 2
        assert await Seat.query.filter(pk__in=[(1, 0), (1, 1)]).count() == 2
        assert await Seat.query.order_by("number").limit(2).update(taken=True) == 2
        assert await Seat.query.filter(taken=True).delete() == 2
        with pytest.raises(FieldError, match="tuple of 2"):
            await Seat.query.get(1)


def test_an_object_that_is_not_stored_is_no_value() -> None:
    cast = make_cast(Registry("sqlite://"))
    with pytest.raises(FieldError, match="a User that has not been stored"):
        cast.Post.query.filter(user=cast.User(name="ada"))


def test_a_query_is_no_list_of_values() -> None:
    cast = make_cast(Registry("sqlite://"))
    with pytest.raises(TypeError, match="when it is awaited"):
        cast.Post.query.filter(user_id__in=cast.User.query)


def test_an_attribute_may_be_called_like_a_lookup() -> None:
    models = Registry("sqlite://")

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Odd(Base):
        __tablename__ = "odd"
        pk: Mapped[int]
        id: Mapped[int] = mapped_column(primary_key=True)
        a__lt: Mapped[int]

    query = Odd.query.filter(pk=1, a__lt=2).order_by("-pk")
    assert "odd.pk = :pk_1" in str(query.statement)
    assert "odd.a__lt = :a__lt_1" in str(query.statement)
    assert "ORDER BY odd.pk DESC" in str(query.statement)
