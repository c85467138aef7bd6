"""Rows that a Session would not see are not seen, and not changed, by any verb."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import ForeignKey, create_engine, event, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)

from asgi_dbconn import Queryable, QuerySet, Registry

MINE, HIDDEN = (1, 2, 3), (4, 5)


@dataclass(frozen=True)
class Archive:
    models: Registry
    Doc: Any
    Label: Any

    @property
    def criteria(self) -> Any:
        return with_loader_criteria(self.Doc, self.Doc.tenant == "me", include_aliases=True)


def make_archive(models: Registry) -> Archive:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Doc(Base):
        __tablename__ = "docs"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[str] = mapped_column(default="me")
        number: Mapped[int] = mapped_column(default=0)
        labels: Mapped[list[Label]] = relationship(back_populates="doc")

    class Label(Base):
        __tablename__ = "labels"
        id: Mapped[int] = mapped_column(primary_key=True)
        doc_id: Mapped[int] = mapped_column(ForeignKey("docs.id"))
        doc: Mapped[Doc] = relationship(back_populates="labels")

    return Archive(models, Doc, Label)


@asynccontextmanager
async def archive(url: str, schema: str | None = None) -> AsyncIterator[Archive]:
    """Three documents of ours and two of another tenant, with one label each."""
    made = make_archive(Registry(url))
    async with made.models:
        with made.models.with_schema(schema):
            await made.models.create_all(schema=schema)
            await made.Doc.query.bulk_create(
                {"tenant": "me" if key in MINE else "other", "number": key}
                for key in (*MINE, *HIDDEN)
            )
            await made.Label.query.bulk_create({"doc_id": key} for key in (*MINE, *HIDDEN))
            yield made


@contextmanager
def listening(made: Archive) -> Iterator[Callable[[Any], Any]]:
    def hide(state: Any) -> None:
        if state.is_select or state.is_update or state.is_delete:
            state.statement = state.statement.options(made.criteria)

    event.listen(Session, "do_orm_execute", hide)
    try:
        yield lambda query: query
    finally:
        event.remove(Session, "do_orm_execute", hide)


@contextmanager
def with_option(made: Archive) -> Iterator[Callable[[Any], Any]]:
    yield lambda query: query.options(made.criteria)


@contextmanager
def among_loader_options(made: Archive) -> Iterator[Callable[[Any], Any]]:
    options = (selectinload(made.Doc.labels), made.criteria)
    yield lambda query: query.options(*options)


@contextmanager
def joined(made: Archive) -> Iterator[Callable[[Any], Any]]:
    yield lambda query: query.options(made.criteria).filter(made.Label.doc_id == made.Doc.id)


SITUATIONS = [listening, with_option, among_loader_options, joined]
Verb = Callable[[Archive, Any], Awaitable[Any]]


async def read_stream(_: Archive, query: Any) -> list[int]:
    async with query.stream(2) as docs:
        return [doc.id async for doc in docs]


async def hidden_objects(made: Archive) -> list[Any]:
    """Objects of rows that are hidden since, as from another request."""
    docs = [made.Doc(id=key, tenant="other", number=key) for key in HIDDEN]
    found: list[Any] = await made.Doc.query.bulk_create(
        docs, returning=True, update_conflicts=["number"]
    )
    return found


async def update_hidden(made: Archive, query: Any) -> int:
    docs = await hidden_objects(made)
    for doc in docs:
        doc.number = 99
    found: int = await query.bulk_update(docs, ["number"])
    return found


async def keys(made: Archive, query: Any) -> list[int]:
    return sorted(doc.id for doc in await query)


def expression(made: Archive) -> Any:
    return (made.Doc.number * 10).label("tenfold")


# Each verb with the answer that leaves the hidden rows alone.
VERBS: dict[str, list[tuple[Verb, Any]]] = {
    "__await__": [(keys, [1, 2, 3])],
    "__aiter__": [],
    "stream": [(read_stream, [1, 2, 3])],
    "get": [(lambda made, query: query.get(number=4), "ObjectNotFound")],
    "get_or_none": [
        (lambda made, query: query.get_or_none(4), None),
        (lambda made, query: query.get_or_none(number=4), None),
    ],
    "first": [(lambda made, query: query.filter(number__gt=3).first(), None)],
    "last": [(lambda made, query: query.filter(number__gt=3).last(), None)],
    "count": [
        (lambda made, query: query.count(), 3),
        (lambda made, query: query.order_by("-id").limit(2).count(), 2),
        (lambda made, query: query.filter(labels__id__gt=0).count(), 3),
    ],
    "exists": [(lambda made, query: query.filter(number=4).exists(), False)],
    "values": [
        (lambda made, query: query.order_by("id").values("id"), [{"id": key} for key in MINE]),
        (
            lambda made, query: query.order_by("id").values(expression(made)),
            [{"tenfold": key * 10} for key in MINE],
        ),
    ],
    "values_list": [
        (lambda made, query: query.order_by("-id").values_list("id", flat=True), [3, 2, 1]),
        (lambda made, query: query.values_list(func.max(made.Doc.id), flat=True), [3]),
    ],
    "update": [
        (lambda made, query: query.update(number=9), 3),
        (lambda made, query: query.update(number=made.Doc.number + 1), 3),
        (lambda made, query: query.order_by("-id").limit(1).update(number=9), 1),
    ],
    "delete": [(lambda made, query: query.filter(number__gt=3).delete(), 0)],
    "bulk_update": [(update_hidden, 0)],
    "create": [],  # these insert, and insert only
    "bulk_create": [],
    "get_or_create": [(lambda made, query: made_anew(query.get_or_create(number=4)), True)],
    "update_or_create": [
        (
            lambda made, query: made_anew(query.update_or_create({"tenant": "me"}, number=4)),
            True,
        )
    ],
}
BUILDING = {"all", "filter", "exclude", "order_by", "limit", "offset", "distinct", "options"} | {
    *("select_related", "prefetch_related", "only", "with_for_update", "using", "statement"),
    *("over", "again", "home_loop"),
}
PROGRAMS = [
    pytest.param(situation, verb, answer, id=f"{situation.__name__}-{name}-{number}")
    for situation in SITUATIONS
    for name, programs in VERBS.items()
    for number, (verb, answer) in enumerate(programs)
]


async def made_anew(storing: Awaitable[tuple[Any, bool]]) -> bool:
    return (await storing)[1]


def test_every_verb_is_tried() -> None:
    verbs = {
        name
        for name, _ in inspect.getmembers(QuerySet)
        if not name.startswith("_") and name not in BUILDING
    }

    assert verbs == {name for name in VERBS if not name.startswith("_")}


async def outcome(verb: Verb, made: Archive, query: Any) -> Any:
    try:
        return await verb(made, query)
    except LookupError as error:
        return type(error).__name__


async def stored_rows(made: Archive) -> list[Any]:
    """All rows of the other tenant, as SQLAlchemy's Core sees them."""
    async with made.models.connection() as connection:
        docs = made.Doc.__table__
        found = await connection.execute(
            select(docs.c.id, docs.c.tenant, docs.c.number)
            .where(docs.c.tenant == "other")
            .order_by(docs.c.id)
        )
        return [tuple(row) for row in found]


