"""A pytest plugin that runs SQLAlchemy's own tests on ``Database.engine``.

With ``SUITES_ENGINES=ours`` every engine of ``sqlalchemy.testing.engines.testing_engine()`` belongs
to a Database. Options that a Database refuses on purpose get SQLAlchemy's own engine; the number of
both is noted. Without it the tests run as they are.
"""

from __future__ import annotations

import asyncio
import collections
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

import pytest
import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

__all__: list[str] = []

_OURS: Final = os.environ.get("SUITES_ENGINES") == "ours"
_DRIVERS: Final = ("asyncpg", "aiosqlite")
_POOL_SIZE: Final = 15
"""Connections that SQLAlchemy's default pool allows, with its overflow."""
_TIMEOUT: Final = 2.0
"""Seconds; several tests wait for all of it."""

_used: collections.Counter[str] = collections.Counter()
_databases: list[Any] = []
"""Every Database of the run, because an engine does not keep its own alive."""

_engines: weakref.WeakSet[Any] = weakref.WeakSet()

_sync_factory: Final = sqlalchemy.create_engine
_async_factory: Final = sqlalchemy_asyncio.create_async_engine


def _create_engine(url: Any, **options: Any) -> Any:
    engine = _engine_of_ours(url, _without(QueuePool, options)) if _is_called_for_a_test() else None
    return _sync_factory(url, **options) if engine is None else engine.sync_engine


def _create_async_engine(url: Any, **options: Any) -> AsyncEngine:
    engine = _engine_of_ours(url, options) if _is_called_for_a_test() else None
    return _async_factory(url, **options) if engine is None else engine


def _is_called_for_a_test() -> bool:
    # Two frames up: the caller of the factory that asks.
    return sys._getframe(2).f_code.co_name == "testing_engine"


def _without(pool: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if (key, value) != ("poolclass", pool)}


def _engine_of_ours(url: Any, options: dict[str, Any]) -> AsyncEngine | None:
    # Here, so that a run on plain engines does not import the package.
    from asgi_dbconn import Database
    from asgi_dbconn.errors import DBConnError

    url = make_url(url)
    if asyncio._get_running_loop() is None:
        _used["plain: no event loop"] += 1
        return None
    if url.get_driver_name() not in _DRIVERS:
        _used[f"plain: driver {url.get_driver_name()}"] += 1
        return None
    try:
        database = Database(url, **_translated(options))
    except DBConnError as refusal:
        _used[f"plain: {str(refusal).split(':')[0]}"] += 1
        return None
    _open_without_connecting(database)
    _databases.append(database)
    _used["ours"] += 1
    _engines.add(database.engine.sync_engine)
    return database.engine


def _translated(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a Database for those of SQLAlchemy's factory."""
    rest = _without(AsyncAdaptedQueuePool, options)
    rest.pop("max_overflow", None)
    found = {
        "pool_size": rest.pop("pool_size", _POOL_SIZE),
        "connect_timeout": _TIMEOUT,
        "acquire_timeout": rest.pop("pool_timeout", None) or _TIMEOUT,
    }
    if "connect_args" in rest:
        found["connect_args"] = rest.pop("connect_args")
    if "echo" in rest:
        echo = rest.pop("echo")
        found["echo"] = echo if echo in (None, True, False, "debug") else True
    # The tests read parameters in messages.
    rest.setdefault("hide_parameters", False)
    return {**found, "engine_options": rest}


def _open_without_connecting(database: Any) -> None:
    """Do what ``connect()`` does, without its first connection: here nothing can be awaited."""
    if database._keeper is not None:
        database._keeper.open()
    database._references.acquire()
    database._references.note_opened()


def _leaked(accounting: Any) -> set[Any]:
    """Return the connections whose driver's connection is still open.

    SQLAlchemy's own accounting counts calls of ``Pool._close_connection()``. Our pool closes
    connections in another way, and what matters is whether they are closed.
    """
    return {
        connection
        for connection in accounting._created - accounting._closed
        if _is_open(connection)
    }


def _is_open(connection: Any) -> bool:
    driver = connection.driver_connection
    if hasattr(driver, "is_closed"):
        return not driver.is_closed()
    return getattr(driver, "_connection", None) is not None


if _OURS:
    replaced: Callable[..., Any] = _create_engine
    sqlalchemy.create_engine = replaced
    sqlalchemy_asyncio.create_async_engine = _create_async_engine


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    from sqlalchemy.dialects.postgresql import provision

    # Tests of citext and hstore are left out: a PostgreSQL without its contrib modules serves, too.
    provision._extensions.clear()


def pytest_collection_finish() -> None:
    if _OURS:
        from sqlalchemy.testing import cancellation

        # With setattr(), because it is a method there.
        setattr(cancellation.ConnectionAccounting, "leaked", property(_leaked))  # noqa: B010


def pytest_sessionfinish(session: pytest.Session) -> None:
    recorder: Any = session.config.pluginmanager.get_plugin("recorder")
    notes = recorder.notes
    notes["engines"] = dict(_used)
    if _OURS:
        from sqlalchemy.testing import config

        notes["main engine"] = "ours" if config.db in _engines else "plain"
