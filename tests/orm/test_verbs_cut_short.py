"""A verb that is cut short in a transaction: its objects go back behind the whole transaction.

Its own undo must not come after that of the transaction, which it would undo again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import inspect

from asgi_dbconn import ConnectionLost, Registry
from tests.cast import Cast, make_cast
from tests.orm.test_changes_while_saving import while_executing
from tests.support.proxy import Proxy

Verb = Callable[[Cast, Any], Awaitable[object]]


async def _delete(cast: Cast, user: Any) -> None:
    await user.delete()


async def _save_changed(cast: Cast, user: Any) -> None:
    user.age = 2
    await user.save()


def cancel_this() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("scope", ["transaction", "session", "connection"])
@pytest.mark.parametrize(
    ("verb", "begins"),
    [
        pytest.param(_delete, "DELETE", id="delete"),
        pytest.param(_save_changed, "UPDATE", id="save changed"),
    ],
)
async def test_an_object_saved_before_in_the_same_transaction_is_new(
    database_url: str, verb: Verb, begins: str, scope: str
) -> None:
    cast = make_cast(Registry(database_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = cast.User(name="ada", age=1)

        async def store_and_be_cancelled() -> None:
            async with getattr(cast.models, scope)():
                await user.save()
                with while_executing(cast, begins, cancel_this):  # type: ignore[arg-type]
                    await verb(cast, user)

        task = asyncio.create_task(store_and_be_cancelled())
        await asyncio.wait({task})
        assert task.cancelled()
        assert inspect(user).key is None

        # On SQLite it gets the key that the object has had.
        await cast.User.query.create(name="bob", age=5)
        await user.save()
        names = await cast.User.query.order_by("name").values_list("name", flat=True)
        assert list(names) == ["ada", "bob"]


@pytest.mark.parametrize("scope", [None, "transaction", "session", "connection"])
async def test_a_cancellation_outlasts_the_loss_of_the_connection(
    postgres_url: str, proxy: Proxy, scope: str | None
) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))

    async def store(name: str) -> None:
        async with getattr(cast.models, scope)() if scope else nullcontext():
            await cast.User(name=name, posts=[cast.Post(title="new")]).save()

    async with cast.models:
        await cast.models.create_all()
        turns = 0
        while True:  # in BEGIN, in a statement, between two of them, in COMMIT
            with suppress(ConnectionLost):  # of the round before
                await cast.User.query.count()
            await cast.User.query.count()
            task = asyncio.create_task(store(f"ada {turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            proxy.reset_connections()
            if not task.cancel():
                break
            await asyncio.wait({task})
            assert task.cancelled(), (turns, task.exception())
            turns += 1
        assert turns > 5
        assert cast.models.database.stats().in_use == 0
