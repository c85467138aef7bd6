"""Mangum starts and stops an application on every invocation, all of them on one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final, cast

import pytest
from mangum import Mangum
from mangum.exceptions import LifespanFailure
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_dbconn import Registry
from tests.servers.watching import PASSWORD, assert_nobody_connected, lives, name_in
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.server

EVENT: Final = {
    "version": "2.0",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": {"host": "example.com"},
    "requestContext": {
        "http": {"method": "GET", "path": "/", "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1"}
    },
    "isBase64Encoded": False,
}
CONTEXT: Final = cast("Any", None)
ONE_LIFE: Final = ["connected", "disconnected: 1 closed, 0 cancelled, 0 cut"]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that Mangum finds and keeps, and that runs only during an invocation."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        try:
            yield runner.get_loop()
        finally:
            asyncio.set_event_loop(None)


def handler_of(models: Registry) -> Mangum:
    async def where(request: Request) -> Response:
        async with models.connection() as connection:
            database = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        return JSONResponse({"database": database, "connected": models.is_connected})

    app: Any = models.asgi(Starlette(routes=[Route("/", where)]))
    return Mangum(app)


@pytest.mark.postgres
@pytest.mark.usefixtures("loop")
def test_each_invocation_connects_and_disconnects(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 48: the same loop and the same registry, again and again."""
    caplog.set_level("INFO", "asgi_dbconn")
    models = Registry(database=postgres_url)
    handler = handler_of(models)
    for invocation in range(1, 4):
        answer = handler(EVENT, CONTEXT)
        assert answer["statusCode"] == HTTPStatus.OK
        assert json.loads(answer["body"]) == {
            "database": name_in(postgres_url),
            "connected": True,
        }
        assert not models.is_connected
        assert lives(logged(caplog)) == ONE_LIFE * invocation
        assert_nobody_connected(postgres, postgres_url)


def test_an_invocation_fails_where_the_database_is_dead(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 39: nothing is served, and nothing of the attempt is left on the loop."""
    address = f"{LOOPBACK}:{free_port()}/billing"
    models = Registry(database=f"postgresql://alice:{PASSWORD}@{address}", startup_timeout=0)
    handler = handler_of(models)
    for _ in range(2):
        with pytest.raises(LifespanFailure) as caught:
            handler(EVENT, CONTEXT)
        assert f"alice:***@{address}" in str(caught.value)
        assert asyncio.all_tasks(loop) == set()
    assert PASSWORD not in caplog.text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What our log would show, in the format that the served applications give it."""
    return "\n".join(
        f"{record.levelname} {record.name}: {record.getMessage()}" for record in caplog.records
    )
