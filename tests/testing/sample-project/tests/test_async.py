from __future__ import annotations

import httpx
import pytest
from shop.main import mails
from shop.models import Entry, Order, models
from sqlalchemy.exc import IntegrityError


@pytest.mark.parametrize("number", range(6))
async def test_every_test_begins_with_empty_tables(dbconn_rollback: None, number: int) -> None:
    assert await Order.query.count() == 0
    async with models.transaction():
        await Order.query.create(customer="ada")
    assert await Order.query.count() == 1


@pytest.mark.parametrize("number", range(6))
async def test_the_application_works_inside_the_test(
    dbconn_client: httpx.AsyncClient, dbconn_rollback: None, number: int
) -> None:
    assert (await dbconn_client.post("/orders?customer=ada")).status_code == 201

    assert (await dbconn_client.get("/orders")).json() == ["ada"]
    assert (await Order.query.get()).customer == "ada"
    events = Entry.query.order_by("id").values_list("event", flat=True)
    assert await events == ["started", "order of ada"]


async def test_what_waits_for_a_commit_is_called(
    dbconn_rollback: None, dbconn_client: httpx.AsyncClient
) -> None:
    await dbconn_client.post("/orders?customer=ada")
    assert mails == ["ada"]

    with pytest.raises(IntegrityError):
        await dbconn_client.post("/orders?customer=ada")
    assert mails == ["ada"]


async def test_without_rollback_the_database_is_a_real_one(
    dbconn_client: httpx.AsyncClient,
) -> None:
    await dbconn_client.post("/orders?customer=eve")
    assert await Order.query.filter(customer="eve").delete() == 1
    await Entry.query.delete()