@pytest.mark.parametrize(("situation", "verb", "answer"), PROGRAMS)
async def test_a_verb_sees_the_rows_that_a_session_sees(
    database_url: str, situation: Any, verb: Verb, answer: Any
) -> None:
    async with archive(database_url) as made:
        with situation(made) as applied:
            assert await outcome(verb, made, applied(made.Doc.query)) == answer
        assert await stored_rows(made) == [(key, "other", key) for key in HIDDEN]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("situation", "verb", "answer"),
    [program for program in PROGRAMS if program.values[0] in (listening, with_option)],
)
async def test_so_it_does_in_a_schema(
    postgres_url: str, situation: Any, verb: Verb, answer: Any
) -> None:
    async with archive(postgres_url, "shop") as made:
        with situation(made) as applied:
            assert await outcome(verb, made, applied(made.Doc.query)) == answer
        assert await stored_rows(made) == [(key, "other", key) for key in HIDDEN]


async def test_a_count_drops_loader_options(database_url: str) -> None:
    async with archive(database_url) as made:
        loaded = made.Doc.query.prefetch_related("labels").filter(tenant="me")

        assert await loaded.count() == 3
        assert await loaded.filter(number=2).exists()
        assert await loaded.only("id").values_list("number", flat=True) == [1, 2, 3]
        assert await loaded.update(number=7) == 3
        await made.Label.query.delete()
        assert await loaded.delete() == 3


async def test_the_answers_are_those_of_a_session(sqlite_url: str) -> None:
    async with archive(sqlite_url) as made:
        mine = made.Doc.query.options(made.criteria)
        engine = create_engine(sqlite_url)
        with Session(engine) as session:
            rows = select(made.Doc).options(made.criteria).order_by(made.Doc.id)
            listed = [doc.id for doc in session.scalars(rows)]
            counted = select(func.count()).select_from(made.Doc).options(made.criteria)
            assert await mine.count() == session.scalar(counted) == len(MINE)
        engine.dispose()
        assert await keys(made, mine) == listed == [*MINE]
