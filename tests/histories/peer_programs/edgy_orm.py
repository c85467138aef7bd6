"""Edgy: a transaction of its database; a connection belongs to a task there."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import edgy  # type: ignore[import-not-found]

from tests.histories.log import Log
from tests.histories.peer_programs.serving import SLOW_SQL, PeerRunner, serve
from tests.histories.steps import Program


class EdgyRunner(PeerRunner):
    def __init__(self, program: Program, log: Log, process: int = 0) -> None:
        super().__init__(program, log, process)
        self._database: Any = None
        self._item: Any = None
        self._counter: Any = None

    async def connect(self, url: str, pool_size: int) -> None:
        self._database = database = edgy.Database(
            url.replace("postgresql://", "postgresql+asyncpg://"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=3.0,
        )
        models = edgy.Registry(database=database)

        class Item(edgy.Model):  # type: ignore[misc]
            id: int = edgy.IntegerField(primary_key=True, autoincrement=True)
            token: str = edgy.CharField(max_length=200, unique=True)
            value: int = edgy.BigIntegerField()

            class Meta:
                registry = models
                tablename = "items"

        class Counter(edgy.Model):  # type: ignore[misc]
            id: int = edgy.IntegerField(primary_key=True)
            total: int = edgy.IntegerField()

            class Meta:
                registry = models
                tablename = "counters"

        self._item, self._counter, self._models = Item, Counter, models
        await models.__aenter__()

    async def disconnect(self) -> None:
        await self._models.__aexit__(None, None, None)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        context: AbstractAsyncContextManager[Any] = self._database.transaction()
        return context

    async def create(self, token: str, value: int) -> None:
        await self._item.query.create(token=token, value=value)

    async def update(self, token: str, value: int) -> int:
        hits = await self._item.query.filter(token=token).update(value=value)
        return hits if isinstance(hits, int) else -1

    async def remove(self, token: str) -> int:
        hits = await self._item.query.filter(token=token).delete()
        return hits if isinstance(hits, int) else -1

    async def increment(self, counter: int) -> None:
        await self._database.execute(
            "UPDATE counters SET total = total + 1 WHERE id = :id", {"id": counter}
        )

    async def read_counter(self, counter: int) -> int:
        row = await self._database.fetch_one(
            "SELECT total FROM counters WHERE id = :id FOR UPDATE", {"id": counter}
        )
        total: int = row.total
        return total

    async def write_counter(self, counter: int, value: int) -> None:
        await self._counter.query.filter(id=counter).update(total=value)

    async def get(self, token: str) -> int | None:
        found = await self._item.query.get_or_none(token=token)
        return None if found is None else found.value

    async def count(self) -> int:
        total: int = await self._item.query.count()
        return total

    async def slow(self, seconds: float) -> None:
        await self._database.fetch_all(SLOW_SQL.format(seconds=seconds))


if __name__ == "__main__":
    serve(EdgyRunner)
