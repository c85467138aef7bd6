from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import text

from shop.models import Entry, Order, models

mails: list[str] = []


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    await Entry.query.create(event="started")
    yield
    await Entry.query.create(event="stopped")


api = FastAPI(lifespan=lifespan)


@api.post("/orders", status_code=201)
async def place(customer: str) -> int:
    async with models.transaction() as transaction:
        order = await Order.query.create(customer=customer)
        transaction.on_commit(lambda: mails.append(customer))
    await Entry.query.create(event=f"order of {customer}")
    return order.id


@api.get("/orders")
async def orders() -> list[str]:
    async with models.session() as session:  # plain SQLAlchemy sees the same
        rows = await session.execute(text("SELECT customer FROM orders ORDER BY id"))
        return list(rows.scalars())


app = models.asgi(api)
