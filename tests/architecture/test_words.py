"""The words of the code: what loop variables are called, and how docstrings begin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.layers import Module, modules

MODULES = modules()
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)

QUESTION = re.compile(r"(?:What|Which|Where|When|Whether|Who|Whoever|Whatever|Why|How)\b")


@every_module
def test_a_loop_variable_is_the_noun_of_what_is_iterated(module: Module) -> None:
    assert not [line for name, line in loop_variables(module.tree) if name == "each"]


@every_module
def test_a_docstring_does_not_begin_with_a_question(module: Module) -> None:
    assert not [text for text in docstrings(module.tree) if QUESTION.match(text)]


def loop_variables(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name):
                    yield name.id, name.lineno


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield those of the module, its classes and functions, and those below attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
