"""Both paths of reading give the same objects: plain hydration, and SQLAlchemy's own Session."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Table,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    Session,
    class_mapper,
)
from sqlalchemy.orm.events import SessionEvents
from sqlalchemy.schema import CreateSchema

from asgi_dbconn import Database
from asgi_dbconn.orm import object_loading
from asgi_dbconn.orm.fast_path.hydration import LOADING_EVENTS
from asgi_dbconn.orm.fast_path.read_plans import read_plan
from tests.orm.models_loaded import (
    TOKEN,
    ZOO,
    Author,
    Keyless,
    Strict,
    Versioned,
    Whole,
    half_keyless,
    keyless,
)
from tests.orm.models_stored import Base, Point
from tests.orm.object_state import anatomy

Path = Callable[[Connection, type[Any]], list[Any]]


def with_session(connection: Connection, model: type[Any]) -> list[Any]:
    statement = select(model).order_by(*class_mapper(model).primary_key)
    return list(object_loading.load(connection, TOKEN, statement=statement))


def plainly(connection: Connection, model: type[Any]) -> list[Any]:
    mapper = class_mapper(model)
    plan = read_plan(mapper)
    assert plan is not None
    statement = plan.selection.order_by(*mapper.primary_key)
    return plan.load(connection, statement, None, TOKEN)


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


async def test_objects_are_the_same(database_url: str) -> None:
    def work(connection: Connection) -> None:
        for model, (rows, _) in ZOO.items():
            expected, found = with_session(connection, model), plainly(connection, model)
            assert [anatomy(row) for row in found] == [anatomy(instance) for instance in expected]
            assert len(found) == len(rows)
            for row in found:
                state = inspect(row)
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
        anatomy(related) | {"session": None}
        for relation in class_mapper(type(instance)).relationships
        if relation.lazy == "select"
        for related in _listed(getattr(instance, relation.key))
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
        assert [row and anatomy(row) for row in found] == [
            instance and anatomy(instance) for instance in expected
        ]

    await on_tables(database_url, work)


async def test_one_token_for_each_load(database_url: str) -> None:
    def work(connection: Connection) -> None:
        plan = read_plan(class_mapper(Author))
        assert plan is not None
        tokens = (None, TOKEN)
        objects = [
            instance
            for token in tokens
            for instance in plan.load(connection, plan.selection.limit(1), None, token)
        ]
        assert [inspect(instance).identity_token for instance in objects] == list(tokens)
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
        plan = read_plan(class_mapper(Author))
        assert plan is not None
        # The same statement in turns: what is compiled for one must not be used for the other.
        names: dict[str, list[str]] = {"tenant_a": [], "public": []}
        for _ in range(2):
            statement, parameters = plan.by_key((1,))
            for schema in ("tenant_a", "public"):
                mapped = options["schema_translate_map"] if schema == "tenant_a" else None
                connection.execution_options(schema_translate_map=mapped)
                (author,) = plan.load(connection, statement, parameters, None)
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


def test_an_instance_is_made_without_its_constructor() -> None:
    manager = class_mapper(Point).class_manager
    instance = manager.new_instance()
    assert type(instance) is Point
    assert set(vars(instance)) == {"_sa_instance_state"}
    assert inspect(instance).transient


def _listener(name: str, heard: list[str]) -> Callable[..., None]:
    def listener(*arguments: Any, **_: Any) -> None:
        heard.append(name)

    return listener


def _without_session(parts: dict[str, Any]) -> dict[str, Any]:
    return parts | {"session": None}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
