"""LifespanMiddleware beyond the conformance checks: its arguments, its log, its bounds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from asgi_dbconn import ConfigurationError, LifespanMiddleware, ShutdownFailed, StartupFailed
from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.testing.conformance.harness import (
    COMPLETE,
    GOOD_LIFE,
    STARTUP,
    LifespanHarness,
    Resource,
    polite,
)


async def test_a_function_may_make_the_lifetime() -> None:
    stage = LifespanHarness()

    assert await stage.live(LifespanMiddleware, polite([])) is None
    app = LifespanMiddleware(polite([]), lambda: stage.resource)
    stage.story.clear()
    stage.ask(STARTUP)
    stage.ask("lifespan.shutdown")
    await app({"type": "lifespan"}, stage.receive, stage.send)

    stage.expect_story(*GOOD_LIFE)


async def test_a_crash_in_mid_life_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = LifespanHarness(asks=[STARTUP])

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        raise KeyError("background job")

    with caplog.at_level(logging.ERROR, "asgi_dbconn"):
        life = asyncio.create_task(stage.live(LifespanMiddleware, inner))
        await stage.waiting.wait()

    assert "crashed while it was serving" in caplog.text
    assert "background job" in caplog.text
    stage.ask("lifespan.shutdown")
    assert isinstance(await life, KeyError)


@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_a_close_that_hangs_is_bounded(handle_lifespan: bool) -> None:
    stage = LifespanHarness()
    stage.resource.hangs_in_closing = True
    app = LifespanMiddleware(
        polite([]), stage.resource, handle_lifespan=handle_lifespan, shutdown_timeout=0.05
    )

    with pytest.raises(TimeoutError):
        await app({"type": "lifespan"}, stage.receive, stage.send)

    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")
    stage.expect_message("TimeoutError")


async def test_a_server_that_says_shutdown_first_gets_its_answer() -> None:
    stage = LifespanHarness(asks=["lifespan.shutdown"])

    assert await stage.live(LifespanMiddleware, polite([])) is None

    stage.expect_story("lifespan.shutdown", "lifespan.shutdown.complete")


@pytest.mark.parametrize("app", [1, "x", None])
def test_what_is_no_application_is_refused(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="wraps ASGI applications"):
        LifespanMiddleware(app, Resource([]))
    with pytest.raises(ConfigurationError, match="wraps ASGI applications"):
        LifespanMiddleware(polite([]), Resource([]), include=[app])


def test_what_is_no_lifetime_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="async context manager"):
        LifespanMiddleware(polite([]), 5)  # type: ignore[arg-type]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="warn, connect, error, ignore"):
        LifespanMiddleware(polite([]), Resource([]), without_lifespan="pray")  # type: ignore[arg-type]


def test_asgiref_sees_an_asgi_3_application() -> None:
    from asgiref.compatibility import is_double_callable

    app = LifespanMiddleware(polite([]), Resource([]))

    assert not is_double_callable(app)  # type: ignore[no-untyped-call]


async def test_the_reason_of_a_failed_start_is_raised_in_its_own_words() -> None:
    """Also where the application listens on, as Quart does, and is ended by us."""
    for listens_on in (False, True):
        stage = LifespanHarness(asks=[STARTUP])

        async def inner(scope: Any, receive: Any, send: Any, listens_on: bool = listens_on) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no template folder"})
            while listens_on:
                await receive()

        error = await stage.live(LifespanMiddleware, inner)

        assert isinstance(error, StartupFailed)
        assert "no template folder" in str(error)


async def test_a_subclass_may_have_a_call_of_its_own() -> None:
    calls: list[str] = []

    class Counting(LifespanMiddleware):
        def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            calls.append(scope["type"])
            return super().__call__(scope, receive, send)

    stage = LifespanHarness()
    assert await stage.live(Counting, polite([])) is None

    assert calls == ["lifespan"]
    stage.expect_story(*GOOD_LIFE)


async def test_a_failed_shutdown_that_returns_is_raised_all_the_same() -> None:
    stage = LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the queue is full"})

    error = await stage.live(LifespanMiddleware, inner)

    assert isinstance(error, ShutdownFailed)
    assert "the queue is full" in str(error)
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")


def test_a_wrapper_is_of_the_class_that_made_it() -> None:
    app = LifespanMiddleware(polite([]), Resource([]))

    assert type(app) is LifespanMiddleware
    assert type(app).__call__ is LifespanMiddleware.__call__
    assert asyncio.iscoroutinefunction(app.__call__)


@pytest.mark.parametrize("without_lifespan", ["warn", "ignore"])
async def test_a_request_gets_the_awaitable_of_the_application(without_lifespan: Any) -> None:
    """It passes through no frame of ours, however often the application suspends."""
    answers: list[Any] = []

    def inner(scope: Any, receive: Any, send: Any) -> Any:
        answers.append(polite([])(scope, receive, send))
        return answers[-1]

    app = LifespanMiddleware(
        inner, Resource([]), handle_lifespan=True, without_lifespan=without_lifespan
    )
    async with LifespanDriver(app):
        answer = app({"type": "http"}, None, None)

        assert answer is answers.pop()
        answer.close()

    answer = app({"type": "http"}, None, None)
    assert (answer in answers) == (without_lifespan == "ignore")
    answer.close()
