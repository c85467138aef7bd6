"""The costs of blocks: function calls and round trips, so that nobody makes them dearer unnoticed.

A block is counted empty and with one and five statements, on a connection that is warm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import bindparam, select

from asgi_dbconn import Registry
from tests.models import Cast, make_cast
from tests.orm.counting import calls_of_ours
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres

STATEMENTS: Final = (0, 1, 5)
Block = Callable[[Cast, int], Awaitable[None]]


async def run_connection(cast: Cast, statements: int) -> None:
    async with cast.models.connection() as connection:
        for key in range(1, statements + 1):
            (await connection.execute(select_user(cast), {"key": key})).one()


async def run_session(cast: Cast, statements: int) -> None:
    async with cast.models.session() as session:
        for key in range(1, statements + 1):
            await session.get_one(cast.User, key)


async def run_transaction(cast: Cast, statements: int) -> None:
    async with cast.models.transaction():
        for key in range(1, statements + 1):
            await cast.User.query.get(key)


def select_user(cast: Cast) -> Any:
    return select(cast.User.id, cast.User.name).where(cast.User.id == bindparam("key"))


@dataclass(frozen=True)
class Kind:
    """A kind of block, and its costs with each number of statements."""

    block: Block
    calls: tuple[int, ...]
    round_trips: tuple[int, ...]
    is_nested: bool = False
    """Whether it is opened inside a transaction() that has begun."""


# Calls as counted, SQLAlchemy's own included, so that a release which makes one dearer is noticed.
# Python 3.12 and later have fewer. Round trips are exact: an empty block has nothing to begin, and
# every other one its BEGIN and its COMMIT, or its SAVEPOINT and its RELEASE.
KINDS: Final[dict[str, Kind]] = {
    "connection": Kind(run_connection, (159, 392, 1128), (0, 3, 7)),
    "session": Kind(run_session, (224, 452, 1156), (0, 3, 7)),
    "transaction": Kind(run_transaction, (184, 337, 829), (0, 3, 7)),
    "savepoint": Kind(run_transaction, (253, 380, 872), (2, 3, 7), is_nested=True),
    "joined connection": Kind(run_connection, (84, 268, 1004), (0, 1, 5), is_nested=True),
    "joined session": Kind(run_session, (164, 348, 1052), (0, 1, 5), is_nested=True),
}


async def count(url: str, kind: Kind, statements: int, proxy: Proxy) -> tuple[int, int]:
    """Return the function calls and the round trips of one warm block."""
    cast = make_cast(Registry(proxy.url_for(url), pool_size=1))

    async def block() -> None:
        await kind.block(cast, statements)

    async def count_both() -> tuple[int, int]:
        calls = await calls_of_ours(block)
        with proxy.counting() as counted:
            await block()
        return calls, counted.round_trips

    async def count_inside() -> tuple[int, int]:
        async with cast.models.transaction():
            await cast.User.query.count()
            return await count_both()

    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.bulk_create(
            [{"name": f"user {key}"} for key in range(max(STATEMENTS))]
        )
        if not kind.is_nested:
            return await count_both()
        # Each savepoint has a name of its own, which is prepared once.
        counts = [await count_inside() for _ in range(2)]
        return counts[-1]


@pytest.mark.parametrize("statements", STATEMENTS)
@pytest.mark.parametrize("name", KINDS)
async def test_a_block_costs_so_many_calls_and_round_trips(
    proxy: Proxy, postgres_url: str, name: str, statements: int
) -> None:
    kind = KINDS[name]
    number = STATEMENTS.index(statements)

    calls, round_trips = await count(postgres_url, kind, statements, proxy)

    assert round_trips == kind.round_trips[number]
    assert calls <= kind.calls[number]
