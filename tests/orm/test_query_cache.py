"""Statements that are built once: for which queries, and that the values make no difference."""

from __future__ import annotations

import datetime
import enum
import gc
import uuid
import weakref
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Integer,
    LargeBinary,
    Numeric,
    String,
    TypeDecorator,
    Uuid,
    cast,
    event,
    func,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    ColumnProperty,
    DeclarativeBase,
    Mapped,
    Session,
    class_mapper,
    column_property,
    mapped_column,
)
from sqlalchemy.orm.events import SessionEvents

from asgi_dbconn import Queryable, QuerySet, Registry
from asgi_dbconn.orm.fast_path.hydration import STATEMENT_EVENTS, memoize
from asgi_dbconn.orm.query import Query, cached_statement
from tests.models import make_cast
from tests.orm.models_special import declared, listening


class Mood(enum.StrEnum):
    GOOD = "good"


class Loud(ColumnProperty.Comparator[Any]):
    def __eq__(self, other: Any) -> Any:
        return func.upper(self.__clause_element__()) == other.upper()

    __hash__ = ColumnProperty.Comparator.__hash__


class Comparing(TypeDecorator.Comparator[str]):
    def __eq__(self, other: Any) -> Any:
        return func.rtrim(self.expr, type_=String()) == other.strip()

    __hash__ = TypeDecorator.Comparator.__hash__


class Padded(TypeDecorator[str]):
    impl = String
    cache_ok = True
    comparator_factory = Comparing  # pyright: ignore[reportAssignmentType]


class Base(Queryable, DeclarativeBase, registry=Registry("sqlite://")):
    pass


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    ratio: Mapped[float]
    at: Mapped[datetime.datetime]
    on: Mapped[datetime.date]
    uid: Mapped[uuid.UUID] = mapped_column(Uuid)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    is_active: Mapped[bool]
    mood: Mapped[Mood]
    data: Mapped[Any] = mapped_column(JSON)
    padded: Mapped[str] = mapped_column(Padded)
    loud: Mapped[str] = column_property(Column("loud", String), comparator_factory=Loud)
    twice: Mapped[int] = column_property(Column("n", Integer) * 2)


OF_A_SHAPE: dict[str, tuple[Callable[[Any], QuerySet[Thing]], Any, Any]] = {
    "an integer": (lambda value: Thing.query.filter(id=value), 1, 2**30),
    "a key": (lambda value: Thing.query.filter(pk=value), 1, 2),
    "a text": (lambda value: Thing.query.filter(name=value), "", "'; -- é"),
    "a decimal": (lambda value: Thing.query.filter(price=value), Decimal(1), Decimal("0.5")),
    "a number": (lambda value: Thing.query.filter(ratio=value), 0.5, float("inf")),
    "a moment": (
        lambda value: Thing.query.filter(at=value),
        datetime.datetime(2026, 1, 1),
        datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC),
    ),
    "a day": (
        lambda value: Thing.query.filter(on=value),
        datetime.date(2026, 1, 1),
        datetime.date.max,
    ),
    "a UUID": (lambda value: Thing.query.filter(uid=value), uuid.UUID(int=1), uuid.UUID(int=2)),
    "bytes": (lambda value: Thing.query.filter(blob=value), b"", b"\0"),
    "a part": (Thing.query.limit, 1, 2**40),
    "another part": (lambda value: Thing.query.order_by("-id").limit(3).offset(value), 0, 7),
    "all at once": (
        lambda value: Thing.query.filter(name=value).filter(id=1).distinct().order_by("name", "pk"),
        "a",
        "b",
    ),
}


@pytest.mark.parametrize("kind", OF_A_SHAPE)
def test_queries_of_a_shape_share_a_statement(kind: str) -> None:
    make, one, another = OF_A_SHAPE[kind]
    (first, values), (second, others) = (
        cached_statement(make(value)._query, "objects", Query.objects) for value in (one, another)
    )
    assert first is second
    assert (one in (values or {}).values(), another in (others or {}).values()) == (True, True)
    for query, parameters in ((make(one), values), (make(another), others)):
        assert in_full(first, parameters) == in_full(query.statement)


def in_full(statement: Any, parameters: Any = None) -> Any:
    """The SQL and its values, in order, by whatever names those go in it."""
    dialect = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=dialect)
    values = compiled.construct_params(parameters or {})
    order = [values[name] for name in compiled.positiontup]
    # A part may be counted in eight bytes, whatever its size.
    return str(compiled).replace("BIGINT", "INTEGER"), order


BUILT_ANEW: dict[str, QuerySet[Thing]] = {
    "nothing": Thing.query.filter(name=None),
    "a boolean": Thing.query.filter(is_active=True),
    "a boolean for a number": Thing.query.filter(id=True),
    "a number of another type": Thing.query.filter(id=1.5),
    "a text for a number": Thing.query.filter(id="1"),
    "a member of an enumeration": Thing.query.filter(mood=Mood.GOOD),
    "a text that is more than that": Thing.query.filter(name=Mood.GOOD),
    "a document": Thing.query.filter(data="x"),
    "a type of somebody's own": Thing.query.filter(padded="x"),
    "a comparator of somebody's own": Thing.query.filter(loud="x"),
    "an expression by its name": Thing.query.filter(twice=2),
    "an expression": Thing.query.filter(Thing.id == 1),
    "a lookup": Thing.query.filter(id__gt=1),
    "an exclusion": Thing.query.exclude(id=1),
    "an order by an expression": Thing.query.order_by(Thing.name),
    "options": Thing.query.only("name"),
    "a lock": Thing.query.with_for_update(),
}


