"""Unconnected use: it works, it warns at the right line, and nothing stays open."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_dbconn import (
    Database,
    DatabaseNotConnectedWarning,
    DatabaseUnavailable,
    Registry,
    run_sync,
)
from tests.models import Cast, make_cast
from tests.support.postgres import PostgresServer


@pytest.fixture
def cast(database_url: str) -> Cast:
    cast = make_cast(Registry(database_url))

    async def prepare() -> None:
        async with cast.models:
            await cast.models.create_all()
            await cast.User.query.create(name="ada")

    asyncio.run(prepare())
    return cast


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


async def test_a_query_warns_at_the_line_that_awaits_it(cast: Cast) -> None:
    query = cast.User.query.filter(name="ada")
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        here, users = line(), await query

    assert [user.name for user in users] == ["ada"]
    assert (caught[0].filename, caught[0].lineno) == (__file__, here)


@pytest.mark.parametrize(
    "verb",
    [
        lambda cast: cast.User.query.get(1),
        lambda cast: cast.User.query.get_or_none(1),
        lambda cast: cast.User.query.first(),
        lambda cast: cast.User.query.count(),
        lambda cast: cast.User.query.exists(),
        lambda cast: cast.User.query.create(name="bob"),
        lambda cast: cast.User.query.update(age=3),
        lambda cast: cast.User.query.delete(),
        lambda cast: cast.models.database.ping(),
        lambda cast: cast.models.ping(),
    ],
)
async def test_every_verb_warns_at_the_line_that_awaits_it(
    cast: Cast, verb: Callable[[Cast], Awaitable[Any]]
) -> None:
    awaitable = verb(cast)
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        here, _ = line(), await awaitable

    assert len(caught) == 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, here)


async def test_a_block_warns_at_the_line_that_opens_it(cast: Cast) -> None:
    for block in (cast.models.connection, cast.models.session, cast.models.transaction):
        with pytest.warns(DatabaseNotConnectedWarning) as caught:
            here = line() + 1
            async with block():
                # Inside, the block's connection serves every query.
                assert await cast.User.query.count() == 1
        assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, here)]


@pytest.mark.parametrize("block", ["connection", "session", "transaction"])
async def test_a_block_warns_where_it_is_entered_and_not_where_it_was_made(
    cast: Cast, block: str
) -> None:
    opened = getattr(cast.models, block)()
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        here = line() + 1
        async with opened:
            pass
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, here)]


@pytest.mark.parametrize("block", ["connection", "session", "transaction"])
async def test_a_block_that_a_task_enters_warns_where_it_was_made(cast: Cast, block: str) -> None:
    here, opened = line(), getattr(cast.models, block)()
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        await asyncio.gather(opened.__aenter__())
        await opened.__aexit__(None, None, None)
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, here)]


async def test_a_repeated_transaction_warns_where_it_is_awaited_or_was_made(cast: Cast) -> None:
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        here = line() + 1
        await cast.models.run_transaction(cast.User.query.count)
        there, one = line(), cast.models.run_transaction(cast.User.query.count)
        await asyncio.gather(one)

    assert [(warning.filename, warning.lineno) for warning in caught] == [
        (__file__, here),
        (__file__, there),
    ]


def test_what_a_loop_is_started_with_warns_at_the_line_that_starts_it(cast: Cast) -> None:
    """An async method, started by others than the user's own coroutines."""
    for start in (asyncio.run, run_sync):
        with pytest.warns(DatabaseNotConnectedWarning) as caught:
            here, _ = line(), start(cast.models.create_all())
        assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, here)]


async def test_gathered_queries_warn_at_the_line_that_built_them(cast: Cast) -> None:
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        here, one = line(), cast.User.query.count()
        there, two = line(), cast.User.query.filter(name="ada")
        await asyncio.gather(one, two)

    assert sorted(warning.lineno for warning in caught) == [here, there]
    assert {warning.filename for warning in caught} == {__file__}


async def test_the_warning_names_the_database_and_the_remedy(cast: Cast) -> None:
    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        await cast.User.query.count()

    text = str(caught[0].message)
    for part in (str(cast.models.database.url), "models.asgi(app)", "async with models", "DBC901"):
        assert part in text


async def test_as_an_error_it_opens_no_connection(
    postgres: PostgresServer, postgres_url: str
) -> None:
    cast = make_cast(Registry(postgres_url.replace("127.0.0.1", "203.0.113.1"), connect_timeout=1))

    with warnings.catch_warnings():
        warnings.simplefilter("error", DatabaseNotConnectedWarning)
        # Any attempt to reach that address would end in another error.
        with pytest.raises(DatabaseNotConnectedWarning):
            await cast.User.query.count()
        with pytest.raises(DatabaseNotConnectedWarning):
            async with cast.models.transaction():
                pytest.fail("the block was entered")


async def test_the_transient_engine_is_gone_with_the_query(
    postgres: PostgresServer, postgres_url: str
) -> None:
    database = Database(postgres_url)
    with pytest.warns(DatabaseNotConnectedWarning):
        await database.ping()

    assert not postgres.sessions(database=postgres_url.rpartition("/")[2])


async def test_transient_engines_are_at_most_as_many_as_the_pool_is_large(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url, pool_size=2, acquire_timeout=30)
    seen: list[int] = []

    async def work() -> None:
        async with database.connection():
            seen.append(len(postgres.sessions(database=name)))

    with pytest.warns(DatabaseNotConnectedWarning):
        await asyncio.gather(*(work() for _ in range(8)))

    assert max(seen) <= 2


async def test_connected_use_does_not_warn(cast: Cast) -> None:
    async with cast.models:
        assert await cast.User.query.count() == 1


async def test_an_unconnected_memory_database_is_an_error() -> None:
    cast = make_cast(Registry("sqlite://"))

    with pytest.raises(DatabaseUnavailable, match=r"memory.*async with models"):
        await cast.User.query.count()
