"""The private names of libraries that pools and databases use: one list for each library.

A release that drops or renames one of these is looked at before it is allowed in.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import sqlite3
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import aiosqlite
import asyncpg.cluster
import pytest
import sqlalchemy.connectors.asyncio
import sqlalchemy.dialects.postgresql.asyncpg
import sqlalchemy.dialects.sqlite.aiosqlite
import sqlalchemy.ext.asyncio
import sqlalchemy.pool
import sqlalchemy.util.concurrency
from sqlalchemy import create_engine
from sqlalchemy.engine.base import Engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from asgi_dbconn.databases.database import Database
from asgi_dbconn.loops import greenlets
from tests.architecture.layers import modules

MODULES = [module for module in modules() if module.part in ("pools", "databases")]

SQLALCHEMY = {
    # Connection, Engine and its views, savepoints.
    "_autobegin",
    "_begin_impl",
    "_commit_impl",
    "_connection_cls",
    "_dbapi_connection",
    "_execution_options",
    "_handle_dbapi_exception",
    "_has_events",
    "_option_cls",
    "_revalidate_connection",
    "_rollback_impl",
    "_rollback_to_savepoint_impl",
    "_savepoint",
    "_transaction",
    # The pool, its records, and what it gives.
    "_ConnectionRecord",
    "_checkin_failed",
    "_connection_record",
    "_create_connection",
    "_creator",
    "_dec_overflow",
    "_dialect",
    "_dispatch",
    "_do_return_conn",
    "_fairy_was_created",
    "_orig_logging_name",
    "_recycle",
    "_reset_on_return",
    # Listeners.
    "_for_instance",
    "_join",
    # The adapted connections and cursors of drivers.
    "_adapt_connection",
    "_async_soft_close",
    "_call_and_discard",
    "_connection",
    "_cursor",
    "_cursor_cls",
    "_execute_async",
    "_execute_mutex",
    "_executemany_async",
    "_handle_exception",
    "_prepare_and_execute",
    "_rows",
    "_soft_closed_memoized",
    "_ss_cursor_cls",
    "_start_transaction",
}

ASYNCPG = {
    "_cancel_current_command",
    "_cancellations",
    "_clean_tasks",
    "_is_cancelling",
    "_listeners",
    "_log_listeners",
    "_protocol",
    "_top_xact",
    "_transport",
    "_wait_for_cancellation",
}

AIOSQLITE = {"_conn", "_connection", "_execute", "_running", "_thread", "_tx"}

ASYNCIO = {"_get_running_loop"}

# Replaced on the dialect of each engine, which has no event for this.
REPLACED = {
    "do_commit",
    "do_release_savepoint",
    "do_rollback",
    "do_rollback_to_savepoint",
    "do_savepoint",
    "do_terminate",
    "get_driver_connection",
}
REPLACED_BY_ISOLATION = {"postgresql": {"set_isolation_level"}, "sqlite": set[str]()}


def test_sqlalchemy() -> None:
    assert _used("sqlalchemy") == SQLALCHEMY


def test_asyncpg() -> None:
    assert _used("asyncpg") == ASYNCPG


def test_aiosqlite() -> None:
    assert _used("aiosqlite") == AIOSQLITE
    # Public, and in no documentation: it takes the place of close() where no loop runs.
    assert not inspect.iscoroutinefunction(aiosqlite.Connection.stop)


def test_asyncio() -> None:
    assert _used("asyncio") == ASYNCIO


def test_every_other_private_name_is_defined_here() -> None:
    listed = SQLALCHEMY | ASYNCPG | AIOSQLITE | ASYNCIO
    unknown = {name for name, _ in _uses()} - listed - _own_names()
    assert unknown == set()


async def test_the_methods_of_a_dialect_that_are_replaced(database_url: str) -> None:
    async with Database(database_url) as database:
        dialect = database.engine.dialect
        assert _replaced(dialect) == REPLACED
        async with database.force_rollback():
            isolated = database.engine.dialect
            assert _replaced(isolated) == REPLACED | REPLACED_BY_ISOLATION[dialect.name]
    for name in _replaced(isolated):
        assert hasattr(type(dialect), name)


def test_the_mark_of_our_greenlets_is_sqlalchemys() -> None:
    source = inspect.getsource(sqlalchemy.util.concurrency.await_only)
    assert "__sqlalchemy_greenlet_provider__" in source
    assert "__sqlalchemy_greenlet_provider__" in inspect.getsource(greenlets)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("connection._echo", {"_echo"}),
        ("connection._echo = 1", {"_echo"}),
        ("getattr(connection, '_echo')", {"_echo"}),
        ("Connection(engine, _echo=1)", {"_echo"}),
        ("if '_echo' in options: pass", {"_echo"}),
        ("from sqlalchemy.engine import _util", {"_util"}),
        ("class A:\n __slots__ = ('_echo',)\n def f(self): self._echo", set()),
        ("connection.__class__", set()),
    ],
)
def test_the_search_sees_every_use(code: str, found: set[str]) -> None:
    assert {name for name, _ in _uses_in(ast.parse(code), None)} == found


def _used(library: str) -> set[str]:
    """Return the private names of ``library`` that are used, and that it has."""
    names = _names_of(library)
    return {
        name
        for name, home in _uses()
        if name in names and (home is None or library in _libraries_of(home))
    }


def _uses() -> Iterator[tuple[str, type[Any] | None]]:
    for module in MODULES:
        yield from _uses_in(module.tree, importlib.import_module(module.name))


def _uses_in(tree: ast.Module, module: ModuleType | None) -> Iterator[tuple[str, type | None]]:
    """Yield each private name that is used, with the class if it is used as one of its own."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="self" | "cls"))
                | ast.Attribute(value=ast.Call(func=ast.Name(id="super")))
            ):
                pass
            case ast.Attribute(attr=name) if _is_private(name):
                yield name, None
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(str(name)), *_]):
                if _is_private(name):
                    yield name, None
            case ast.ImportFrom(module=str(source)) if not source.startswith("asgi_dbconn"):
                yield from ((alias.name, None) for alias in node.names if _is_private(alias.name))
            case ast.Compare(left=ast.Constant(value=str(name))) if _is_private(name):
                yield name, None
            case ast.keyword(arg=str(name)) if _is_private(name):
                yield name, None
            case ast.ClassDef(name=name) if module is not None:
                home = getattr(module, name)
                yield from ((used, home) for used in _names_inside(node) if _libraries_of(home))


