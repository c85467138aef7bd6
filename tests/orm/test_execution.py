"""What was executed before is executed again directly, if nobody can tell the difference."""

from __future__ import annotations

import enum
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    bindparam,
    event,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Database, Queryable, Registry
from asgi_dbconn.orm.fast_path.execution import execute
from tests.models import Cast, make_cast

pytestmark = pytest.mark.postgres

numbers = itertools.count(1)
Verb = Callable[[Cast, Any], Awaitable[Any]]


def changed(instance: Any) -> Any:
    instance.age = next(numbers)
    return instance


VERBS: dict[str, Verb] = {
    "get": lambda cast, _: cast.User.query.get(1),
    "get by a name": lambda cast, _: cast.User.query.get(name="ada"),
    "a page": lambda cast, _: cast.User.query.order_by("id").limit(2),
    "an expression": lambda cast, _: cast.User.query.filter(cast.User.id < next(numbers)),
    "count": lambda cast, _: cast.User.query.count(),
    "exists": lambda cast, _: cast.User.query.filter(id=1).exists(),
    "create": lambda cast, _: cast.User.query.create(name=f"user {next(numbers)}"),
    "save": lambda cast, user: changed(user).save(),
    "update": lambda cast, _: cast.User.query.filter(id=1).update(age=next(numbers)),
    "delete": lambda cast, _: cast.User.query.filter(id=0).delete(),
}


