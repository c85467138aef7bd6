"""A registry under test, its model, and an independent view of what it has stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry
from asgi_dbconn.pools.statistics import PoolStats
from tests.blocks.other_process import OtherProcess
from tests.blocks.watchers import PostgresWatcher, SQLiteWatcher, Watcher
from tests.support.waiting import wait_until_async

__all__ = ["HOLD", "INSERT", "Stage", "open_stage", "registry_of"]

HOLD = "SELECT n FROM hold"
"""A statement that waits while the watcher holds it."""
INSERT = text("INSERT INTO items (name) VALUES (:name)")

W = TypeVar("W", bound=Watcher)


@dataclass(frozen=True)
class Stage:
    """One connected registry. ``Item`` has the columns ``id``, ``name`` (unique) and ``n``."""

    url: str
    models: Registry
    Item: Any
    watcher: Watcher
    generators: list[AsyncGenerator[object, None]] = field(default_factory=list)
    """Generators that a test left open. A loop would finish them at a moment of its own."""

    @property
    def is_sqlite(self) -> bool:
        return isinstance(self.watcher, SQLiteWatcher)

    @property
    def postgres(self) -> PostgresWatcher:
        return cast("PostgresWatcher", self.watcher)

    @property
    def stats(self) -> PoolStats:
        return self.models.stats()[None]

    async def create(self, name: str) -> Any:
        return await self.Item.query.create(name=name)

    async def until_held(self, count: int = 1) -> None:
        """Wait until so many statements are under way and wait for the watcher."""
        await wait_until_async(lambda: self.watcher.held() >= count, 5, message="held statements")

    async def serve_strangers(self, count: int = 10) -> list[str]:
        """Store items in requests of their own, one after the other; return their names."""
        names = [f"stranger {number}" for number in range(count)]
        for number, name in enumerate(names):
            async with self.models.transaction() if number % 3 == 2 else nullcontext():
                await self.create(name)
        return names

    async def check(self, *stored: str) -> None:
        """Check that strangers are served, and that nothing but their items and these is stored."""
        await wait_until_async(
            lambda: not self.stats.in_use, 3, message=lambda: f"nothing in use: {self.stats}"
        )
        strangers = await self.serve_strangers()
        assert self.watcher.names() == sorted([*stored, *strangers]), self.watcher.names()
        await self.check_connections()

    async def check_connections(self) -> None:
        """Check that no connection holds anything that others would wait for."""
        await wait_until_async(
            lambda: not self.watcher.complaints(),
            1,
            message=lambda: f"all connections are idle: {self.watcher.complaints()}",
        )
        assert await self.watcher.complain_about_locks() is None


def registry_of(url: str, watcher: Watcher, **options: Any) -> tuple[Registry, Any]:
    """Return a registry on the watched database, and its model."""
    options = {"pool_size": 2, "acquire_timeout": 3.0, "shutdown_timeout": 2.0, **options}
    arguments = {**watcher.connect_args, **options.pop("connect_args", {})}
    models = Registry(url, connect_args=arguments, **options)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Item(Base):
        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        n: Mapped[int] = mapped_column(server_default="0")

    return models, Item


@asynccontextmanager
async def open_stage(
    url: str, other_process: OtherProcess, *, through: str | None = None, **options: Any
) -> AsyncIterator[Stage]:
    """Connect a registry to the new database ``url``, by way of ``through`` if that is given."""
    watcher: Watcher = (
        SQLiteWatcher(url.removeprefix("sqlite:///"), other_process)
        if url.startswith("sqlite")
        else PostgresWatcher(url)
    )
    try:
        models, item = registry_of(through or url, watcher, **options)
        stage = Stage(url, models, item, watcher)
        async with models:
            try:
                yield stage
            finally:
                watcher.release()  # or a failed test would wait for its own statements
        for generator in stage.generators:
            with suppress(Exception):  # its connection is closed
                await generator.aclose()
    finally:
        watcher.close()
