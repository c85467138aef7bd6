"""A commit or a rollback by hand never comes between the statements of another task's verb."""

from __future__ import annotations

import asyncio

import pytest

from asgi_dbconn import Registry, TransactionClosed
from tests.models import make_cast


class _BlockError(Exception):
    pass


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_a_family_is_stored_as_a_whole_or_not_at_all(
    database_url: str, kind: str, end: str
) -> None:
    cast = make_cast(Registry(database_url, pool_size=1))

    async def save(name: str) -> None:
        posts = [cast.Post(title=f"{name} {number}") for number in range(3)]
        await cast.User(name=name, posts=posts).save()

    async with cast.models:
        await cast.models.create_all()
        for turns in range(40):
            name = f"user {turns}"
            tasks: list[asyncio.Task[None]] = []
            try:
                async with getattr(cast.models, kind)() as handle:
                    await cast.User.query.count()
                    tasks.append(asyncio.create_task(save(name)))
                    for _ in range(turns):
                        await asyncio.sleep(0 if turns % 2 else 0.0001)
                    await getattr(handle, end)()
                    if turns % 3 == 0:
                        raise _BlockError
            except _BlockError:
                pass
            await asyncio.wait(tasks)
            assert isinstance(tasks[0].exception(), TransactionClosed | None)
            users = await cast.User.query.filter(name=name).count()
            posts = await cast.Post.query.filter(title__startswith=f"{name} ").count()
            assert posts == 3 * users
