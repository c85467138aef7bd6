"""Requests without a lifespan: warned of, connected for, refused, or let through."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_dbconn import DatabaseNotConnectedWarning, LifespanError, LifespanMiddleware, Registry
from asgi_dbconn.testing.conformance.harness import Resource
from tests.support.postgres import PostgresServer


async def ok(scope: Any, receive: Any, send: Any) -> None:
    """An application without a lifespan that answers everything."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_first_request_warns_and_no_other() -> None:
    resource = Resource([])
    app = LifespanMiddleware(ok, resource)

    async with client(app) as http:
        with pytest.warns(DatabaseNotConnectedWarning, match="daphne.*models.asgi") as caught:
            for _ in range(3):
                assert (await http.get("/")).text == "ok"

    assert len(caught) == 1
    assert resource.story == []


async def test_a_registry_that_is_connected_otherwise_is_no_reason_to_warn(sqlite_url: str) -> None:
    models = Registry(sqlite_url)
    app = models.asgi(ok)

    async with models, client(app) as http:
        assert (await http.get("/")).text == "ok"


async def test_errors_refuse_every_request() -> None:
    app = LifespanMiddleware(ok, Resource([]), without_lifespan="error")

    async with client(app) as http:
        for _ in range(2):
            with pytest.raises(LifespanError, match="without a lifespan"):
                await http.get("/")


async def test_ignoring_says_nothing() -> None:
    app = LifespanMiddleware(ok, Resource([]), without_lifespan="ignore")

    async with client(app) as http:
        assert (await http.get("/")).text == "ok"


async def test_twenty_first_requests_share_one_connect() -> None:
    class Slow(Resource):
        async def __aenter__(self) -> None:
            await asyncio.sleep(0)
            await super().__aenter__()

    resource = Slow([])
    app = LifespanMiddleware(ok, resource, without_lifespan="connect")

    async with client(app) as http:
        answers = await asyncio.gather(*(http.get("/") for _ in range(20)))

    assert {answer.text for answer in answers} == {"ok"}
    assert resource.story == ["open"]


async def test_a_first_request_that_is_cancelled_leaves_the_connect_to_the_others() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    class Slow(Resource):
        async def __aenter__(self) -> None:
            entered.set()
            await go.wait()
            await super().__aenter__()

    resource = Slow([])
    app = LifespanMiddleware(ok, resource, without_lifespan="connect")
    async with client(app) as http:
        first = asyncio.create_task(http.get("/"))
        await entered.wait()
        second = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0)
        first.cancel()
        go.set()
        assert (await second).text == "ok"

    assert resource.story == ["open"]


async def test_a_failed_connect_is_tried_again_by_the_next_request() -> None:
    resource = Resource([])
    resource.fails_to_open = OSError("not yet")
    app = LifespanMiddleware(ok, resource, without_lifespan="connect")

    async with client(app) as http:
        for _ in range(2):
            with pytest.raises(OSError, match="not yet"):
                await http.get("/")
        resource.fails_to_open = None
        assert (await http.get("/")).text == "ok"

    assert resource.story == ["open"]


def test_what_a_first_request_connected_is_closed_with_its_loop() -> None:
    resource = Resource([])
    app = LifespanMiddleware(ok, resource, without_lifespan="connect")

    async def one_request() -> None:
        async with client(app) as http:
            await http.get("/")

    for _ in range(3):
        asyncio.run(one_request())

    assert resource.story == ["open", "closed"] * 3


def test_a_test_client_without_its_block_is_served_and_leaves_no_connection(
    postgres: PostgresServer, postgres_url: str
) -> None:
    models = Registry(postgres_url)

    async def ping(request: Any) -> PlainTextResponse:
        await models.database.ping()
        return PlainTextResponse("ok")

    app = models.asgi(Starlette(routes=[Route("/", ping)]), without_lifespan="connect")
    http = TestClient(app)  # a new loop for each request

    for _ in range(20):
        assert http.get("/").text == "ok"

    assert not models.is_connected
    assert not postgres.sessions(database=postgres_url.rpartition("/")[2])


def test_after_a_life_requests_are_looked_at_again() -> None:
    resource = Resource([])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ok(scope, receive, send)

    wrapped = LifespanMiddleware(app, resource, without_lifespan="error")
    with TestClient(wrapped) as http:
        assert http.get("/").text == "ok"
    with pytest.raises(LifespanError):
        TestClient(wrapped).get("/")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with TestClient(wrapped) as http:
            assert http.get("/").text == "ok"
    assert resource.story == ["open", "closed"] * 2