def _names_inside(node: ast.ClassDef) -> Iterator[str]:
    """Yield the private names that a class has or takes from its bases."""
    for part in ast.walk(node):
        match part:
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                pass
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name):
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                pass
            case ast.Name(id=name, ctx=ast.Store()):
                pass
            case _:
                continue
        if _is_private(name):
            yield name


def _is_private(name: str) -> bool:
    return len(name) > 1 and name[0] == "_" and not name.endswith("__") and name.isidentifier()


@cache
def _own_names() -> set[Any]:
    """Return the private names that classes and functions of ours define."""
    found = set[Any]()
    for module in modules():
        for node in ast.walk(module.tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case (
                    ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
                    | ast.AnnAssign(target=ast.Name(id=name))
                ):
                    found.add(name)
                case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                    found |= {slot.value for slot in slots if isinstance(slot, ast.Constant)}
    return found


def _libraries_of(home: type[Any]) -> set[str]:
    libraries = {base.__module__.partition(".")[0] for base in home.__mro__}
    return libraries & {"sqlalchemy", "asyncpg", "aiosqlite"}


@cache
def _names_of(library: str) -> set[str]:
    """Return the private names of the library's classes, and of some instances of them."""
    if library == "asyncio":
        return {name for name in dir(asyncio) if _is_private(name)}
    found: set[str] = set()
    for module in _modules_of[library]:
        for member in vars(module).values():
            if isinstance(member, type) and member.__module__.partition(".")[0] == library:
                found.add(member.__name__)
                found |= set(dir(member))
                found |= {name for method in vars(member).values() for name in _arguments(method)}
    for instance in _instances(library):
        found |= set(dir(instance))
    return {name for name in found if _is_private(name)}


_modules_of = {
    "sqlalchemy": (
        sqlalchemy.engine.base,
        sqlalchemy.event.attr,
        sqlalchemy.event.base,
        sqlalchemy.pool.base,
        sqlalchemy.pool.impl,
        sqlalchemy.ext.asyncio,
        sqlalchemy.connectors.asyncio,
        sqlalchemy.dialects.postgresql.asyncpg,
        sqlalchemy.dialects.sqlite.aiosqlite,
    ),
    "asyncpg": (asyncpg.connection, asyncpg.protocol),
    "aiosqlite": (aiosqlite.core, aiosqlite.cursor),
}


def _arguments(method: Any) -> tuple[str, ...]:
    code = getattr(method, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _instances(library: str) -> Iterator[Any]:
    """Yield what has its attributes only once it exists."""
    if library == "aiosqlite":
        yield aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 1)
    elif library == "sqlalchemy":
        engine: Engine = create_engine("sqlite://")
        with engine.connect() as connection:
            record: Any = connection.connection
            yield from (engine, connection, connection.begin_nested())
            yield from (record, record._connection_record)
        engine.dispose()
        yield AsyncAdaptedQueuePool(lambda: None)  # type: ignore[arg-type]


def _replaced(dialect: Any) -> set[str]:
    return {
        name
        for name, value in vars(dialect).items()
        if getattr(value, "__module__", "").startswith("asgi_dbconn") and hasattr(value, "__code__")
    }
