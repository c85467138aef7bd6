"""A Session that stores tells of nothing that the plain path does not look for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.events import InstanceEvents, MapperEvents, SessionEvents

from asgi_dbconn import Database
from asgi_dbconn.orm import persistence
from asgi_dbconn.orm.fast_path.hydration import STORING_EVENTS
from tests.orm.models_stored import Base, Defaulted, Everything

OF_NEW = {"before_insert", "after_insert"}
OF_CHANGED = {"before_update", "after_update"}
OF_OBJECTS = {"refresh_flush", "refresh", "expire"}
WITHOUT_A_SESSION = {"init", "first_init"}


@contextmanager
def hearing(target: Any, events: type[Any]) -> Iterator[set[str]]:
    heard: set[str] = set()
    names = [name for name in vars(events) if not name.startswith(("_", "dispatch"))]
    listeners = {}
    for name in names:
        if name not in OF_NO_CLASS:

            def listener(*_: Any, name: str = name, **__: Any) -> None:
                heard.add(name)

            event.listen(target, name, listener)
            listeners[name] = listener
    try:
        yield heard
    finally:
        for name, listener in listeners.items():
            event.remove(target, name, listener)


OF_NO_CLASS = {"before_configured", "after_configured", "before_mapper_configured"}


@pytest.mark.parametrize("alone", [True, False])
async def test_the_events_of_storing_are_the_ones_we_look_for(sqlite_url: str, alone: bool) -> None:
    def work(connection: Connection) -> None:
        def store(instance: Any) -> None:
            persistence.store(connection, None, instance=instance, alone=alone)

        Base.metadata.create_all(connection)
        stored, taken = Defaulted(), Everything(name="taken")
        store(taken)
        with hearing(Session, SessionEvents) as of_sessions:
            with hearing(Mapper, MapperEvents) as of_new, hearing(Defaulted, InstanceEvents) as new:
                store(stored)
            stored.name = "changed"
            with (
                hearing(Mapper, MapperEvents) as of_changed,
                hearing(Defaulted, InstanceEvents) as changed,
            ):
                store(stored)
            with pytest.raises(IntegrityError):
                store(Everything(name="taken"))
        assert of_sessions == set(STORING_EVENTS)
        assert (of_new, of_changed) == (OF_NEW, OF_CHANGED)
        assert new | changed == OF_OBJECTS

    async with Database(sqlite_url) as database, database.engine.connect() as connection:
        await connection.run_sync(work)
