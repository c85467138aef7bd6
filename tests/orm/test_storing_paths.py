"""Both paths of storing leave the same row and the same object: the plain one, and a Session."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import FlushError

from asgi_dbconn import Database
from asgi_dbconn.orm import persistence
from asgi_dbconn.orm.constraints import constraint_of
from asgi_dbconn.orm.errors import ObjectNotFound
from asgi_dbconn.orm.fast_path.write_plans import write_plan
from asgi_dbconn.orm.store_lock import StoreLock
from tests.orm.models_stored import Base, Defaulted, Everything, table_of
from tests.orm.object_state import anatomy
from tests.orm.random_objects import CHANGES, NEW

TOKEN = ("audit", "tenant_a")
SEEDS = range(12)

Path = Callable[[Connection, Any], Any]


def by_session(connection: Connection, instance: Any) -> Any:
    return persistence.store(connection, TOKEN, instance=instance, alone=True)


def plainly(connection: Connection, instance: Any) -> Any:
    is_new = anatomy(instance)["is"][0]
    plan = write_plan(instance, is_new=is_new)
    assert plan is not None
    if is_new:
        row = plan.new_row(instance)
        assert row is not None
        with StoreLock(instance) as lock:
            plan.insert(connection, TOKEN, lock=lock, row=row)
        return instance
    changes = plan.changes(instance)
    if changes is None:
        return persistence.store(connection, TOKEN, instance=instance, alone=True)
    with StoreLock(instance) as lock:
        assert plan.update(connection, TOKEN, lock=lock, changes=changes)
    return instance


async def on_empty_tables(url: str, work: Callable[[Connection], Any]) -> Any:
    async with Database(url) as database, database.engine.connect() as connection:
        await connection.run_sync(work)


def lived(connection: Connection, kind: str, seed: int, path: Path) -> list[Any]:
    """What becomes of an object and of its row; the tables are new ones each time."""
    chance, metadata = Random(seed), Base.metadata
    metadata.create_all(connection)
    instance = NEW[kind](chance)
    seen: list[Any] = [anatomy(instance)]
    for change in (_nothing, CHANGES.get(kind, _nothing)):
        for name, value in change(chance).items():
            setattr(instance, name, value)
        assert path(connection, instance) is instance
        seen += [anatomy(instance), anatomy(pickle.loads(pickle.dumps(instance)))]
    seen.append([tuple(row) for row in connection.execute(select(table_of(type(instance))))])
    metadata.drop_all(connection)
    return seen


def _nothing(_: Random) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("kind", NEW)
async def test_objects_and_rows_are_the_same(database_url: str, kind: str) -> None:
    def work(connection: Connection) -> None:
        for seed in SEEDS:
            expected = lived(connection, kind, seed, by_session)
            assert lived(connection, kind, seed, plainly) == expected

    await on_empty_tables(database_url, work)


async def test_what_is_refused_leaves_the_object_as_it_is(database_url: str) -> None:
    def work(connection: Connection) -> None:
        Base.metadata.create_all(connection)
        plainly(connection, Everything(name="taken"))
        changed = plainly(connection, Everything(name="other"))
        for path in (by_session, plainly):
            new = Everything(name="taken", is_active=True)
            changed.name, changed.note = "taken", "still there"
            for instance in (new, changed):
                before = anatomy(instance)
                savepoint = connection.begin_nested()
                with pytest.raises(IntegrityError) as refused:
                    path(connection, instance)
                savepoint.rollback()
                assert anatomy(instance) == before
                constraint = constraint_of(refused.value)
                assert constraint is not None
                assert (constraint.kind, constraint.columns) == ("unique", ("name",))

    await on_empty_tables(database_url, work)


async def test_a_row_that_is_gone_is_an_error(database_url: str) -> None:
    def work(connection: Connection) -> None:
        Base.metadata.create_all(connection)
        for kind in ("everything", "defaults"):  # by its count, and by what comes back
            instance = plainly(connection, NEW[kind](Random(1)))
            connection.execute(table_of(type(instance)).delete())
            instance.name = "changed"
            plan = write_plan(instance, is_new=False)
            assert plan is not None
            before, changes = anatomy(instance), plan.changes(instance)
            assert changes is not None
            with (
                pytest.raises(ObjectNotFound, match="does not exist any more"),
                StoreLock(instance) as lock,
            ):
                persistence.update_fast(connection, TOKEN, lock=lock, plan=plan, changes=changes)
            assert anatomy(instance) == before
            assert not plan.delete(connection, instance)

    await on_empty_tables(database_url, work)


async def test_a_database_without_returning_gets_what_it_can(sqlite_url: str) -> None:
    def work(connection: Connection) -> None:
        connection.dialect.insert_returning = connection.dialect.update_returning = False
        Base.metadata.create_all(connection)
        instance = Defaulted(name="n", size=2)
        plan = write_plan(instance, is_new=True)
        assert plan is not None
        row = plan.new_row(instance)
        assert row is not None
        with StoreLock(instance) as lock:
            persistence.insert_fast(connection, TOKEN, lock=lock, plan=plan, row=row)
        assert (instance.id, instance.twice, instance.measured) == (1, 4, None)
        instance.name = "changed"
        changes = plan.changes(instance)
        assert changes is not None
        with StoreLock(instance) as lock:
            persistence.update_fast(connection, TOKEN, lock=lock, plan=plan, changes=changes)
        assert (instance.twice, instance.measured, instance.called) == (4, 7, "again")

    await on_empty_tables(sqlite_url, work)


async def test_a_row_without_a_key_is_an_error(database_url: str) -> None:
    class OfNothing(DeclarativeBase):
        pass

    class Nameless(OfNothing):
        __tablename__ = "nameless"
        id: Mapped[str | None] = mapped_column(primary_key=True, default=lambda: None)

    def work(connection: Connection) -> None:
        OfNothing.metadata.create_all(connection)
        for path in (by_session, plainly):
            with pytest.raises((FlushError, IntegrityError)), connection.begin_nested():
                path(connection, Nameless())

    await on_empty_tables(database_url, work)
