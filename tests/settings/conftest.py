"""Each test reads its settings as a process of its own would, in an empty directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_dbconn import monkay

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in os.environ:
        if name.startswith("ASGI_DBCONN_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    _forget()
    yield tmp_path
    _forget()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(project: Path) -> Write:
    """Writes a file of the project: a module, or its `.env`."""

    def write(name: str, text: str) -> None:
        (project / name).write_text(text)

    return write


def _forget() -> None:
    monkay.set_instance(None)
    monkay.clear_caches()
    monkay.settings_evaluated = False
