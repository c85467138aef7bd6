"""Applications without a lifespan, or with one that differs from the specification."""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import BYE, COMPLETE, STARTUP, Inner, LifespanHarness

__all__ = ["CHECKS"]


async def _expect_synthesised_events(wrapper: Wrapper, inner: Inner) -> None:
    stage = LifespanHarness()
    error = await stage.live(wrapper, inner)
    expect(error, None, "raised")
    stage.expect_good_life()
    if any(event.startswith("http.") for event in stage.story):
        raise ConformanceFailure(f"the server received HTTP in a lifespan: {stage.story!r}")


async def check_22_raises_at_once(wrapper: Wrapper) -> None:
    """If the application raises immediately, the events are synthesised (Django, Channels)."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    await _expect_synthesised_events(wrapper, inner)


async def check_23_returns_at_once(wrapper: Wrapper) -> None:
    """If the application returns immediately, the events are synthesised."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        return

    await _expect_synthesised_events(wrapper, inner)


async def check_24_answers_in_http(wrapper: Wrapper) -> None:
    """If the application answers in HTTP, the events are synthesised; the server sees no HTTP."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    await _expect_synthesised_events(wrapper, inner)


async def check_25_speaks_first(wrapper: Wrapper) -> None:
    """If the application sends before it receives, the events are synthesised."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await _expect_synthesised_events(wrapper, inner)


async def check_26_leaves_in_mid_life(wrapper: Wrapper) -> None:
    """An application that returns while serving keeps its databases until the shutdown."""
    stage = LifespanHarness(asks=[STARTUP])

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)

    life = asyncio.ensure_future(stage.live(wrapper, inner))
    waiting = asyncio.ensure_future(stage.waiting.wait())
    await asyncio.wait({life, waiting}, return_when="FIRST_COMPLETED")
    waiting.cancel()
    stage.expect_still_open(life)
    stage.ask("lifespan.shutdown")
    expect(await life, None, "raised")
    stage.expect_good_life()


async def check_30_says_no_goodbye(wrapper: Wrapper) -> None:
    """If the application returns from its shutdown without a message, it is synthesised."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()

    await _expect_synthesised_events(wrapper, inner)


async def check_32_never_returns(wrapper: Wrapper) -> None:
    """An application that receives for ever ends with its lifespan."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send(COMPLETE if message["type"] == STARTUP else BYE)

    await _expect_synthesised_events(wrapper, inner)


CHECKS = collect(
    check_22_raises_at_once,
    check_23_returns_at_once,
    check_24_answers_in_http,
    check_25_speaks_first,
    check_26_leaves_in_mid_life,
    check_30_says_no_goodbye,
    check_32_never_returns,
)
