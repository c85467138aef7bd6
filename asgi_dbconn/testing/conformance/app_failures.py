"""Failures of the application: in its startup, while it serves, in its shutdown."""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import (
    BYE,
    COMPLETE,
    GOOD_LIFE,
    STARTUP,
    LifespanHarness,
)

__all__ = ["CHECKS"]

_FAILED = {"type": "lifespan.startup.failed", "message": "no template folder"}
_CLOSED_FIRST = (STARTUP, "open", "closed", "lifespan.startup.failed")


async def check_17_refuses(wrapper: Wrapper) -> None:
    """A failed startup is reported after disconnecting, with its own message and error."""
    stage, failure = LifespanHarness(), KeyError("templates")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(_FAILED)
        raise failure

    error = await stage.live(wrapper, inner)
    stage.expect_story(*_CLOSED_FIRST)
    expect(stage.last_message, _FAILED, "the message")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the application's error")


async def check_18_refuses_and_returns(wrapper: Wrapper) -> None:
    """A failed startup is raised even if the application returns: test clients would hang."""
    stage = LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(_FAILED)

    error = await stage.live(wrapper, inner)
    stage.expect_story(*_CLOSED_FIRST)
    if error is None:
        raise ConformanceFailure("returned quietly")


async def check_19_refuses_and_listens(wrapper: Wrapper) -> None:
    """An application that still receives after a failed startup is ended (Quart, Sanic)."""
    stage = LifespanHarness(asks=[STARTUP])

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(_FAILED)
        while True:
            await receive()

    error = await stage.live(wrapper, inner)
    stage.expect_story(*_CLOSED_FIRST)
    if error is None:
        raise ConformanceFailure("returned quietly")


async def check_20_refuses_and_disconnect_fails(wrapper: Wrapper) -> None:
    """A failed startup and a failed disconnect are reported in one message."""
    stage = LifespanHarness()
    stage.resource.fails_to_close = OSError("socket is gone")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(_FAILED)
        raise KeyError("templates")

    await stage.live(wrapper, inner)
    stage.expect_story(*_CLOSED_FIRST)
    stage.expect_message("no template folder", "socket is gone")


async def check_21_crashes_in_startup(wrapper: Wrapper) -> None:
    """A crash after receiving the startup message is reported as a failed startup, and raised."""
    stage, failure = LifespanHarness(), KeyError("templates")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise failure

    error = await stage.live(wrapper, inner)
    stage.expect_story(*_CLOSED_FIRST)
    stage.expect_message("KeyError", "templates")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the application's error")


async def check_27_crashes_in_mid_life(wrapper: Wrapper) -> None:
    """A crash while serving leaves the databases connected, and is reported at shutdown."""
    stage, failure = LifespanHarness(asks=[STARTUP]), KeyError("background job")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        raise failure

    life = asyncio.ensure_future(stage.live(wrapper, inner))
    waiting = asyncio.ensure_future(stage.waiting.wait())
    await asyncio.wait({life, waiting}, return_when="FIRST_COMPLETED")
    waiting.cancel()
    stage.expect_still_open(life)
    stage.ask("lifespan.shutdown")
    error = await life
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the application's error")


async def check_28_crashes_in_shutdown(wrapper: Wrapper) -> None:
    """A crash in the application's shutdown is reported after the databases are disconnected."""
    stage, failure = LifespanHarness(), KeyError("flush")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise failure

    error = await stage.live(wrapper, inner)
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the application's error")


async def check_29_refuses_to_stop(wrapper: Wrapper) -> None:
    """A failed shutdown is forwarded once, after the databases are disconnected."""
    told = {"type": "lifespan.shutdown.failed", "message": "the queue is full"}
    stage, failure = LifespanHarness(), KeyError("queue")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send(told)
        raise failure

    error = await stage.live(wrapper, inner)
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")
    expect(stage.last_message, told, "the message")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the application's error")


async def check_31_repeats_itself(wrapper: Wrapper) -> None:
    """A message that is sent twice is forwarded once: servers assert on the second."""
    stage = LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        for word in (COMPLETE, BYE):
            await receive()
            for _ in range(2):
                try:
                    await send(word)
                except Exception as refused:
                    stage.refusals.append(refused)

    await stage.live(wrapper, inner)
    stage.expect_story(*GOOD_LIFE)


CHECKS = collect(
    check_17_refuses,
    check_18_refuses_and_returns,
    check_19_refuses_and_listens,
    check_20_refuses_and_disconnect_fails,
    check_21_crashes_in_startup,
    check_27_crashes_in_mid_life,
    check_28_crashes_in_shutdown,
    check_29_refuses_to_stop,
    check_31_repeats_itself,
)
