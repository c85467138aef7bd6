"""An application that writes down what happens to it, and queries at every stage of its life."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_dbconn import Registry
from asgi_dbconn.lifespan.missing_lifespan import WithoutLifespan
from asgi_dbconn.types import ASGIApp, Message, Receive, Scope, Send
from tests.servers.apps.showing import show_our_log

show_our_log()

GREETING: Final = "hello from the lifespan"

models = Registry(
    database=os.environ["DATABASE_URL"],
    startup_timeout=float(os.environ.get("STARTUP_TIMEOUT", "5")),
    shutdown_timeout=float(os.environ.get("SHUTDOWN_TIMEOUT", "5")),
)


async def one(statement: str, **values: object) -> Any:
    async with models.connection() as connection:
        return (await connection.execute(text(statement), values)).scalar_one()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    print(f"the inner application starts in {await one('SELECT current_database()')}")
    yield {"greeting": GREETING}
    print(f"the inner application stops in {await one('SELECT current_database()')}")


async def alive(request: Request) -> Response:
    return JSONResponse({"worker": os.getpid()})


async def where(request: Request) -> Response:
    return JSONResponse(
        {
            "database": await one("SELECT current_database()"),
            "greeting": request.scope.get("state", {}).get("greeting"),
            "worker": os.getpid(),
        }
    )


async def sleep(request: Request) -> Response:
    await one("SELECT pg_sleep(:seconds)", seconds=float(request.path_params["seconds"]))
    # On a connection checked out anew, after the server was told to end.
    answer = await where(request)
    print("the slow request is answered")
    return answer


async def idle(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await one("SELECT current_database()"))
    await until_closed(socket)


async def holding(socket: WebSocket) -> None:
    await socket.accept()
    async with models.transaction() as transaction:
        database = await transaction.connection.execute(text("SELECT current_database()"))
        await socket.send_text(database.scalar_one())
        await until_closed(socket)


async def until_closed(socket: WebSocket) -> None:
    try:
        await socket.receive()
    finally:
        print("a socket ends")


class NotingTheState:
    """Writes down what of the lifespan state is left when the shutdown begins.

    Not a function: servers would find out from the attributes of one, which the wrapper forwards,
    that the wrapped application is an ASGI 3 application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                print(f"state at shutdown: {sorted(scope['state'])}")
            return message

        await self.app(scope, received if scope["type"] == "lifespan" else receive, send)


routes = [
    Route("/alive", alive),
    Route("/where", where),
    Route("/sleep/{seconds:float}", sleep),
    WebSocketRoute("/idle", idle),
    WebSocketRoute("/holding", holding),
]
app = models.asgi(
    NotingTheState(Starlette(routes=routes, lifespan=lifespan)),
    without_lifespan=cast("WithoutLifespan", os.environ.get("WITHOUT_LIFESPAN", "warn")),
)
