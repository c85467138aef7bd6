"""What a verb costs on the network, counted at a proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_dbconn import Registry
from tests.cast import Cast, make_cast
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres

ONE_STATEMENT: dict[str, Callable[[Cast], Awaitable[Any]]] = {
    "all": lambda cast: cast.User.query.all(),
    "filter": lambda cast: cast.User.query.filter(name__icontains="a").order_by("name").limit(5),
    "get": lambda cast: cast.User.query.get(1),
    "get_or_none": lambda cast: cast.User.query.get_or_none(99),
    "first": lambda cast: cast.User.query.first(),
    "count": lambda cast: cast.User.query.count(),
    "exists": lambda cast: cast.User.query.exists(),
    "create": lambda cast: cast.Post.query.create(user_id=1),
    "update": lambda cast: cast.User.query.filter(name="ada").update(age=3),
    "delete": lambda cast: cast.User.query.filter(name="zoe").delete(),
}


@pytest.mark.parametrize("verb", ONE_STATEMENT)
async def test_a_one_statement_verb_is_one_round_trip(
    proxy: Proxy, postgres_url: str, verb: str
) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada")
        await ONE_STATEMENT[verb](cast)  # prepares the statement
        with proxy.counting() as counted:
            await ONE_STATEMENT[verb](cast)

    assert counted.round_trips == 1


async def test_a_transaction_adds_its_begin_and_its_commit(proxy: Proxy, postgres_url: str) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.count()  # prepares the statement
        with proxy.counting() as counted:
            async with cast.models.transaction():
                for _ in range(3):
                    await cast.User.query.count()

    assert counted.round_trips == 3 + 2


async def test_building_a_query_sends_nothing(proxy: Proxy, postgres_url: str) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url)))
    async with cast.models:
        with proxy.counting() as counted:
            query = cast.User.query.filter(name="ada").order_by("-id").limit(3)
            str(query.statement)

    assert counted.round_trips == 0
