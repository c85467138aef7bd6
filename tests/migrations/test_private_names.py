"""Private names of Alembic: all that the package uses are listed here, and still exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

import asgi_dbconn.migrations.migrations as package_module

FOLDER = Path(package_module.__file__).parent

PRIVATE_NAMES: dict[str, Any] = {
    "_upgrade_revs": ScriptDirectory,
    "_downgrade_revs": ScriptDirectory,
    "_stamp_revs": ScriptDirectory,
}
"""Where each name is found; `alembic upgrade`, `downgrade` and `stamp` use the same three."""


def test_the_list_is_that_of_the_names_in_use() -> None:
    trees = [ast.parse(path.read_text()) for path in FOLDER.rglob("*.py")]
    own = {name for tree in trees for name in own_names(tree)}

    used = {name for tree in trees for name in foreign_names(tree)}
    assert used - own == set(PRIVATE_NAMES)


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_alembic_still_has_the_name(name: str) -> None:
    assert callable(getattr(PRIVATE_NAMES[name], name))


def test_a_private_name_of_another_object_is_found() -> None:
    code = """
        class Run:
            def __init__(self, scripts):
                self._scripts = scripts
                scripts._load()
                getattr(scripts, "_read")
                self._scripts._heads.__len__()
                Run._own
            def _own(self): ...
    """
    tree = ast.parse("if True:\n" + code)

    assert set(foreign_names(tree)) == {"_load", "_read", "_heads", "_own"}
    assert set(own_names(tree)) == {"_scripts", "_own"}


def foreign_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes of objects other than `self` and `cls`."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ) if is_private(name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.name for alias in aliases if is_private(alias.name))


def own_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that the package defines: attributes of `self`, and functions."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                if is_private(name):
                    yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if is_private(name):
                yield name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
