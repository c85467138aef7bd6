"""An application that queries while it starts, and then fails to start."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from starlette.applications import Starlette

from asgi_dbconn import Registry

models = Registry(database=os.environ["DATABASE_URL"], extra={"audit": os.environ["AUDIT_URL"]})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with models.connection(), models.connection("audit") as connection:
        found = (await connection.execute(text("SELECT 6 * 7"))).scalar_one()
        raise LookupError(f"the cache has no entry {found}")
    yield


app = models.asgi(Starlette(lifespan=lifespan))
