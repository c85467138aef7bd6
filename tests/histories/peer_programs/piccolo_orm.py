"""Piccolo: a transaction of its engine, and a savepoint inside of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from piccolo.columns import BigInt, Integer, Varchar  # type: ignore[import-not-found]
from piccolo.engine.postgres import PostgresEngine  # type: ignore[import-not-found]
from piccolo.table import Table  # type: ignore[import-not-found]

from tests.histories.peer_programs.serving import SLOW_SQL, PeerRunner, serve

_transaction: ContextVar[Any] = ContextVar("transaction", default=None)


class Item(Table, tablename="items"):  # type: ignore[call-arg,misc]
    token = Varchar(length=200, unique=True)
    value = BigInt()


class Counter(Table, tablename="counters"):  # type: ignore[call-arg,misc]
    total = Integer()


class PiccoloRunner(PeerRunner):
    async def connect(self, url: str, pool_size: int) -> None:
        self._engine = PostgresEngine(config={"dsn": url}, log_queries=False)
        for table in (Item, Counter):
            table._meta._db = self._engine
        await self._engine.start_connection_pool(min_size=1, max_size=pool_size)

    async def disconnect(self) -> None:
        await self._engine.close_connection_pool()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        outer = _transaction.get()
        if outer is not None:
            savepoint = await outer.savepoint()
            try:
                yield
            except BaseException:
                await savepoint.rollback_to()
                raise
            await savepoint.release()
            return
        async with self._engine.transaction() as transaction:
            token = _transaction.set(transaction)
            try:
                yield
            finally:
                _transaction.reset(token)

    async def create(self, token: str, value: int) -> None:
        await Item(token=token, value=value).save()

    async def update(self, token: str, value: int) -> int:
        change = Item.update({Item.value: value}).where(Item.token == token)
        return len(await change.returning(Item.id))

    async def remove(self, token: str) -> int:
        return len(await Item.delete().where(Item.token == token).returning(Item.id))

    async def increment(self, counter: int) -> None:
        await Counter.update({Counter.total: Counter.total + 1}).where(Counter.id == counter)

    async def read_counter(self, counter: int) -> int:
        sql = "SELECT total FROM counters WHERE id = {} FOR UPDATE"
        rows = await Counter.raw(sql, counter)
        total: int = rows[0]["total"]
        return total

    async def write_counter(self, counter: int, value: int) -> None:
        await Counter.update({Counter.total: value}).where(Counter.id == counter)

    async def get(self, token: str) -> int | None:
        found = await Item.objects().where(Item.token == token).first()
        return None if found is None else found.value

    async def count(self) -> int:
        total: int = await Item.count()
        return total

    async def slow(self, seconds: float) -> None:
        await Counter.raw(SLOW_SQL.format(seconds=seconds))


if __name__ == "__main__":
    serve(PiccoloRunner)
