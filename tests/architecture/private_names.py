"""The private names of other libraries that the package uses, found by syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.layers import PACKAGE, Module, modules


def private_names(*folders: str) -> set[str]:
    """Return the private attributes that the modules of ``folders`` use and do not define.

    Attributes of ``self`` and ``cls`` are ours, unless no module of the package defines them. Names
    with two underscores on both sides are public. Names in ``getattr(value, "_name")`` count.
    """
    defined = {name for module in modules() for name in _defined(module.tree)}
    roots = [PACKAGE / folder for folder in folders]
    found = {name for module in _inside(roots) for name in _used(module.tree)}
    return found - defined


def _inside(roots: list[Path]) -> Iterator[Module]:
    for module in modules():
        if any(root in module.path.parents or root == module.path for root in roots):
            yield module


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _used(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if _is_private(name):
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr" | "delattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ) if _is_private(name):
                yield name
            case ast.ImportFrom(module=str(library), names=aliases) if _is_foreign(library):
                yield from (alias.name for alias in aliases if _is_private(alias.name))


def _is_foreign(library: str) -> bool:
    return library.partition(".")[0] != PACKAGE.name


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name
