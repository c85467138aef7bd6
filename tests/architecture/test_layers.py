"""A module imports only from layers below its own, and there are no circles."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.architecture.layers import ROOT, Module, imports, modules, rank
from tests.architecture.picture import draw

MODULES = modules()


def test_every_module_is_in_a_layer() -> None:
    assert len(MODULES) > 40
    for module in MODULES:
        rank(module.part)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_imports_only_from_layers_below(module: Module) -> None:
    for name, statement, deferred in imports(module):
        where = f"{module.path.name}:{statement.lineno} imports {name}"
        assert "." in name, f"{where}: nobody imports the package root"
        part = name.split(".")[1]
        if part != module.part:
            assert rank(part) < rank(module.part), f"{where}, which is not below it"
        # The demo must say where its databases are before its models are imported.
        assert not deferred or module.part == "demo", f"{where} inside a function"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {module.name: {name for name, *_ in imports(module)} for module in MODULES}

    TopologicalSorter(graph).prepare()


def test_the_docs_show_the_picture_of_the_imports() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    assert draw(MODULES) in page, "put in what `python -m tests.architecture.picture` prints"
