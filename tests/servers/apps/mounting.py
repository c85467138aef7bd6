"""An application with two mounted ones, whose lifespans only we run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from asgi_dbconn import Registry
from tests.servers.apps.showing import show_our_log

show_our_log()

models = Registry(database=os.environ["DATABASE_URL"])


async def database() -> str:
    async with models.connection() as connection:
        name: str = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        return name


async def answer(request: Request) -> Response:
    return PlainTextResponse(f"{request.app.state.name} in {await database()}")


def application(name: str, *mounted: Mount) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        print(f"{name} starts in {await database()}")
        yield
        print(f"{name} stops in {await database()}")

    app = Starlette(routes=[Route("/", answer), *mounted], lifespan=lifespan)
    app.state.name = name
    return app


shop = application("the shop")
admin = application("the admin")
main = application("the main application", Mount("/shop", shop), Mount("/admin", admin))

app = models.asgi(main, include=[shop, admin])
