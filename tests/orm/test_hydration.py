"""Both paths of reading give the same objects: plain hydration, and SQLAlchemy's own Session."""

from __future__ import annotations

import ast
import copy
import datetime
import enum
import inspect as python_inspect
import pickle
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Computed,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    event,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    WriteOnlyMapped,
    class_mapper,
    mapped_column,
    orm_insert_sentinel,
    relationship,
    synonym,
    validates,
)
from sqlalchemy.orm.events import SessionEvents
from sqlalchemy.schema import CreateSchema

from asgi_dbconn import Database
from asgi_dbconn.orm import hydration, loading, plain
from asgi_dbconn.orm.hydration import LOADING_EVENTS
from asgi_dbconn.orm.plain import plan_of

TOKEN = ("audit", "tenant_a")


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Reversed(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value and value[::-1]


class Shouted(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def column_expression(self, column: Any) -> Any:
        return func.upper(column)


class Everything(Base):
    __tablename__ = "everything"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    ratio: Mapped[float]
    is_active: Mapped[bool]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    at: Mapped[datetime.datetime]
    on: Mapped[datetime.date]
    lasted: Mapped[datetime.timedelta]
    uid: Mapped[uuid.UUID] = mapped_column(Uuid)
    data: Mapped[Any | None] = mapped_column(JSON)
    blob: Mapped[bytes] = mapped_column(LargeBinary)
    mood: Mapped[Mood]
    note: Mapped[str | None] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Reversed)
    loud: Mapped[str] = mapped_column(Shouted)
    twice: Mapped[int] = mapped_column(Computed("id * 2", persisted=True))


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")
    strict_books: Mapped[list[Book]] = relationship(lazy="raise", viewonly=True)
    many_books: WriteOnlyMapped[Book] = relationship(viewonly=True)


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(active_history=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Seat(Base):
    __tablename__ = "seats"
    name: Mapped[str | None]
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row: Mapped[str] = mapped_column(primary_key=True)


class Renamed(Base):
    __tablename__ = "renamed"
    # Neither in the order of the table nor by its names.
    label: Mapped[str] = mapped_column("name")
    key: Mapped[int] = mapped_column("id", primary_key=True)
    title: Mapped[str] = synonym("label")
    sentinel: Mapped[int | None] = orm_insert_sentinel()

    @hybrid_property
    def loud_label(self) -> str:
        return self.label.upper()

    @validates("label")
    def check(self, _: str, value: str) -> str:
        return value.upper()  # which nobody does to what is loaded


class Point(MappedAsDataclass, Base):
    __tablename__ = "points"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    x: Mapped[int]
    y: Mapped[int] = mapped_column(default=7)
    name: Mapped[str | None] = mapped_column(default=None)


class ByHand:
    pass


by_hand = Table(
    "by_hand",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("hidden", String),
)
Base.registry.map_imperatively(ByHand, by_hand, column_prefix="_", exclude_properties=["hidden"])

keyless = Table("keyless", Base.metadata, Column("code", Integer), Column("text", String))


class Keyless(Base):
    """What a view looks like: the database knows of no key."""

    __table__ = keyless
    __mapper_args__ = {"primary_key": [keyless.c.code]}


half_keyless = Table("half_keyless", Base.metadata, Column("a", Integer), Column("b", Integer))


class Whole(Base):
    __table__ = half_keyless
    __mapper_args__ = {"primary_key": [half_keyless.c.a, half_keyless.c.b]}


class Strict(Base):
    __table__ = half_keyless
    __mapper_args__ = {
        "primary_key": [half_keyless.c.a, half_keyless.c.b],
        "allow_partial_pks": False,
    }


EVERYTHING = {
    "name": "a",
    "ratio": 1 / 3,
    "is_active": True,
    "price": Decimal("12.30"),
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    "on": datetime.date(2026, 1, 2),
    "lasted": datetime.timedelta(hours=1, microseconds=5),
    "uid": uuid.UUID(int=5),
    "data": {"a": [1, None]},
    "blob": b"\0\xff",
    "mood": Mood.BAD,
    "note": None,
    "secret": "abc",
    "loud": "quiet",
}
# Each model, its rows, and the attribute to change.
ZOO: dict[type[Any], tuple[list[dict[str, Any]], tuple[str, Any]]] = {
    Everything: ([EVERYTHING, EVERYTHING | {"data": None, "note": "n"}], ("name", "b")),
    Author: ([{"name": "a"}, {"name": "b"}], ("name", "c")),
    Book: ([{"title": "a", "author_id": 1}, {"title": "b", "author_id": 1}], ("title", "c")),
    Versioned: ([{"name": "a", "version": 3}], ("name", "b")),
    Seat: ([{"number": 1, "row": "a"}, {"number": 1, "row": "b", "name": "x"}], ("name", "y")),
    Renamed: ([{"name": "a"}], ("label", "b")),
    Point: ([{"x": 1, "y": 2}, {"x": 3, "y": 7, "name": "n"}], ("y", 3)),
    ByHand: ([{"name": "a", "hidden": "h"}, {"name": "b"}], ("_name", "c")),
    Keyless: ([{"code": 1, "text": "a"}, {"code": 2}], ("text", "c")),
}
Path = Callable[[Connection, type[Any]], list[Any]]


def with_session(connection: Connection, model: type[Any]) -> list[Any]:
    statement = select(model).order_by(*class_mapper(model).primary_key)
    return list(loading.load(connection, {}, TOKEN, statement=statement))


def plainly(connection: Connection, model: type[Any]) -> list[Any]:
    mapper = class_mapper(model)
    plan = plan_of(mapper)
    assert plan is not None
    statement = plan.select(order=mapper.primary_key)
    return plan.load(connection, statement, None, {}, TOKEN)


async def on_tables(database_url: str, work: Callable[[Connection], Any]) -> Any:
    """``work`` on a connection to a database with all tables and rows."""

    def prepared(connection: Connection) -> Any:
        Base.metadata.create_all(connection)
        for model, (rows, _) in ZOO.items():
            for row in rows:
                connection.execute(insert(table_of(model)).values(row))
        return work(connection)

    async with Database(database_url) as database, database.engine.connect() as connection:
        return await connection.run_sync(prepared)


def table_of(model: type[Any]) -> Table:
    table = class_mapper(model).local_table
    assert isinstance(table, Table)
    return table


def anatomy(instance: Any) -> dict[str, Any]:
    """All that SQLAlchemy knows of an object."""
    state = inspect(instance)
    return {
        "class": type(instance),
        "values": {k: v for k, v in instance.__dict__.items() if k != "_sa_instance_state"},
        "key": state.key,
        "identity": state.identity,
        "token": state.identity_token,
        "is": (state.transient, state.pending, state.persistent, state.detached, state.deleted),
        "session": state.session,
        "modified": state.modified,
        "committed": state.committed_state,
        "expired": (state.expired, state.expired_attributes),
        "unloaded": state.unloaded,
        "unmodified": state.unmodified,
        "histories": {each.key: each.history for each in state.attrs},
        "options": (state.load_options, state.load_path),
        "callables": dict(state.callables),
    }


async def test_objects_are_the_same(database_url: str) -> None:
    def work(connection: Connection) -> None:
        for model, (rows, _) in ZOO.items():
            expected, found = with_session(connection, model), plainly(connection, model)
            assert [anatomy(each) for each in found] == [anatomy(each) for each in expected]
            assert len(found) == len(rows)
            for each in found:
                state = inspect(each)
                assert state.detached
                assert not state.modified
                assert state.key == (model, state.identity, TOKEN)

    await on_tables(database_url, work)


def copied(session: Session, instance: Any) -> Any:
    twin = copy.deepcopy(instance)
    return anatomy(twin), twin is instance


def pickled(session: Session, instance: Any) -> Any:
    return anatomy(pickle.loads(pickle.dumps(instance)))


def saved(session: Session, instance: Any) -> Any:
    name, value = ZOO[type(instance)][1]
    setattr(instance, name, value)
    changed = anatomy(instance)
    session.add(instance)
    dirty = session.is_modified(instance)
    session.flush()
    return changed, dirty, _without_session(anatomy(instance))


def saved_from_a_pickle(session: Session, instance: Any) -> Any:
    return saved(session, pickle.loads(pickle.dumps(instance)))


def saved_unchanged(session: Session, instance: Any) -> Any:
    session.add(instance)
    session.flush()
    return session.is_modified(instance)


def refreshed(session: Session, instance: Any) -> Any:
    session.add(instance)
    session.refresh(instance)
    return _without_session(anatomy(instance))


def expired(session: Session, instance: Any) -> Any:
    session.add(instance)
    session.expire(instance)
    return _without_session(anatomy(instance)), getattr(instance, ZOO[type(instance)][1][0])


def deleted(session: Session, instance: Any) -> Any:
    session.delete(instance)
    session.flush()
    return inspect(instance).deleted


def merged(session: Session, instance: Any) -> Any:
    twin = session.merge(instance, load=False)
    return _without_session(anatomy(twin))


def found_in_the_session(session: Session, instance: Any) -> Any:
    session.add(instance)
    identity = inspect(instance).identity
    return session.get(type(instance), identity, identity_token=TOKEN) is instance


def relations_loaded(session: Session, instance: Any) -> Any:
    session.add(instance)
    return [
        anatomy(each) | {"session": None}
        for relation in class_mapper(type(instance)).relationships
        if relation.lazy == "select"
        for each in _listed(getattr(instance, relation.key))
    ]


def relations_that_are_not_there(session: Session, instance: Any) -> Any:
    outcomes: list[Any] = []
    for relation in class_mapper(type(instance)).relationships:
        try:
            outcomes.append(type(getattr(instance, relation.key)))
        except SQLAlchemyError as error:
            outcomes.append((type(error), str(error).partition(" at 0x")[0]))
    return outcomes


@pytest.mark.parametrize(
    "life",
    [
        copied,
        pickled,
        saved,
        saved_from_a_pickle,
        saved_unchanged,
        refreshed,
        expired,
        deleted,
        merged,
        found_in_the_session,
        relations_loaded,
        relations_that_are_not_there,
    ],
)
async def test_objects_live_on_in_the_same_way(
    database_url: str, life: Callable[[Session, Any], Any]
) -> None:
    def work(connection: Connection) -> None:
        for model in ZOO:
            expected = lived(connection, with_session(connection, model)[-1], life)
            found = lived(connection, plainly(connection, model)[-1], life)
            assert found == expected
            if life in (saved, saved_from_a_pickle):
                # What was changed, and the version where there is one; nothing else.
                ((statement, _),) = found[1]
                changes = statement.partition("WHERE")[0]
                assert statement.startswith("UPDATE")
                assert changes.count("=") == (2 if model is Versioned else 1)

    await on_tables(database_url, work)


def lived(
    connection: Connection, instance: Any, life: Callable[[Session, Any], Any]
) -> tuple[Any, list[Any]]:
    """What became of ``instance`` in a Session, and the statements; all is taken back."""
    statements: list[Any] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        statements.append((statement, parameters))

    savepoint = connection.begin_nested()
    event.listen(connection, "before_cursor_execute", note)
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        outcome = life(session, instance)
    event.remove(connection, "before_cursor_execute", note)
    savepoint.rollback()
    return outcome, statements


@pytest.mark.parametrize("model", [Keyless, Whole, Strict])
async def test_an_identity_is_one_object_and_no_key_is_none(
    database_url: str, model: type[Any]
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(
            insert(keyless).values([{"code": 2, "text": "again"}, {"code": None, "text": "z"}])
        )
        for row in ((1, 2), (None, None), (1, None), (1, 2), (None, None), (None, 5)):
            connection.execute(insert(half_keyless).values(row))
        expected, found = with_session(connection, model), plainly(connection, model)
        assert None in found
        assert [each and anatomy(each) for each in found] == [
            each and anatomy(each) for each in expected
        ]

    await on_tables(database_url, work)


async def test_one_token_for_each_load(database_url: str) -> None:
    def work(connection: Connection) -> None:
        plan = plan_of(class_mapper(Author))
        assert plan is not None
        tokens = (None, TOKEN)
        objects = [
            each
            for token in tokens
            for each in plan.load(connection, plan.select(limit=1), None, {}, token)
        ]
        assert [inspect(each).identity_token for each in objects] == list(tokens)
        with Session(connection) as session:
            session.add_all(objects)  # two identities: neither is in the other's way
            assert len(session.identity_map) == 2

    await on_tables(database_url, work)


@pytest.mark.postgres
async def test_schemas_are_translated(postgres_url: str) -> None:
    def work(connection: Connection) -> None:
        options = {"schema_translate_map": {None: "tenant_a"}}
        connection.execute(CreateSchema("tenant_a"))
        table_of(Author).create(connection.execution_options(**options))
        connection.execution_options(schema_translate_map=None)
        connection.execute(insert(Author).values(name="ann"), execution_options=options)
        plan = plan_of(class_mapper(Author))
        assert plan is not None
        # The same statement in turns: what is compiled for one must not be used for the other.
        names: dict[str, list[str]] = {"tenant_a": [], "public": []}
        for _ in range(2):
            statement, parameters = plan.by_key((1,))
            for schema, each in (("tenant_a", options), ("public", {})):
                (author,) = plan.load(connection, statement, parameters, each, None)
                names[schema].append(author.name)
        assert names == {"tenant_a": ["ann", "ann"], "public": ["a", "a"]}

    await on_tables(postgres_url, work)


async def test_the_events_that_a_loading_session_tells_are_the_ones_we_look_for(
    sqlite_url: str,
) -> None:
    def work(connection: Connection) -> None:
        heard: list[str] = []
        names = [name for name in vars(SessionEvents) if not name.startswith(("_", "dispatch"))]
        listeners = {name: _listener(name, heard) for name in names}
        for name, listener in listeners.items():
            event.listen(Session, name, listener)
        try:
            with_session(connection, Author)
        finally:
            for name, listener in listeners.items():
                event.remove(Session, name, listener)
        assert set(heard) == set(LOADING_EVENTS)

    await on_tables(sqlite_url, work)


async def test_listeners_of_refreshing_hear_of_neither_path(sqlite_url: str) -> None:
    def work(connection: Connection) -> None:
        def refuse(*_: Any) -> None:
            raise AssertionError

        event.listen(Author, "refresh", refuse)
        try:
            assert len(with_session(connection, Author)) == len(plainly(connection, Author)) == 2
        finally:
            event.remove(Author, "refresh", refuse)

    await on_tables(sqlite_url, work)


# What is used of SQLAlchemy though its documentation does not speak of it. A release that changes
# one of these is looked at before it is allowed in.
UNDOCUMENTED = {
    "ClassManager": {"dispatch", "info", "new_instance"},
    "InstanceState": {"identity_token", "key", "load_path"},
    "Mapper": {"_path_registry"},
    "Session": {"dispatch"},
}


def test_private_names_of_sqlalchemy_are_known_and_used_in_one_file() -> None:
    owners: dict[str, Any] = {
        "ClassManager": class_mapper(Author).class_manager,
        "InstanceState": inspect(Author(name="a")),
        "Mapper": class_mapper(Author),
        "Session": Session(),
    }
    for owner, names in UNDOCUMENTED.items():
        assert [name for name in names if not hasattr(owners[owner], name)] == []
    names = set().union(*UNDOCUMENTED.values())
    assert names <= _attributes(hydration)
    assert _behind_the_public_ones(hydration) == {"_path_registry"}
    # What belongs to a property is called key, too, and is documented.
    assert not (names - {"key"}) & _attributes(plain)
    assert not _behind_the_public_ones(plain)


def test_an_instance_is_made_without_its_constructor() -> None:
    manager = class_mapper(Point).class_manager
    instance = manager.new_instance()
    assert type(instance) is Point
    assert set(vars(instance)) == {"_sa_instance_state"}
    assert inspect(instance).transient


def _behind_the_public_ones(module: Any) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(python_inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }


def _attributes(module: Any) -> set[str]:
    tree = ast.parse(python_inspect.getsource(module))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _listener(name: str, heard: list[str]) -> Callable[..., None]:
    def listener(*arguments: Any, **_: Any) -> None:
        heard.append(name)

    return listener


def _without_session(parts: dict[str, Any]) -> dict[str, Any]:
    return parts | {"session": None}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
