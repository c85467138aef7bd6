"""Only `pools/dialects/` names a driver: another driver is a profile there, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from asgi_dbconn.pools.dialects.drivers import profile_of
from asgi_dbconn.urls import DatabaseURL
from tests.architecture.layers import Module, modules
from tests.architecture.vocabulary import docstrings

DRIVER = re.compile(r"asyncpg|aiosqlite|sqlite3")
HOME = "asgi_dbconn.pools.dialects."

# Each with its reason.
EXCEPTIONS = {
    "asgi_dbconn.urls": "the spellings of a URL; it is in a layer below the profiles",
}

OTHERS = [module for module in modules() if not module.name.startswith(HOME)]


@pytest.mark.parametrize("module", OTHERS, ids=lambda module: module.name)
def test_a_module_names_no_driver(module: Module) -> None:
    if module.name not in EXCEPTIONS:
        assert not list(names_of_drivers(module.tree))


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_is_one(name: str) -> None:
    (module,) = [module for module in OTHERS if module.name == name]
    assert list(names_of_drivers(module.tree))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import sqlite3", "sqlite3"),
        ("import sqlalchemy.dialects.postgresql.asyncpg as a", "asyncpg"),
        ("from aiosqlite import Connection", "aiosqlite"),
        ("from x import asyncpg_cursor as c", "asyncpg"),
        ("def f(asyncpg): pass", "asyncpg"),
        ("f(asyncpg=1)", "asyncpg"),
        ("x.aiosqlite", "aiosqlite"),
        ("if driver == 'asyncpg': pass", "asyncpg"),
        ("f'postgresql+asyncpg://{x}'", "asyncpg"),
        ("class Asyncpg_sqlite3: pass", "sqlite3"),
        ("match x:\n    case {'a': sqlite3}: pass", "sqlite3"),
        ("'''About asyncpg.'''\nx = 1\n'''And sqlite3.'''", None),
        ("x = 1  # asyncpg", None),
    ],
)
def test_the_search_sees_every_kind_of_name(code: str, found: str | None) -> None:
    assert [name for name, _ in names_of_drivers(ast.parse(code))] == [found] * bool(found)


@pytest.mark.parametrize("written", ["sqlite:///app.db", "postgres://h/d", "postgresql://h/d"])
def test_every_url_has_a_profile(written: str) -> None:
    assert profile_of(DatabaseURL(written)).driver_errors


def names_of_drivers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each name of a driver in an identifier, an import or a string that is no docstring."""
    about = set(docstrings(tree))
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            for text in value if isinstance(value, list) else [value]:
                found = DRIVER.search(text) if isinstance(text, str) else None
                if found is not None and text not in about:
                    yield found[0], getattr(node, "lineno", 0)
