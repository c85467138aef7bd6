from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from shop.models import Order


@pytest_asyncio.fixture(loop_scope="module")
async def bob(dbconn_rollback: None) -> AsyncIterator[Order]:
    yield await Order.query.create(customer="bob")
    assert await Order.query.count() == 2


@pytest.mark.parametrize("number", range(3))
@pytest.mark.asyncio(loop_scope="module")
async def test_pytest_asyncio_with_one_loop_for_the_module(
    bob: Order, dbconn_client: httpx.AsyncClient, number: int
) -> None:
    await dbconn_client.post("/orders?customer=ada")
    assert (await dbconn_client.get("/orders")).json() == ["bob", "ada"]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.asyncio
async def test_pytest_asyncio_with_a_loop_for_each_test(
    dbconn_rollback: None, dbconn_client: httpx.AsyncClient, number: int
) -> None:
    await dbconn_client.post("/orders?customer=ada")
    assert (await dbconn_client.get("/orders")).json() == ["ada"]


@pytest.fixture
async def cyd(dbconn_rollback: None) -> Order:
    return await Order.query.create(customer="cyd")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.anyio
async def test_anyio_beside_it(cyd: Order, dbconn_client: httpx.AsyncClient, number: int) -> None:
    await dbconn_client.post("/orders?customer=ada")
    assert (await dbconn_client.get("/orders")).json() == ["cyd", "ada"]
