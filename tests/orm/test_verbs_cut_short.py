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
from tests.models import Cast, make_cast
from tests.orm.test_changes_while_saving import while_executing
from tests.support.proxy import Proxy

Verb = Callable[[Cast, Any], Awaitable[object]]


async def _delete(cast: Cast, user: Any) -> None:
    await user.delete()


async def _save_changed(cast: Cast, user: Any) -> None:
    user.age = 2
    await user.save()


async def _refresh(cast: Cast, user: Any) -> None:
    await user.refresh()


async def _load_relation(cast: Cast, user: Any) -> None:
    await user.refresh("posts")


VERBS = [
    pytest.param(_delete, "DELETE", id="delete"),
    pytest.param(_save_changed, "UPDATE", id="save changed"),
    pytest.param(_refresh, "SELECT users", id="refresh"),
    pytest.param(_load_relation, "SELECT posts", id="refresh a relation"),
]


def cancel_this(again: int | None = None) -> None:
    """Cancel the task in its next await, and ``again`` so many turns of the loop later."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()

    def later(turns: int) -> None:
        if turns:
            loop.call_soon(later, turns - 1)
        else:
            task.cancel()

    loop = asyncio.get_running_loop()
    if again is not None:
        later(again)


async def cut_short(
    cast: Cast,
    scope: str,
    begins: str,
    again: int | None,
    work: Callable[[], Awaitable[object]],
    *,
    before: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Do ``work`` in a block, after what comes ``before``, and cancel it in that statement."""

    async def be_cancelled() -> None:
        async with getattr(cast.models, scope)():
            if before is not None:
                await before()
            with while_executing(cast, begins, lambda: cancel_this(again)):  # type: ignore[arg-type]
                await work()

    task = asyncio.create_task(be_cancelled())
    await asyncio.wait({task})
    assert task.cancelled()


@pytest.mark.parametrize("scope", ["transaction", "session", "connection"])
@pytest.mark.parametrize("again", [None, 1, 2, 3])
@pytest.mark.parametrize(("verb", "begins"), VERBS)
async def test_an_object_saved_before_in_the_same_transaction_is_new(
    database_url: str, verb: Verb, begins: str, scope: str, again: int | None
) -> None:
    cast = make_cast(Registry(database_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = cast.User(name="ada", age=1)

        await cut_short(cast, scope, begins, again, lambda: verb(cast, user), before=user.save)
        assert inspect(user).key is None

        # On SQLite it gets the key that the object has had.
        await cast.User.query.create(name="bob", age=5)
        await user.save()
        names = await cast.User.query.order_by("name").values_list("name", flat=True)
        assert list(names) == ["ada", "bob"]


@pytest.mark.parametrize("scope", ["transaction", "session", "connection"])
@pytest.mark.parametrize("again", [None, 1, 2, 3])
@pytest.mark.parametrize(("verb", "begins"), VERBS)
async def test_an_object_stored_before_stays_stored(
    database_url: str, verb: Verb, begins: str, scope: str, again: int | None
) -> None:
    cast = make_cast(Registry(database_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = await cast.User.query.create(name="ada", age=1)
        key = user.id

        await cut_short(cast, scope, begins, again, lambda: verb(cast, user))

        user.age = 3
        await user.save()
        assert user.id == key
        assert list(await cast.User.query.values_list("id", "age")) == [(key, 3)]


@pytest.mark.parametrize("scope", ["transaction", "session", "connection"])
@pytest.mark.parametrize("again", [None, 1, 2, 3])
async def test_an_object_on_which_nothing_hangs_stays_stored(
    database_url: str, scope: str, again: int | None
) -> None:
    cast = make_cast(Registry(database_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = await cast.User.query.create(name="ada")
        post = await cast.Post.query.create(title="new", user_id=user.id)

        await cut_short(cast, scope, "DELETE", again, post.delete)

        post.title = "changed"
        await post.save()
        assert list(await cast.Post.query.values_list("title", flat=True)) == ["changed"]


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
