"""``with_for_update``: who waits for whom, and where it makes no sense."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import TransactionError
from tests.orm.library import library


async def test_a_lock_outside_of_a_transaction_is_an_error(database_url: str) -> None:
    async with library(database_url) as cast:
        locked = cast.Author.query.with_for_update()
        for verb in (locked, locked.get(1), locked.first(), locked.values("name")):
            with pytest.raises(TransactionError, match=r"async with models\.transaction\(\)"):
                await verb
        async with cast.models.transaction():
            assert len(await locked) == 3
            assert (await locked.get(1)).name == "Ada"
            assert await locked.limit(2).count() == 2
            assert await locked.exists()
        async with locked.stream(10) as rows:
            assert [row.name async for row in rows] == ["Ada", "Bob", "Cyd"]


@pytest.mark.postgres
async def test_a_second_transaction_meets_the_lock(postgres_url: str) -> None:
    async with library(postgres_url) as cast:
        Author = cast.Author
        is_locked, may_end = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with cast.models.transaction():
                await Author.query.select_related("mentor").with_for_update().get(1)
                is_locked.set()
                await may_end.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(first())
            await is_locked.wait()
            async with cast.models.transaction():
                free = Author.query.order_by("pk").with_for_update(skip_locked=True)
                assert [row.name for row in await free] == ["Bob", "Cyd"]
                assert [row.name for row in await free.limit(1)] == ["Bob"]
                assert await free.values_list("name", flat=True) == ["Bob", "Cyd"]
            with pytest.raises(DBAPIError, match="could not obtain lock"):
                async with cast.models.transaction():
                    await Author.query.with_for_update(nowait=True).get(1)
            may_end.set()
        async with cast.models.transaction():
            await Author.query.with_for_update(nowait=True).get(1)


@pytest.mark.postgres
async def test_locks_that_agree_with_each_other(postgres_url: str) -> None:
    async with library(postgres_url) as cast:
        shared = cast.Author.query.with_for_update(read=True, nowait=True)
        async with cast.models.transaction():
            await shared.get(1)

            async def second() -> str:
                async with cast.models.transaction():
                    name: str = (await shared.get(1)).name
                    return name

            # A context of its own: a task of this one would be inside of the same transaction.
            task = asyncio.create_task(second(), context=contextvars.Context())
            assert await task == "Ada"
