"""What importing costs: `import asgi_dbconn` starts nothing, opens nothing, and loads little."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, os, sys, threading
before = set(sys.modules)
read, acted = [], []
def watch(event, arguments):
    if not event.startswith(("open", "os.", "socket.", "sqlite3.", "subprocess.", "_thread.")):
        return
    if event in {"os.listdir", "os.scandir"} or event == "open" and is_module(arguments[0]):
        return
    reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    (read if reads else acted).append(f"{event} {arguments!r}"[:200])
def is_module(path):
    return str(path).endswith((".py", ".pyc", ".so"))
sys.addaudithook(watch)
STATEMENT
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "read": list(read),
    "acted": list(acted),
    "threads": threading.active_count(),
}))
"""
# What our own code needs of the standard library, and monkay. Pinned so that a heavy import is seen
# when it is made; the versions of Python differ by a few.
MOST_MODULES = 70


def _after(statement: str) -> dict[str, Any]:
    ran = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {sys.path!r}\n" + PROGRAM.replace("STATEMENT", statement),
        ],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _packages(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)


def test_importing_the_package_loads_the_errors_and_monkay() -> None:
    found = _after("import asgi_dbconn")

    assert _packages(found["modules"]) == {"asgi_dbconn", "monkay"}
    assert [name for name in found["modules"] if name.startswith("asgi_dbconn")] == [
        "asgi_dbconn",
        "asgi_dbconn.errors",
    ]
    assert not {"asyncio", "ssl", "socket", "sqlite3", "logging"} & set(found["modules"])
    assert len(found["modules"]) <= MOST_MODULES


def test_importing_the_package_reads_no_file_but_modules() -> None:
    assert _after("import asgi_dbconn")["read"] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import asgi_dbconn",
        "from asgi_dbconn import Registry, Settings, monkay, run_sync",
        "from asgi_dbconn import Registry; models = Registry('sqlite:///x.db', pool_size=2)",
        "from asgi_dbconn import Instance, Registry, monkay; "
        "monkay.set_instance(Instance(registry=Registry('sqlite:///x.db')))",
    ],
)
def test_nothing_is_written_connected_or_started(statement: str) -> None:
    found = _after(statement)

    assert found["acted"] == []
    assert found["threads"] == 1


def test_settings_load_neither_drivers_nor_the_asynchronous_engine() -> None:
    loaded = set(_after("from asgi_dbconn import Settings; Settings()")["modules"])

    unneeded = {"asyncpg", "aiosqlite", "starlette", "alembic", "click", "IPython", "anyio"}
    assert not unneeded & _packages(list(loaded))
    assert not {"sqlalchemy.orm", "sqlalchemy.ext.asyncio", "asgi_dbconn.registry"} & loaded


def test_a_registry_loads_no_framework_and_nothing_of_an_extra() -> None:
    found = _after("from asgi_dbconn import Registry; Registry('postgresql://db/shop')")

    unneeded = {"starlette", "alembic", "click", "IPython", "uvicorn", "prometheus_client"}
    assert not unneeded & _packages(found["modules"])
