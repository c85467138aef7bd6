"""What all of these applications do with their database, once by ``run_sync`` and once by await.

Every answer tells of the process that gave it: which loops and how many pools it had.
"""

from __future__ import annotations

import os
import threading
from http import HTTPStatus
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ObjectNotFound, Queryable, Registry, run_sync
from tests.servers.apps.showing import show_our_log

show_our_log()

Answer = tuple[dict[str, Any], int]

models = Registry(
    database=os.environ["DATABASE_URL"],
    pool_size=int(os.environ["POOL_SIZE"]),
    acquire_timeout=20,
    max_connections=int(os.environ.get("MAX_CONNECTIONS", "0")) or None,
    startup_timeout=float(os.environ.get("STARTUP_TIMEOUT", "10")),
)


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    balance: Mapped[int]


class Overdrawn(Exception):
    """Somebody would give away more than there is."""


async def move(giver: int, taker: int, amount: int) -> int:
    """What the giver is left with. Everything, or nothing at all, in one transaction."""
    async with models.transaction():
        # In the order of their numbers, so that two who give to each other do not lock each other.
        for account, change in sorted([(giver, -amount), (taker, amount)]):
            await Account.query.filter(id=account).update(balance=Account.balance + change)
        left = (await Account.query.get(giver)).balance
        if left < 0:
            raise Overdrawn
    return left


def names() -> Answer:
    found = run_sync(Account.query.order_by("id"))
    return answer(names=[account.name for account in found])


def balance(account: int) -> Answer:
    try:
        return answer(balance=run_sync(Account.query.get(account)).balance)
    except ObjectNotFound:
        return answer(HTTPStatus.NOT_FOUND)


def open_account(name: str) -> Answer:
    return answer(id=run_sync(Account.query.create(name=name, balance=0)).id)


def transfer(giver: int, taker: int, amount: int) -> Answer:
    try:
        return answer(left=run_sync(move(giver, taker, amount)))
    except Overdrawn:
        return answer(HTTPStatus.CONFLICT)


async def names_async() -> Answer:
    return answer(names=[account.name for account in await Account.query.order_by("id")])


async def transfer_async(giver: int, taker: int, amount: int) -> Answer:
    try:
        return answer(left=await move(giver, taker, amount))
    except Overdrawn:
        return answer(HTTPStatus.CONFLICT)


def answer(status: int = HTTPStatus.OK, **said: object) -> Answer:
    """Something to send as JSON, and the status to send it with."""
    stats = models.database.stats()
    threads = [
        thread.name for thread in threading.enumerate() if thread.name.startswith("asgi-dbconn")
    ]
    return {
        **said,
        "worker": os.getpid(),
        "pools": stats.loops,
        "transient_uses": stats.transient_uses,
        "loop_threads": threads,
    }, status
