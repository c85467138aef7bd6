"""What reading one object, and a page of them, costs on each kind of database."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy.engine import make_url

from asgi_dbconn import Registry
from asgi_dbconn.errors import DatabaseNotConnectedWarning
from benchmarks.harness import Comparison, Contender, Effort, Run, compare
from benchmarks.readers import MANY, Reader, driver_pool, key_of, query_sets, sessions
from benchmarks.report import Outcome
from benchmarks.spreading import spread
from tests.models import make_cast
from tests.support.postgres import PostgresServer

__all__ = ["run"]

DRIVER: Final = "asyncpg pool, no objects"
SESSION: Final = "SQLAlchemy session"
TUNED: Final = "SQLAlchemy session, tuned"
CONNECTED: Final = "QuerySet, connected"
UNCONNECTED: Final = "QuerySet, not connected"

_DRIVERS: Final = {"postgresql": "asyncpg", "sqlite": "aiosqlite"}
_USERS: Final = 1000
_STRIDE: Final = 389  # without a common factor with the number of users, so that each has a turn
# As many as SQLAlchemy's default pool lets in: its limit, not ours, and nobody times out.
_TASKS: Final = 15

_FULL: Final = Effort(rounds=30, batch=0.05)
_QUICK: Final = Effort(rounds=5, batch=0.01)


def run(*, quick: bool) -> Outcome:
    """Measure on a PostgreSQL server and on a SQLite file that are made for it."""
    effort = _QUICK if quick else _FULL
    with PostgresServer() as server, server.database("benchmark") as url:
        (shown,) = server.fetch("SHOW server_version")
        comparisons = asyncio.run(_compare("PostgreSQL", url, effort))
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'benchmark.sqlite'}"
        comparisons += asyncio.run(_compare("SQLite", url, effort))
    facts = {"postgresql": str(shown[0]), "sqlite": sqlite3.sqlite_version, "tasks": _TASKS}
    return Outcome(comparisons, [_prices(comparisons)], facts)


async def _compare(kind: str, url: str, effort: Effort) -> list[Comparison]:
    comparisons = []
    with warnings.catch_warnings():
        # What it warns about is what we measure.
        warnings.simplefilter("ignore", DatabaseNotConnectedWarning)
        async with _readers(url) as readers:
            for title, work in (("one object by its key", _get), (f"{MANY} objects", _many)):
                for tasks in (1, _TASKS):
                    how = f"{tasks} tasks at a time" if tasks > 1 else "one after another"
                    contenders = [
                        # Twice the tasks, so that the end of a batch is not all of it.
                        Contender(name, work(reader, tasks), at_least=2 * tasks)
                        for name, reader in readers.items()
                    ]
                    full_title = f"{kind}: {title}, {how}"
                    comparisons.append(
                        await compare(full_title, contenders, effort, baseline=SESSION)
                    )
    return comparisons


@asynccontextmanager
async def _readers(url: str) -> AsyncIterator[Mapping[str, Reader]]:
    """Every reader, open, with the same users before it."""
    connected, unconnected = make_cast(Registry(url)), make_cast(Registry(url))
    dialect = make_url(url).get_dialect().name
    driver_url = make_url(url).set(drivername=f"{dialect}+{_DRIVERS[dialect]}")
    sqlalchemy_url = driver_url.render_as_string(hide_password=False)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connected.models)
        await _fill(connected.models, connected.User)
        readers: dict[str, Reader] = {}
        if dialect == "postgresql":
            readers[DRIVER] = await stack.enter_async_context(driver_pool(url))
        readers[SESSION] = await stack.enter_async_context(sessions(sqlalchemy_url, connected.User))
        # What we do by default, done by hand: a fixed pool, and no transaction around one SELECT.
        readers[TUNED] = await stack.enter_async_context(
            sessions(
                sqlalchemy_url,
                connected.User,
                isolation_level="AUTOCOMMIT",
                pool_size=connected.models.database.options.pool_size,
                max_overflow=0,
            )
        )
        readers[CONNECTED] = query_sets(connected.User)
        readers[UNCONNECTED] = query_sets(unconnected.User)
        for name, reader in readers.items():
            await _check(name, reader)
        yield readers


async def _fill(models: Registry, user: Any) -> None:
    await models.create_all()
    async with models.session() as session:
        session.add_all(
            user(id=key, name=f"user {key}", age=key % 100) for key in range(1, _USERS + 1)
        )
    async with models.connection() as connection:
        # Without statistics the planner may choose another plan halfway through.
        await connection.exec_driver_sql("ANALYZE")


async def _check(name: str, reader: Reader) -> None:
    one, many = await reader.get(_USERS), await reader.many()
    if key_of(one) != _USERS or [key_of(key) for key in many] != list(range(1, MANY + 1)):
        raise RuntimeError(f"{name} does not read what the others read")


def _get(reader: Reader, tasks: int) -> Run:
    async def get_each(operations: int) -> None:
        keys = (1 + number * _STRIDE % _USERS for number in range(operations))
        await spread(keys, reader.get, tasks)

    return get_each


def _many(reader: Reader, tasks: int) -> Run:
    async def read(_: int) -> object:
        return await reader.many()

    async def read_each(operations: int) -> None:
        await spread(range(operations), read, tasks)

    return read_each


def _prices(comparisons: Iterable[Comparison]) -> str:
    """What DatabaseNotConnectedWarning warns about, as a factor."""
    lines = ["The price of a database that nobody connected, in wall time"]
    for comparison in comparisons:
        factor = comparison.wall(UNCONNECTED).median / comparison.wall(CONNECTED).median
        lines.append(f"  {factor:,.1f} times as long  {comparison.title}")
    return "\n".join(lines)
