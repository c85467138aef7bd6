"""A shop that grows, and `asgi-dbconn db` in it: in this process, which is quicker than in many."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asgi_dbconn.cli.command import cli
from tests.cli.project import Project

Command = Callable[..., Result]

SHOP = """
    import enum
    import os
    from datetime import datetime

    from sqlalchemy import ForeignKey, JSON, func
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    from asgi_dbconn import Queryable, Registry

    models = Registry(os.environ["SHOP_DATABASE"])


    class Base(Queryable, DeclarativeBase, registry=models): ...


    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(index=True)
        # more about users
"""


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("main.py", SHOP)
    return project


@pytest.fixture
def invoke(shop: Project, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`asgi-dbconn db` with these arguments in the shop, whose code is read anew each time."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(sys, "path", [str(shop.folder), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(*args: str) -> Result:
        sys.modules.pop("main", None)
        return CliRunner().invoke(cli, ["--app", "main:models", "db", *args])

    return run


@pytest.fixture
def db(invoke: Command, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The same on each kind of database; gives the output, and fails if the command does."""
    monkeypatch.setenv("SHOP_DATABASE", database_url)

    def run(*args: str) -> str:
        result = invoke(*args)
        assert result.exit_code == 0, result.output
        return result.output

    return run
