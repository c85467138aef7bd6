"""``values()`` of aggregates: over the rows of the query, for each value of the other fields."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import column, func, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, query_expression, with_expression

from asgi_dbconn import FieldError, Queryable, Registry
from asgi_dbconn.orm.aggregates import is_aggregate
from tests.orm.library import library

count = func.count().label("n")


async def test_an_aggregate_without_a_column_is_over_the_rows_of_the_query(
    database_url: str,
) -> None:
    async with library(database_url) as cast:
        books = cast.Book.query
        assert await books.values(count) == [{"n": 4}]
        assert await books.values_list(func.count(), flat=True) == [4]
        assert await books.filter(title="One").values(count) == [{"n": 1}]
        assert await books.filter(title="None of them").values(count) == [{"n": 0}]
        assert await books.filter(title="None of them").values(literal(1).label("x")) == []
        assert await books.values_list(literal(1), flat=True) == [1, 1, 1, 1]


async def test_an_aggregate_of_a_slice_is_over_the_slice(database_url: str) -> None:
    async with library(database_url) as cast:
        books = cast.Book.query.order_by("id")
        assert await books.limit(3).values(count) == [{"n": 3}]
        assert await books.offset(1).limit(2).values_list(func.sum(cast.Book.pages)) == [(300,)]
        writers = cast.Author.query.filter(cast.Book.author_id == cast.Author.id)
        assert await writers.values(count) == [{"n": 3}]
        assert await writers.distinct().values(count) == [{"n": 2}]


async def test_beside_an_aggregate_the_other_fields_are_groups(database_url: str) -> None:
    async with library(database_url) as cast:
        books = cast.Book.query.filter(author_id__isnull=False).order_by("author_id")
        assert await books.values("author_id", count) == [
            {"author_id": 1, "n": 2},
            {"author_id": 2, "n": 1},
        ]
        assert await books.limit(1).values("author_id", count) == [{"author_id": 1, "n": 2}]
        # The same expression twice has parameters of its own each time, and is one group.
        initial = func.substr(cast.Book.title, 1, 1)
        by_initial = cast.Book.query.order_by(column("initial"))
        assert await by_initial.values_list(initial.label("initial"), func.count()) == [
            ("F", 1),
            ("O", 1),
            ("T", 2),
        ]


async def test_a_subquery_is_no_aggregate_of_the_query(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        written = (
            select(func.count()).where(Book.author_id == Author.id).scalar_subquery().label("n")
        )
        found = await Author.query.order_by("id").values_list("name", written)
        assert found == [("Ada", 2), ("Bob", 1), ("Cyd", 0)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (func.count(), True),
        (func.sum(column("x")) / 2, True),
        (func.coalesce(func.max(column("x")), 0), True),
        (func.count().filter(column("x") > 1), True),
        (func.percentile_cont(0.5).within_group(column("x")), True),
        (func.array_agg(column("x")), True),
        (func.max(column("x"), column("y")), False),  # the larger of two, in SQLite
        (func.sum(column("x")).over(), False),
        (func.length(column("x")), False),
        (column("x"), False),
        (select(func.count()).scalar_subquery(), False),
        (select(column("x")).exists(), False),
    ],
)
def test_aggregates_are_recognised(expression: Any, expected: bool) -> None:
    assert is_aggregate(expression) is expected


async def test_a_query_expression_has_no_value_in_sql(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Article(Base):
        __tablename__ = "articles"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int]
        score: Mapped[int] = query_expression()
        five: Mapped[int] = query_expression(literal(5))

    async with models:
        await models.create_all()
        await Article.query.bulk_create([{"size": size} for size in (1, 3, 2)])
        scored = Article.query.options(with_expression(Article.score, Article.size * 10))

        assert [article.score for article in await scored.order_by("id")] == [10, 30, 20]
        assert await Article.query.filter(five=5).count() == 3
        assert "score" not in (await Article.query.values())[0]
        for refused in (
            lambda: scored.filter(score__gt=10),
            lambda: scored.order_by("-score"),
            lambda: scored.values("score"),
        ):
            with pytest.raises(FieldError, match=r"query_expression\(\), which is NULL"):
                refused()
