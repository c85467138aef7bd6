"""An application for ``gunicorn --preload``, which connects where it is imported if it is told to.

Served by the tests. The runner stays open for as long as the process lives: the connection that
was opened at import belongs to its loop.
"""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_dbconn import Registry
from tests.faults.backends import backend

models = Registry(os.environ["DATABASE_URL"], pool_size=1)
runner = asyncio.Runner()
imported_in = os.getpid()
backend_at_import: int | None = None


async def connect() -> int:
    await models.connect()
    return await backend(models.database)


if os.environ.get("CONNECT_AT_IMPORT"):
    backend_at_import = runner.run(connect())


async def where(request: Request) -> Response:
    return JSONResponse(
        {
            "worker": os.getpid(),
            "backend": await backend(models.database),
            "imported in": imported_in,
            "backend at import": backend_at_import,
        }
    )


app = models.asgi(Starlette(routes=[Route("/", where)]))