@pytest.fixture
def by_connection(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The statements that take the usual way: what ``Connection.execute`` is called with."""
    statements: list[Any] = []
    execute: Any = Connection.execute

    def noted(self: Connection, statement: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(statement)
        return execute(self, statement, *args, **kwargs)

    monkeypatch.setattr(Connection, "execute", noted)
    return statements


@pytest.fixture
def engine_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """That somebody once listened to all engines, which SQLAlchemy notes for good, is undone."""
    monkeypatch.setattr(Engine, "_has_events", Engine._has_events)
    monkeypatch.setattr(Connection, "_has_events", Connection._has_events)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_goes_directly_the_second_time(
    postgres_url: str, by_connection: list[Any], verb: str
) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = await cast.User.query.create(name="ada")
        await VERBS[verb](cast, user)
        by_connection.clear()
        await VERBS[verb](cast, user)
        assert by_connection == []


@pytest.mark.parametrize("scope", ["connection", "session", "transaction"])
async def test_a_verb_in_a_scope_goes_directly_and_is_rolled_back_with_it(
    postgres_url: str, by_connection: list[Any], scope: str
) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        for name in ("ada", "bob"):
            await cast.User.query.create(name=name)
        by_connection.clear()
        with pytest.raises(ZeroDivisionError):
            async with getattr(cast.models.database, scope)():
                await cast.User.query.create(name="cyd")
                _ = 1 / 0
        assert by_connection == []
        assert await cast.User.query.count() == 2


async def test_a_statement_says_each_time_what_it_is_about(
    postgres_url: str, by_connection: list[Any]
) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        for name in ("ada", "bob", "cyd"):
            await cast.User.query.create(name=name)
        by_connection.clear()
        found = [
            [user.name for user in await cast.User.query.filter(cast.User.id == number)]
            for number in (1, 2, 3, 4)
        ]

    assert found == [["ada"], ["bob"], ["cyd"], []]
    assert len(by_connection) == 1


def has_listener(connection: Connection) -> None:
    event.listen(connection, "after_cursor_execute", lambda *_: None)


# What is done to the connection, and the options of the statement.
UNUSUAL: dict[str, tuple[Callable[[Connection], Any], dict[str, Any]]] = {
    "nothing": (lambda _: None, {}),
    "a listener of the connection": (has_listener, {}),
    "an option of the statement": (lambda _: None, {"preserve_rowcount": True}),
    "an option of the connection": (
        lambda connection: connection.execution_options(preserve_rowcount=True),
        {},
    ),
}


@pytest.mark.parametrize("unusual", UNUSUAL)
async def test_what_is_unusual_takes_the_usual_way(
    postgres_url: str, by_connection: list[Any], unusual: str
) -> None:
    prepare, of_statement = UNUSUAL[unusual]
    plain = select(bindparam("number", type_=Integer))
    statement = plain.execution_options(**of_statement)

    def work(connection: Connection) -> Any:
        prepare(connection)
        return [tuple(row) for row in execute(connection, statement, {"number": 3}).rows]

    async with Database(postgres_url, pool_size=1) as database:
        await database.run(lambda each: execute(each, plain, {"number": 2}), autocommit=True)
        by_connection.clear()
        rows = await database.run(work, autocommit=True)

    assert rows == [(3,)]
    assert len(by_connection) == (unusual != "nothing")


@contextmanager
def heard(target: Any, name: str) -> Iterator[list[str]]:
    statements: list[str] = []

    def listener(*args: Any) -> None:
        statements.extend(str(arg) for arg in args if str(arg).startswith("SELECT"))

    event.listen(target, name, listener)
    try:
        yield statements
    finally:
        event.remove(target, name, listener)


@pytest.mark.usefixtures("engine_flag")
@pytest.mark.parametrize("whose", ["one", "all"])
@pytest.mark.parametrize(
    "name",
    ["after_execute", "before_cursor_execute", "after_cursor_execute", "do_execute"],
)
async def test_whoever_listens_is_told(postgres_url: str, whose: str, name: str) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        ada = await cast.User.query.create(name="ada")
        for _ in range(2):
            await cast.User.query.get(ada.id)
        target = cast.models.database.engine.sync_engine if whose == "one" else Engine
        with heard(target, name) as statements:
            found = await cast.User.query.get(ada.id)
        again = await cast.User.query.get(ada.id)

    assert len(statements) == 1
    assert (found.id, found.name) == (again.id, again.name) == (ada.id, "ada")


async def test_what_is_to_be_logged_is_logged(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada")
        for _ in range(2):
            await cast.User.query.get(1)
        with caplog.at_level(logging.INFO, "sqlalchemy.engine.Engine"):
            await cast.User.query.get(1)

    assert [message for message in caplog.messages if message.startswith("SELECT")]


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


async def test_values_are_read_by_their_types(postgres_url: str, by_connection: list[Any]) -> None:
    models = Registry(postgres_url, pool_size=1)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[Colour] = mapped_column(Enum(Colour))
        price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
        weight: Mapped[Decimal] = mapped_column(Float(asdecimal=True))
        cheap: Mapped[float] = mapped_column(Numeric(10, 2, asdecimal=False))
        takes: Mapped[timedelta] = mapped_column(Interval)
        raw: Mapped[bytes] = mapped_column(LargeBinary)
        more: Mapped[dict[str, Any]] = mapped_column(JSON)
        colours: Mapped[list[Colour]] = mapped_column(ARRAY(Enum(Colour)))
        nothing: Mapped[Colour | None] = mapped_column(Enum(Colour))

    values = {
        "colour": Colour.RED,
        "price": Decimal("1.50"),
        "weight": Decimal("2.5"),
        "cheap": 0.5,
        "takes": timedelta(hours=1),
        "raw": b"\0\1",
        "more": {"a": [1, None]},
        "colours": [Colour.GREEN, Colour.RED],
        "nothing": None,
    }
    async with models:
        await models.create_all()
        await Thing.query.create(**values)
        thing = await Thing.query.create(**values)
        reads = []
        for _ in range(2):
            by_connection.clear()
            reads.append((await Thing.query.get(thing.id), len(by_connection)))

    assert [ways for _, ways in reads] == [1, 0]
    for read, _ in reads:
        found = {name: getattr(read, name) for name in values}
        assert found == values
        assert [type(row) for row in found.values()] == [type(value) for value in values.values()]


async def test_defaults_of_pythons_are_called_once_for_each_row(
    postgres_url: str, by_connection: list[Any]
) -> None:
    models, called = Registry(postgres_url, pool_size=1), itertools.count(1)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        number: Mapped[int] = mapped_column(default=lambda: next(called))
        shout: Mapped[str] = mapped_column(
            default=lambda context: context.get_current_parameters()["name"].upper()
        )
        changed_at: Mapped[datetime | None] = mapped_column(onupdate=lambda: datetime(2020, 1, 1))

    async with models:
        await models.create_all()
        things = [await Thing.query.create(name=f"a{number}") for number in range(3)]
        assert [(thing.number, thing.shout) for thing in things] == [
            (1, "A0"),
            (2, "A1"),
            (3, "A2"),
        ]
        for thing in things:
            by_connection.clear()
            thing.name = "b"
            await thing.save()
            assert thing.changed_at == datetime(2020, 1, 1)
        assert by_connection == []
        stored = await Thing.query.order_by("id")

    assert [(row.number, row.shout) for row in stored] == [(1, "A0"), (2, "A1"), (3, "A2")]
    assert {row.changed_at for row in stored} == {datetime(2020, 1, 1)}
