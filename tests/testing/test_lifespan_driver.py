"""LifespanDriver: the server's side of a lifespan for tests; it raises, and never hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_dbconn import Registry, ShutdownFailed, StartupFailed
from asgi_dbconn.testing import LifespanDriver
from asgi_dbconn.testing.conformance.harness import BYE, COMPLETE

COMPLETES = {"startup": COMPLETE, "shutdown": BYE}


async def test_it_starts_and_stops_an_application_and_hands_out_its_state() -> None:
    story: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        story.append("up")
        yield {"greeting": "hello"}
        story.append("down")

    async def greet(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.greeting)

    driver = LifespanDriver(Starlette(routes=[Route("/", greet)], lifespan=lifespan))
    async with driver as state:
        assert (story, state) == (["up"], {"greeting": "hello"})
        transport = httpx.ASGITransport(driver.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.get("/")).text == "hello"

    assert story == ["up", "down"]


async def test_the_registry_is_connected_inside_on_the_tests_own_loop(database_url: str) -> None:
    models = Registry(database_url)
    async with LifespanDriver(models.asgi(Starlette())):
        await models.database.ping()
        assert "loops: 1]" in repr(models.database)

    assert not models.is_connected


def failing(at: str, error: Exception) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if at == "startup":
            raise error
        yield
        raise error

    return Starlette(lifespan=lifespan)


@pytest.mark.parametrize("at", ["startup", "shutdown"])
async def test_it_raises_the_original_error(at: str) -> None:
    error = KeyError("templates")
    with pytest.raises(KeyError) as caught:
        async with LifespanDriver(failing(at, error)):
            assert at == "shutdown"

    assert caught.value is error


@pytest.mark.parametrize(("at", "kind"), [("startup", StartupFailed), ("shutdown", ShutdownFailed)])
async def test_an_application_that_says_failed_and_returns_is_an_error(
    at: str, kind: type[Exception]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for event, word in COMPLETES.items():
            await receive()
            if event == at:
                await send({"type": f"lifespan.{at}.failed", "message": "no template folder"})
                return
            await send(word)

    with pytest.raises(kind, match="no template folder"):
        async with LifespanDriver(app):
            assert at == "shutdown"


async def test_an_application_that_crashes_without_a_word_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("templates")

    with pytest.raises(KeyError):
        async with LifespanDriver(app):
            pytest.fail("it started")


@pytest.mark.parametrize("raises", [True, False])
async def test_an_application_without_a_lifespan_is_let_be(raises: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if raises:
            raise ValueError("only http")

    async with LifespanDriver(app) as state:
        assert state == {}


@pytest.mark.parametrize("at", ["startup", "shutdown"])
async def test_an_application_that_hangs_is_given_up(at: str) -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            for event, word in COMPLETES.items():
                await receive()
                if event == at:
                    await asyncio.Event().wait()
                await send(word)
        finally:
            ended.append("ended")

    with pytest.raises(TimeoutError, match=at):
        async with LifespanDriver(app, startup_timeout=0.05, shutdown_timeout=0.05):
            assert at == "shutdown"

    assert ended == ["ended"]


async def test_the_error_of_the_block_is_not_hidden_by_that_of_the_shutdown() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with LifespanDriver(failing("shutdown", KeyError("queue"))):
            raise ZeroDivisionError

    assert "queue" in caught.value.__notes__[0]


async def test_a_crash_in_mid_life_is_raised_at_the_end() -> None:
    crash = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await crash.wait()
        raise KeyError("background job")

    with pytest.raises(KeyError, match="background job"):
        async with LifespanDriver(app):
            crash.set()
            await asyncio.sleep(0)


async def test_a_cancelled_start_ends_the_application() -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    driver = LifespanDriver(app)
    starting = asyncio.create_task(driver.startup())
    await entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert ended.is_set()
