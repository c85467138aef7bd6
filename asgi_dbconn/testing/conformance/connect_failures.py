"""Failures to connect or disconnect the databases."""

from __future__ import annotations

import asyncio

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import STARTUP, LifespanHarness, polite

__all__ = ["CHECKS"]

_FAILED = "lifespan.startup.failed"


async def check_8_connect_fails(wrapper: Wrapper) -> None:
    """A failed connect is reported once and raised, and the application is not started."""
    await _connect_fails(wrapper, handle_lifespan=False)


async def check_9_connect_fails_synthesised(wrapper: Wrapper) -> None:
    """The same with handle_lifespan=True."""
    await _connect_fails(wrapper, handle_lifespan=True)


async def _connect_fails(wrapper: Wrapper, *, handle_lifespan: bool) -> None:
    stage = LifespanHarness()
    failure = stage.resource.fails_to_open = ConnectionRefusedError("no server answers")
    error = await stage.live(wrapper, polite(stage.story), handle_lifespan=handle_lifespan)
    stage.expect_story(STARTUP, _FAILED)
    stage.expect_message("ConnectionRefusedError", "no server answers")
    if error is not failure:
        raise ConformanceFailure(f"raised {error!r} instead of the original error")


async def check_12_server_aborts(wrapper: Wrapper) -> None:
    """A server that aborts a failed startup by raising gets its own error back (hypercorn)."""
    stage = LifespanHarness()
    stage.resource.fails_to_open = ConnectionRefusedError("no server answers")
    abort = stage.send_fails = RuntimeError("the server aborts")
    error = await stage.live(wrapper, polite(stage.story))
    stage.expect_story(STARTUP, _FAILED)
    if error is not abort:
        raise ConformanceFailure(f"raised {error!r} instead of the server's own error")


async def check_13_cancelled_connect(wrapper: Wrapper) -> None:
    """A cancellation while connecting passes through without a message."""
    stage = LifespanHarness()
    stage.resource.hangs_in_opening = True
    life = asyncio.ensure_future(stage.live(wrapper, polite(stage.story)))
    for _ in range(50):  # iterations of the loop, enough to get to the connect
        await asyncio.sleep(0)
    life.cancel()
    await asyncio.wait({life})
    if not life.cancelled():
        raise ConformanceFailure(f"the cancellation was swallowed: {life!r}")
    stage.expect_story(STARTUP)


async def check_14_disconnect_fails(wrapper: Wrapper) -> None:
    """A failed disconnect is reported by one shutdown.failed, and raised."""
    for handle_lifespan in (False, True):
        stage = LifespanHarness()
        failure = stage.resource.fails_to_close = OSError("socket is gone")
        error = await stage.live(wrapper, polite([]), handle_lifespan=handle_lifespan)
        stage.expect_good_life("lifespan.shutdown.failed")
        stage.expect_message("socket is gone")
        expect(error, failure, "raised")


CHECKS = collect(
    check_8_connect_fails,
    check_9_connect_fails_synthesised,
    check_12_server_aborts,
    check_13_cancelled_connect,
    check_14_disconnect_fails,
)
