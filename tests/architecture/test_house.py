"""The rules of the house that a reader relies on: sizes, sentences, names, no asserts."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.layers import Module, modules

MODULES = modules()
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


# Small on purpose: an entry point, or a concept that belongs to no other file.
SMALL = {
    *("orm.errors", "orm.binding", "types", "schema_names", "registry.from_settings"),
    *("cli.entry", "cli.command", "cli.demo", "cli.errors", "cli.ipython"),
    *("demo.models", "demo.server", "health.report"),
    *("databases.cross_task_context_manager", "loops.asgiref_compat", "loops.keyboard_interrupt"),
    *("lifespan.included_apps", "migrations.alembic_errors", "migrations.environment"),
    *("loops.tasks", "orm.aggregates", "pools.driver_errors", "registry.transaction_retry"),
    *("pools.pool_config", "testing.app_under_test", "testing.lazy_imports"),
    "testing.pytest_asyncio_fixtures",
}
LARGE = {"registry.registry": 700}  # one public page, without mixins


@each_module
def test_a_module_holds_one_concept(module: Module) -> None:
    name, lines = module.name.partition(".")[2], len(module.path.read_text().splitlines())
    assert lines <= LARGE.get(name, 400)
    if module.path.name not in {"__init__.py", "__main__.py"}:
        assert (lines < 60) == (name in SMALL), lines
    assert module.path.stem not in {"utils", "helpers", "base", "common", "core", "misc"}


@each_module
def test_a_module_says_in_a_sentence_what_it_is_for(module: Module) -> None:
    sentence = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    assert sentence.endswith(".")


@each_module
def test_users_mistakes_are_errors_and_not_asserts(module: Module) -> None:
    assert not [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Assert)]


@each_module
def test_no_exception_is_swallowed_in_silence(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            assert not all(isinstance(statement, ast.Pass) for statement in node.body), node.lineno


@each_module
def test_what_a_module_offers_is_listed_and_exists(module: Module) -> None:
    if module.path.name in {"__init__.py", "__main__.py"}:
        return
    body = module.tree.body
    listed = next(
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    defined: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined.update(ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            defined.add(ast.unparse(node.target))
    assert set(listed) <= defined
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    public = {name for name in classes if not name.startswith("_")}
    private_to_the_file = {"QueryDescriptor"}
    assert public - private_to_the_file <= set(listed)
