"""Describing a query: what is refused when it is written, and what SQL comes of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import aliased, selectinload

from asgi_dbconn import ConfigurationError, FieldError, QuerySet, Registry
from tests.models import make_cast

CAST = make_cast(Registry("sqlite://"))
User, Post = CAST.User, CAST.Post
POSTGRESQL: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


def sql(query: QuerySet[Any]) -> str:
    compiled = query.statement.compile(dialect=POSTGRESQL, compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


def where(query: QuerySet[Any]) -> str:
    return sql(query).partition(" WHERE ")[2]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (lambda: User.query.limit("2"), "number of rows of 0 or more, not '2'"),
        (lambda: User.query.limit(True), "0 or more, not True"),
        (lambda: User.query.limit(None), "0 or more, not None"),
        (lambda: User.query.offset(-1), r"offset\(\) takes a number of rows of 0 or more"),
        (lambda: User.query.offset(1.0), "not 1.0"),
        (User.query.only, r"only\(\) needs at least one name"),
        (lambda: User.query.only("posts"), "'posts' of User is a relation"),
        (User.query.select_related, r"select_related\(\) needs at least one"),
        (lambda: User.query.select_related(""), "no relation ''"),
        (lambda: User.query.prefetch_related("pots"), "no relation 'pots'.*There are: posts"),
        (lambda: User.query.prefetch_related("posts__usr"), "Post has no relation 'usr'"),
        (lambda: User.query.prefetch_related("name"), "no relation 'name'"),
        (lambda: User.query.order_by("nmae"), "Did you mean 'name'"),
        (lambda: User.query.order_by("-posts"), "'posts' of User is a relation"),
        (lambda: User.query.order_by(User.posts), "'posts' of User is a relation"),
        (lambda: User.query.order_by(None), r"order_by\(\) takes names and expressions, not None"),
        (lambda: User.query.order_by(1), "not 1"),
        (lambda: User.query.with_for_update(nowait=True, skip_locked=True), "Choose one"),
        (lambda: User.query.order_by(text("name")).last(), "turn round an order that is text"),
        (lambda: User.query.values("posts"), "is a relation"),
        (lambda: User.query.values(5), r"values\(\) takes names and expressions, not 5"),
        (lambda: User.query.values(User.id, Post.id), "Two of the fields are called 'id'"),
        (lambda: User.query.values_list("nmae"), "no field 'nmae'"),
        (lambda: User.query.values_list("id", "name", flat=True), "takes one field, not 2"),
        (lambda: User.query.values_list(flat=True), "takes one field, not 0"),
        (lambda: User.query.using(schema="x"), "SQLite, which has no schemas"),
    ],
)
def test_what_cannot_be_is_refused_when_written(verb: Callable[[], Any], said: str) -> None:
    with pytest.raises((ConfigurationError, TypeError), match=said):
        verb()


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (User.name is None, "Python has compared already"),
        ("name = 'x'", r"sqlalchemy\.text\(\)"),
        (None, "not None"),
        ({"name": "x"}, "not {'name': 'x'}"),
    ],
)
def test_a_filter_that_is_no_expression_is_refused(expression: Any, said: str) -> None:
    for verb in (User.query.filter, User.query.exclude):
        with pytest.raises(FieldError, match=said):
            verb(expression)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda query: [*query], "async for"),
        (lambda query: query[0], r"offset\(3\)"),
        (lambda query: query[2:5], r"limit\(5\)"),
        (len, r"await query\.count\(\)"),
        (bool, r"await query\.exists\(\)"),
        (lambda query: 5 in query, r"filter\(pk="),
        (lambda query: query == [], "Compare what it gives"),
        (lambda query: query != (), "Compare what it gives"),
    ],
)
def test_a_query_that_was_not_awaited_says_what_to_write(
    use: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(TypeError, match=f"QuerySet of User>.*when it is awaited.*{said}"):
        use(User.query)


def test_queries_are_compared_by_identity() -> None:
    query = User.query
    assert query == query
    assert query != User.query
    assert query is not None
    assert {query: 1}[query] == 1
    assert [User.query, query].index(query) == 1


def test_every_verb_leaves_the_query_as_it_was() -> None:
    query = User.query.filter(name="ada").order_by("name").limit(3)
    before = sql(query)
    query.exclude(age=3).offset(1).distinct().only("name").select_related("posts")
    query.order_by().limit(1).filter(age=4).with_for_update()
    assert sql(query) == before


def test_without_anything_a_verb_changes_nothing() -> None:
    assert sql(User.query.filter()) == sql(User.query)
    assert sql(User.query.exclude()) == sql(User.query)
    assert sql(User.query.order_by("name").order_by()) == sql(User.query)


def test_the_last_limit_counts() -> None:
    assert sql(User.query.limit(3).limit(10).offset(5).offset(1)).endswith("LIMIT 10 OFFSET 1")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (lambda: User.query.exclude(name="x"), "users.name != 'x'"),
        (lambda: User.query.exclude(User.id > 3), "users.id <= 3"),
        (lambda: User.query.exclude(pk__in=[1]), "(users.id NOT IN (1))"),
        (lambda: User.query.exclude(age=None), "users.age IS NOT NULL"),
        (lambda: User.query.exclude(id=1, name="x"), "NOT (users.id = 1 AND users.name = 'x')"),
        (lambda: User.query.exclude(age=3), "NOT coalesce(users.age = 3, false)"),
        (lambda: User.query.exclude(age__in=[3]), "NOT coalesce(users.age IN (3), false)"),
        (lambda: User.query.exclude(User.age == User.id), "NOT coalesce(users.age = users.id"),
        (lambda: User.query.exclude(func.nullif(User.id, 1) == 2), "NOT coalesce(nullif("),
        (lambda: User.query.exclude(User.id / 0 == 1), "NOT coalesce("),
        (lambda: User.query.exclude(User.id == Post.id), "NOT coalesce("),
        (
            lambda: User.query.exclude(User.id > select(func.max(Post.id)).scalar_subquery()),
            "NOT coalesce(",
        ),
        (lambda: User.query.exclude(text("id = 1")), "NOT coalesce(id = 1, false)"),
        (lambda: Post.query.exclude(user__age=3), "NOT (EXISTS (SELECT 1 FROM users"),
    ],
)
def test_only_what_may_be_unknown_is_kept_from_the_indexes(
    query: Callable[[], QuerySet[Any]], expected: str
) -> None:
    assert where(query()).startswith(expected)


def test_lookups_through_one_relation_are_about_the_same_row() -> None:
    assert where(User.query.filter(posts__title="a", posts__id__gt=3)).count("EXISTS") == 1
    assert where(User.query.filter(posts__title="a").filter(posts__id=3)).count("EXISTS") == 2


def test_a_lock_is_about_the_rows_of_the_model() -> None:
    query = Post.query.select_related("user").with_for_update(skip_locked=True)
    assert sql(query).endswith("FOR UPDATE OF posts SKIP LOCKED")


def test_options_add_up() -> None:
    query = User.query.options(selectinload(User.posts)).only("name").only("age")
    assert sql(query) == "SELECT users.id, users.name, users.age FROM users"


@pytest.mark.parametrize(
    ("query", "others"),
    [
        (lambda: User.query, False),
        (lambda: User.query.filter(User.age > 3, name="x"), False),
        (lambda: User.query.filter(posts__title="x", pk__in=select(Post.user_id)), False),
        (lambda: User.query.exclude(User.id > select(func.max(Post.id)).scalar_subquery()), False),
        (lambda: User.query.filter(Post.user_id == User.id), True),
        (lambda: User.query.filter(aliased(User).id > User.id), True),
        (lambda: User.query.exclude(Post.id), True),
        (lambda: User.query.filter(lambda: User.name == "x"), True),  # nobody knows yet
    ],
)
def test_a_query_knows_whether_it_names_other_tables(
    query: Callable[[], QuerySet[Any]], others: bool
) -> None:
    assert query()._query.joins_others is others
