"""Tortoise: ``in_transaction()``, which its context variables hand on to child tasks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from tortoise import Tortoise, connections, fields  # type: ignore[import-not-found]
from tortoise.models import Model  # type: ignore[import-not-found]
from tortoise.transactions import in_transaction  # type: ignore[import-not-found]

from tests.histories.peer_programs.serving import SLOW_SQL, PeerRunner, serve


class Item(Model):  # type: ignore[misc]
    id = fields.IntField(primary_key=True)
    token = fields.CharField(200, unique=True)
    value = fields.BigIntField()

    class Meta:
        table = "items"


class Counter(Model):  # type: ignore[misc]
    id = fields.IntField(primary_key=True)
    total = fields.IntField()

    class Meta:
        table = "counters"


class TortoiseRunner(PeerRunner):
    async def connect(self, url: str, pool_size: int) -> None:
        url = url.replace("postgresql://", "asyncpg://")
        await Tortoise.init(
            db_url=f"{url}?minsize=1&maxsize={pool_size}", modules={"models": [__name__]}
        )

    async def disconnect(self) -> None:
        await connections.close_all()

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        context: AbstractAsyncContextManager[Any] = in_transaction()
        return context

    async def create(self, token: str, value: int) -> None:
        await Item.create(token=token, value=value)

    async def update(self, token: str, value: int) -> int:
        hits: int = await Item.filter(token=token).update(value=value)
        return hits

    async def remove(self, token: str) -> int:
        hits: int = await Item.filter(token=token).delete()
        return hits

    async def increment(self, counter: int) -> None:
        await self._send("UPDATE counters SET total = total + 1 WHERE id = $1", counter)

    async def read_counter(self, counter: int) -> int:
        row = await Counter.filter(id=counter).select_for_update().get()
        total: int = row.total
        return total

    async def write_counter(self, counter: int, value: int) -> None:
        await Counter.filter(id=counter).update(total=value)

    async def get(self, token: str) -> int | None:
        found = await Item.get_or_none(token=token)
        return None if found is None else found.value

    async def count(self) -> int:
        total: int = await Item.all().count()
        return total

    async def slow(self, seconds: float) -> None:
        await self._send(SLOW_SQL.format(seconds=seconds))

    async def _send(self, sql: str, *values: object) -> None:
        await connections.get("default").execute_query(sql, list(values))


if __name__ == "__main__":
    serve(TortoiseRunner)
