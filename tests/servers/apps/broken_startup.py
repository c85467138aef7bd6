"""Applications that query while they start, and then fail: one says so, one just raises."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from starlette.applications import Starlette

from asgi_dbconn import Registry
from asgi_dbconn.types import Receive, Scope, Send

models = Registry(database=os.environ["DATABASE_URL"], extra={"audit": os.environ["AUDIT_URL"]})


async def fill_the_cache() -> None:
    async with models.connection(), models.connection("audit") as connection:
        found = (await connection.execute(text("SELECT 6 * 7"))).scalar_one()
        raise LookupError(f"the cache has no entry {found}")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    await fill_the_cache()
    yield


async def without_framework(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await fill_the_cache()


app = models.asgi(Starlette(lifespan=lifespan))
raises = models.asgi(without_framework)
