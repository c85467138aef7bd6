"""A module knows only the floors below its own, and nobody goes round in circles."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.architecture.floors import Module, imports, modules, rank

MODULES = modules()


def test_every_module_stands_on_a_floor() -> None:
    assert len(MODULES) > 40
    for module in MODULES:
        rank(module.part)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_imports_only_from_below(module: Module) -> None:
    for name, statement, deferred in imports(module):
        where = f"{module.path.name}:{statement.lineno} imports {name}"
        assert "." in name, f"{where}: nobody imports the package root"
        part = name.split(".")[1]
        if part != module.part:
            assert rank(part) < rank(module.part), f"{where}, which does not stand below it"
        # The demo must say where its databases are before its models are imported.
        assert not deferred or module.part == "demo", f"{where} inside a function"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {module.name: {name for name, *_ in imports(module)} for module in MODULES}

    TopologicalSorter(graph).prepare()
