"""An application whose answers take a while, in the database; each worker names its sessions."""

from __future__ import annotations

import os

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_dbconn import Registry

models = Registry(
    database=os.environ["DATABASE_URL"],
    connect_args={"server_settings": {"application_name": f"worker {os.getpid()}"}},
    pool_size=2,
    shutdown_timeout=float(os.environ.get("SHUTDOWN_TIMEOUT", "10")),
)


async def sleep(request: Request) -> Response:
    seconds = float(request.path_params["seconds"])
    async with models.connection() as connection:
        await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return JSONResponse({"slept": seconds, "worker": os.getpid()})


app = models.asgi(Starlette(routes=[Route("/sleep/{seconds:float}", sleep)]))