@pytest.mark.parametrize("kind", BUILT_ANEW)
def test_what_is_more_than_names_and_values_is_built_anew(kind: str) -> None:
    description = BUILT_ANEW[kind]._query
    built = [cached_statement(description, "objects", Query.objects) for _ in range(2)]
    assert built[0][0] is not built[1][0]
    assert [values for _, values in built] == [None, None]


def test_comparators_are_asked_each_time() -> None:
    for value, said in (("x", "X"), ("y", "Y")):
        _, values = in_full(Thing.query.filter(loud=value).statement)
        assert values[-1] == said
    assert in_full(Thing.query.filter(padded="x   ").statement)[1][-1] == "x"


def test_different_questions_are_different_statements() -> None:
    queries = [
        Thing.query,
        Thing.query.distinct(),
        Thing.query.limit(1),
        Thing.query.offset(1),
        Thing.query.filter(id=1),
        Thing.query.filter(id=1, name="a"),
        Thing.query.filter(name="a", id=1),
        Thing.query.order_by("id"),
        Thing.query.order_by("-id"),
        Thing.query.filter(id=1).order_by("id"),
    ]
    statements = [
        cached_statement(query._query, what, build)[0]
        for query in queries
        for what, build in (("objects", Query.objects), ("count", Query.count))
    ]
    assert len({id(statement) for statement in statements}) == len(statements)


def test_no_more_statements_are_kept_than_an_application_has() -> None:
    _, cls = declared()
    mapper = class_mapper(cls)
    for number in range(1000):
        description = Query(cls, limit=number, is_distinct=bool(number % 2))
        cached_statement(description, number, Query.objects)
    kept: dict[Any, Any] = memoize(mapper, "asgi_dbconn.statements", lambda _: {})
    assert 0 < len(kept) <= 256


def test_statements_keep_no_class_alive_and_follow_its_changes() -> None:
    _, cls = declared()
    before, _ = cached_statement(Query(cls), "objects", Query.objects)
    cls.name = mapped_column(String)
    after, _ = cached_statement(Query(cls), "objects", Query.objects)
    assert after is not before
    mapped = weakref.ref(cls)
    del cls, before, after
    gc.collect()
    assert mapped() is None


async def test_parts_of_any_size(database_url: str) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.bulk_create([{"name": "ada"}, {"name": "bob"}])
        for limit in (0, 1, 2, 2**31, 2**40):
            found = await cast.User.query.order_by("name").limit(limit).values_list("name")
            assert found == [("ada",), ("bob",)][:limit]
        assert await cast.User.query.offset(2**40).count() == 0
        last = await cast.User.query.order_by("name").last()
        assert last.name == "bob"


async def test_values_of_all_kinds_are_changed_at_once(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column("number", key="num", primary_key=True)
        text: Mapped[str | None]
        data: Mapped[Any] = mapped_column(JSON, default=1)
        count: Mapped[int | None] = mapped_column(onupdate=lambda: 7)
        size: Mapped[int | None] = mapped_column(onupdate=func.length("four"))

    async with models:
        await models.create_all()
        await Note.query.bulk_create([{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
        assert await Note.query.filter(pk=1).update(text=None, data={"a": None}) == 1
        assert await Note.query.filter(text="b").update(data=None, count=3) == 1
        assert await Note.query.filter(id=9).update(text="nobody") == 0
        assert await Note.query.order_by("id").values_list() == [
            (1, None, {"a": None}, 7, 4),
            (2, "b", None, 3, 4),
        ]
        # The null of JSON, and not that of SQL.
        as_text = Note.query.order_by("id").values_list(cast(Note.data, String), flat=True)
        assert [row.replace(" ", "") for row in await as_text] == ['{"a":null}', "null"]
        assert await Note.query.filter(id=1).update(pk=5, text=func.upper("x")) == 1
        assert await Note.query.filter(id=5, text="X").delete() == 1
        assert await Note.query.update(text="all") == 1
        assert await Note.query.delete() == 1


@pytest.mark.parametrize("name", STATEMENT_EVENTS)
async def test_listeners_of_all_sessions_hear_of_changes(sqlite_url: str, name: str) -> None:
    cast = make_cast(Registry(sqlite_url))
    async with cast.models:
        await cast.models.create_all()
        heard: list[str] = []
        listeners = {name: _noting(name, heard) for name in dir(SessionEvents) if _is_event(name)}
        with listening(Session, name):
            for name, listener in listeners.items():
                event.listen(Session, name, listener)
            try:
                await cast.User.query.filter(id=1).update(name="a")
                await cast.User.query.filter(id=1).delete()
            finally:
                for name, listener in listeners.items():
                    event.remove(Session, name, listener)
    assert set(heard) == set(STATEMENT_EVENTS)


def _is_event(name: str) -> bool:
    return not name.startswith("_") and name != "dispatch"


def _noting(name: str, heard: list[str]) -> Callable[..., None]:
    def listener(*_: Any, **__: Any) -> None:
        heard.append(name)

    return listener


@pytest.mark.postgres
async def test_one_statement_serves_every_schema(postgres_url: str) -> None:
    cast = make_cast(Registry(postgres_url))
    async with cast.models:
        for number, schema in enumerate(("tenant_a", "tenant_b")):
            await cast.models.create_all(schema=schema)
            users = cast.User.query.using(schema=schema)
            await users.bulk_create([{"name": f"{schema} {index}"} for index in range(number + 1)])
        for _ in range(2):
            for number, schema in enumerate(("tenant_a", "tenant_b")):
                users = cast.User.query.using(schema=schema)
                assert await users.count() == number + 1
                assert (await users.filter(id=1).first()).name == f"{schema} 0"
                assert await users.filter(id=1).update(age=number) == 1
                assert await users.filter(age=number).values_list("name", flat=True) == [
                    f"{schema} 0"
                ]
                assert await users.filter(id=9).delete() == 0
