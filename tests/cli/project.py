"""A user's project in a folder, and the command run in it as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.cli.terminal import Terminal, environment

SHOP = """
    import asyncio
    import os
    from contextlib import asynccontextmanager

    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
    from starlette.applications import Starlette

    from asgi_dbconn import Queryable, Registry

    models = Registry(os.environ.get("SHOP_DATABASE", "sqlite:///shop.sqlite"))


    class Base(Queryable, DeclarativeBase, registry=models): ...


    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        item: Mapped[str]


    @asynccontextmanager
    async def lifespan(_):
        await models.create_all()
        ticking = asyncio.create_task(tick())
        yield
        ticking.cancel()
        print("orders at the end:", await Order.query.count())


    ticks = 0


    async def tick():
        global ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1


    app = models.asgi(Starlette(lifespan=lifespan))
"""
"""An application with one model, whose tables its own startup creates."""


class Project:
    """Lives in ``folder``, with a home for the user beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.home = folder / "home"
        self.folder.mkdir()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    def replace(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def run(
        self, *args: str, standard_input: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``asgi-dbconn`` with ``args`` in the folder, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "asgi_dbconn", *args],
            cwd=self.folder,
            env=environment(self.home, **variables),
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=50,
        )

    def terminal(self, *args: str, **variables: str) -> Terminal:
        """``asgi-dbconn`` with ``args`` in the folder, in a terminal."""
        return Terminal(args, cwd=self.folder, env=environment(self.home, **variables))
