"""The public names: lazy, complete, and documented."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import warnings

import asgi_dbconn
from asgi_dbconn import errors
from tests.architecture.layers import PACKAGE, ROOT


def test_every_public_name_can_be_imported() -> None:
    for name in asgi_dbconn.__all__:
        assert getattr(asgi_dbconn, name) is not None
    assert set(asgi_dbconn.__all__) <= set(dir(asgi_dbconn))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.name
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom) and "asgi_dbconn" in str(statement.module)
        for alias in statement.names
    }

    assert seen == set(asgi_dbconn.__all__) - {"__version__"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import asgi_dbconn, json, sys; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = json.loads(ran.stdout)

    heavy = ("sqlalchemy", "starlette", "alembic", "pydantic", "asyncpg", "aiosqlite", "anyio")
    assert [name for name in loaded if name.split(".")[0] in heavy] == []
    assert [name for name in loaded if name.startswith("asgi_dbconn")] == [
        "asgi_dbconn",
        "asgi_dbconn.errors",
    ]


def test_every_error_is_public_and_has_a_code_and_an_anchor_of_its_own() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()
    orm = importlib.import_module("asgi_dbconn.orm.errors")
    kinds = [getattr(home, name) for home in (errors, orm) for name in home.__all__]

    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    for kind in kinds:
        assert kind.__name__ in asgi_dbconn.__all__
        assert f'<a id="{kind.code.lower()}"></a>' in page, kind
        assert f"`{kind.__name__}`" in page, kind


def test_an_error_shows_its_code() -> None:
    assert str(errors.PoolTimeout("too slow.")) == "too slow. [DBC211]"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert issubclass(errors.DatabaseNotConnectedWarning, UserWarning)
