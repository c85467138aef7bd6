"""Verbs that read: which rows come, in which order, how complete, and at what cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import (
    asc,
    desc,
    func,
    inspect,
    nulls_first,
    nulls_last,
)
from sqlalchemy.orm import (
    joinedload,
    selectinload,
)
from sqlalchemy.orm.exc import DetachedInstanceError

from asgi_dbconn import MultipleObjectsReturned, ObjectNotFound
from tests.orm.library import library
from tests.support.proxy import Proxy


def titles(books: list[Any]) -> list[str]:
    return [book.title for book in books]


# -- order, slices, distinct rows


async def test_nulls_stand_where_the_order_says(database_url: str) -> None:
    async with library(database_url) as cast:
        Book = cast.Book
        by_pages = Book.pages.desc()
        for order, expected in (
            (by_pages.nulls_first(), ["Four", "Two", "Three", "One"]),
            (by_pages.nulls_last(), ["Three", "One", "Four", "Two"]),
        ):
            query = Book.query.order_by(order, "title")
            assert titles(await query) == expected
            first, last = await query.first(), await query.last()
            assert (first.title, last.title) == (expected[0], expected[-1])


ORDERS: list[tuple[Any, ...]] = [
    (),
    ("title",),
    ("-pages", "pk"),
    ("-pk",),
    (desc("title"),),
    (nulls_last(desc("pages")), nulls_first(asc("title"))),
]


@pytest.mark.parametrize("order", ORDERS)
async def test_the_last_is_the_last_of_the_list(database_url: str, order: tuple[Any, ...]) -> None:
    async with library(database_url) as cast:
        everything = cast.Book.query.order_by(*order) if order else cast.Book.query.order_by("pk")
        for offset in range(6):
            for limit in (None, 0, 1, 2, 9):
                part = everything if offset == 0 else everything.offset(offset)
                part = part if limit is None else part.limit(limit)
                rows = await part
                last, first = await part.last(), await part.first()
                assert (last and last.id) == (rows[-1].id if rows else None)
                assert (first and first.id) == (rows[0].id if rows else None)
                assert await part.count() == len(rows)
                assert await part.exists() is bool(rows)
        assert (await cast.Book.query.last()).title == "Four"
        assert (await cast.Book.query.limit(2).last()).title == "Two"


async def test_an_order_may_be_by_a_label_of_the_query(database_url: str) -> None:
    async with library(database_url) as cast:
        loud = func.upper(cast.Book.title).label("loud")
        query = cast.Book.query.order_by(desc("loud"))
        assert await query.limit(2).values_list(loud, flat=True) == ["TWO", "THREE"]


async def test_the_last_of_an_offset_is_one_row(postgres_url: str) -> None:
    async with library(postgres_url) as cast:
        description = cast.Book.query.offset(2)._query
        assert description.last().limit == 1


async def test_distinct_rows_are_counted_sliced_and_changed_as_such(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        writers = Author.query.filter(Book.author_id == Author.id)
        assert await writers.count() == 3  # a row for each pair
        assert await writers.distinct().count() == 2
        once = writers.distinct().order_by("-name")
        assert [row.name for row in await once.limit(2)] == ["Bob", "Ada"]
        assert await once.limit(5).count() == 2
        assert await once.limit(1).offset(1).exists()
        assert not await once.limit(1).offset(2).exists()
        assert (await once.first()).name == "Bob"
        assert (await once.last()).name == "Ada"
        assert await once.limit(1).update(country="xx") == 1
        assert (await Author.query.get(name="Bob")).country == "xx"
        assert await Book.query.distinct().order_by("-title").limit(1).delete() == 1
        assert await Book.query.filter(title="Two").exists() is False


async def test_what_another_table_narrows_is_changed_and_nothing_else(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        of_uk = Book.query.filter(Book.author_id == Author.id, Author.country == "uk")
        assert await of_uk.order_by("title").limit(1).update(pages=1) == 1
        assert (await Book.query.get(pages=1)).title == "One"
        assert await of_uk.order_by("title").offset(1).delete() == 1
        assert titles(await Book.query.order_by("pk")) == ["One", "Three", "Four"]
        assert await of_uk.update(pages=2) == 1
        assert await of_uk.delete() == 1
        assert titles(await Book.query.order_by("pk")) == ["Three", "Four"]


async def test_distinct_values(database_url: str) -> None:
    async with library(database_url) as cast:
        Book = cast.Book
        found = (
            await Book.query.distinct().order_by("author_id").values_list("author_id", flat=True)
        )
        assert sorted(found, key=str) == [1, 2, None]


# -- values


async def test_values_go_by_the_names_of_the_attributes(database_url: str) -> None:
    async with library(database_url) as cast:
        Author = cast.Author
        ada = Author.query.filter(pk=1)
        assert await ada.values() == [
            {"id": 1, "name": "Ada", "country": "uk", "mentor_id": None, "written": 2}
        ]
        assert await ada.values("pk", "called", "shout", "written", "biography") == [
            {"pk": 1, "called": "Ada", "shout": "ADA", "written": 2, "biography": "long"}
        ]
        assert await ada.values(Author.name, Author.shout, func.length(Author.name).label("n")) == [
            {"name": "Ada", "shout": "ADA", "n": 3}
        ]
        assert await ada.values(func.length(Author.name)) == [{"length_1": 3}]
        assert await Author.query.filter(name="zoe").values("name") == []


async def test_values_lists(database_url: str) -> None:
    async with library(database_url) as cast:
        Author = cast.Author
        ordered = Author.query.order_by("-pk")
        assert await ordered.values_list("name", Author.country) == [
            ("Cyd", None),
            ("Bob", "us"),
            ("Ada", "uk"),
        ]
        assert await ordered.limit(1).values_list() == [(3, "Cyd", None, 2, 0)]
        assert await ordered.values_list("pk", flat=True) == [3, 2, 1]
        assert await ordered.values_list(func.upper(Author.name), flat=True) == [
            "CYD",
            "BOB",
            "ADA",
        ]
        for row in await ordered.values_list("name"):
            assert type(row) is tuple


# -- how much of an object is loaded


async def test_only_leaves_out_the_others_until_they_are_asked_for(database_url: str) -> None:
    async with library(database_url) as cast:
        ada = await cast.Author.query.only("name", "biography").get(1)
        assert (ada.id, ada.name, ada.biography) == (1, "Ada", "long")
        with pytest.raises(DetachedInstanceError):
            _ = ada.country
        await ada.refresh("country")
        assert ada.country == "uk"
        assert (await cast.Author.query.only(cast.Author.called, "pk").get(1)).name == "Ada"


async def test_objects_come_with_column_properties_and_without_deferred_columns(
    database_url: str,
) -> None:
    async with library(database_url) as cast:
        ada = await cast.Author.query.get(called="Ada")
        assert (ada.written, ada.shout) == (2, "ADA")
        assert inspect(ada).detached
        assert inspect(ada).unloaded == {"biography", "books", "called", "mentor", "pupils"}


async def test_relations_are_loaded_by_paths(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        book = await Book.query.select_related("author__mentor", "editor").get(title="Three")
        assert (book.author.mentor.name, book.editor.name) == ("Ada", "Ada")

        ada = await Author.query.prefetch_related("books__tags", "pupils__pupils").get(1)
        assert sorted(tag.text for book in ada.books for tag in book.tags) == [
            "green",
            "red",
            "red",
        ]
        assert [pupil.name for pupil in ada.pupils[0].pupils] == ["Cyd"]

        both = Book.query.select_related(Book.author).prefetch_related(Book.tags).order_by("pk")
        assert [(row.author and row.author.name, len(row.tags)) for row in await both] == [
            ("Ada", 1),
            ("Ada", 2),
            ("Bob", 0),
            (None, 0),
        ]
        chosen = Author.query.options(selectinload(Author.books.and_(Book.pages.is_not(None))))
        assert titles((await chosen.get(1)).books) == ["One"]


async def test_a_joined_collection_neither_repeats_nor_cuts_off(database_url: str) -> None:
    async with library(database_url) as cast:
        Author = cast.Author
        query = Author.query.select_related("books").order_by("pk")
        assert [len(row.books) for row in await query] == [2, 1, 0]
        assert [len(row.books) for row in await query.limit(2)] == [2, 1]
        assert len((await query.first()).books) == 2
        assert len((await query.get(1)).books) == 2
        assert (
            len((await Author.query.options(joinedload(Author.books)).get(name="Ada")).books) == 2
        )


async def test_rows_of_pairs_are_one_object_each(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        writers = await Author.query.filter(Book.author_id == Author.id).order_by("pk")
        assert [writer.name for writer in writers] == ["Ada", "Bob"]


async def test_a_loop_that_is_left_early_keeps_no_connection(database_url: str) -> None:
    async with library(database_url) as cast:
        async for book in cast.Book.query.order_by("title"):
            assert book.title == "Four"
            break
        assert cast.models.stats()[None].in_use == 0
        assert [book.title async for book in cast.Book.query.order_by("-pk").limit(2)] == [
            "Four",
            "Three",
        ]


async def test_a_missing_object(database_url: str) -> None:
    async with library(database_url) as cast:
        assert await cast.Author.query.get_or_none(name="zoe") is None
        assert await cast.Author.query.get_or_none(pk=None) is None
        assert await cast.Author.query.filter(name="zoe").last() is None
        with pytest.raises(ObjectNotFound):
            await cast.Author.query.filter(name="Ada").get(2)


# -- what it costs


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("name", "round_trips"),
    [
        ("only", 1),
        ("select_related", 1),
        ("values", 1),
        ("last of an offset", 1),
        ("prefetch_related", 2 + 2),  # its transaction begins and ends
        ("options", 1 + 2),
    ],
)
async def test_no_statement_is_sent_in_vain(
    proxy: Proxy, postgres_url: str, name: str, round_trips: int
) -> None:
    async with library(proxy.url_for(postgres_url)) as cast:
        Author, Book = cast.Author, cast.Book
        queries: dict[str, Callable[[], Awaitable[Any]]] = {
            "only": lambda: Author.query.only("name"),
            "select_related": lambda: Book.query.select_related("author__mentor"),
            "values": lambda: Author.query.values("name", "written"),
            "last of an offset": lambda: Author.query.offset(1).last(),
            "prefetch_related": lambda: Author.query.prefetch_related("books"),
            "options": lambda: Book.query.options(joinedload(Book.author)),
        }
        await queries[name]()  # prepares the statements
        with proxy.counting() as counted:
            await queries[name]()
    assert counted.round_trips == round_trips


async def test_an_object_in_several_rows_of_a_join_is_one_object(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        writers = Author.query.filter(Book.author_id == Author.id)
        by_title = writers.order_by(Book.title.desc())

        for query in (writers, writers.order_by("name"), by_title, by_title.limit(3)):
            with pytest.raises(MultipleObjectsReturned):
                await query.get()
            with pytest.raises(MultipleObjectsReturned):
                await query.get_or_none()
        assert (await writers.filter(name="Ada").get()).name == "Ada"
        assert (await by_title.filter(name="Ada").get()).name == "Ada"
        assert [author.name for author in await writers.order_by("name").limit(2)] == ["Ada", "Bob"]
        assert [author.name for author in await writers.order_by("-name").offset(1)] == ["Ada"]
        async with cast.models.transaction():
            with pytest.raises(MultipleObjectsReturned):
                await writers.with_for_update().get()


@pytest.mark.parametrize("rows", [1, 2, 100])
async def test_a_stream_of_a_join_has_each_object_once(database_url: str, rows: int) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        writers = Author.query.filter(Book.author_id == Author.id)
        for query in (writers.order_by("name"), writers.order_by(Book.title)):
            async with query.stream(rows) as authors:
                names = [author.name async for author in authors]
            assert sorted(names) == ["Ada", "Bob"]
