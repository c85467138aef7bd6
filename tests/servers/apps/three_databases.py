"""An application with three databases, any of which the environment may send to a dead port."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from asgi_dbconn import Registry

models = Registry(
    database=os.environ["DATABASE_URL"],
    extra={"audit": os.environ["AUDIT_URL"], "billing": os.environ["BILLING_URL"]},
    startup_timeout=float(os.environ.get("STARTUP_TIMEOUT", "0")),
)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    print("the inner application starts")
    yield


app = models.asgi(
    Starlette(lifespan=lifespan), handle_lifespan=bool(os.environ.get("HANDLE_LIFESPAN"))
)
