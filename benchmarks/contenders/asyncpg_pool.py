"""The driver with its own pool. It makes rows, not objects: the floor, not a peer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import getitem
from typing import Any

import asyncpg

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import COLUMNS, CONNECTIONS, PAGE

_COLUMNS = ", ".join(COLUMNS)
_GET = f"SELECT {_COLUMNS} FROM users WHERE id = $1"
_LIST = f"SELECT {_COLUMNS} FROM users ORDER BY id LIMIT $1"
_CREATE = """
    INSERT INTO users (name, email, is_active, age, score, joined_at, about)
    VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""


class _Pool:
    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def get(self, key: int) -> Any:
        return await self._pool.fetchrow(_GET, key)

    async def page(self) -> Sequence[Any]:
        return await self._pool.fetch(_LIST, PAGE)

    async def create(self, values: dict[str, Any]) -> int:
        key: int = await self._pool.fetchval(_CREATE, *values.values())
        return key

    async def update(self, key: int, age: int) -> object:
        return await self._pool.execute("UPDATE users SET age = $2 WHERE id = $1", key, age)

    async def count(self) -> int:
        total: int = await self._pool.fetchval("SELECT count(*) FROM users")
        return total


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Pool]:
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        yield _Pool(pool)


if __name__ == "__main__":
    serve(_opened, ["asyncpg"], read=getitem)
