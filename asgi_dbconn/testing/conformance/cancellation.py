"""Lifespans that end from outside: cancelled, interrupted, or collected as garbage."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import (
    COMPLETE,
    STARTUP,
    Inner,
    LifespanHarness,
    polite,
)

__all__ = ["CHECKS"]


async def check_33_cancelled(wrapper: Wrapper) -> None:
    """A cancellation while serving lets the application clean up, and then disconnects."""
    stage = LifespanHarness(asks=[STARTUP])

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        try:
            await receive()
        finally:
            stage.story.append("inner clean-up")

    life = asyncio.ensure_future(stage.live(wrapper, inner))
    await stage.waiting.wait()
    life.cancel()
    await asyncio.wait({life})
    if not life.cancelled():
        raise ConformanceFailure(f"the cancellation was swallowed: {life!r}")
    stage.expect_story(
        STARTUP, "open", "lifespan.startup.complete", "inner clean-up", "closed"
    )  # fmt: skip


async def check_34_cancelled_twice(wrapper: Wrapper) -> None:
    """A second cancellation, while disconnecting, ends the lifespan immediately."""
    stage = LifespanHarness(asks=[STARTUP])
    stage.resource.hangs_in_closing = True
    life = asyncio.ensure_future(stage.live(wrapper, polite([])))
    await stage.waiting.wait()
    life.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    expect(life.done(), False, "ended before it had disconnected")
    life.cancel()
    await asyncio.wait({life}, timeout=1)
    if not life.cancelled():
        raise ConformanceFailure(f"the second cancellation did not end it: {life!r}")


async def check_35_interrupted(wrapper: Wrapper) -> None:
    """KeyboardInterrupt and SystemExit disconnect, and pass through unchanged."""
    for end in (KeyboardInterrupt(), SystemExit(3)):
        stage = LifespanHarness()

        async def inner(scope: Any, receive: Any, send: Any, end: BaseException = end) -> None:
            await receive()
            await send(COMPLETE)
            raise end

        # On a loop of its own, which such an exception stops immediately.
        caught = await asyncio.to_thread(_left_with, wrapper(inner, stage.resource), stage)
        if caught is not end:
            became = "was swallowed" if caught is None else f"became {caught!r}"
            raise ConformanceFailure(f"{end!r} {became}")
        stage.expect_story(STARTUP, "open", "lifespan.startup.complete", "closed")


def _left_with(app: Any, stage: LifespanHarness) -> BaseException | None:
    async def live() -> None:
        await app({"type": "lifespan"}, stage.receive, stage.send)

    loop = asyncio.new_event_loop()
    life = loop.create_task(live())
    try:
        loop.run_until_complete(life)
    except BaseException as error:  # any exception is the outcome
        return error
    finally:
        life.cancel()
        loop.run_until_complete(asyncio.gather(life, return_exceptions=True))
        loop.close()
    return None


async def check_36_task_groups(wrapper: Wrapper) -> None:
    """An application in a task group works, and its exception group keeps its identity."""
    stage = LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_call(polite(stage.story), scope, receive, send))

    expect(await stage.live(wrapper, inner), None, "raised")
    group = ExceptionGroup("unhandled errors in a TaskGroup", [KeyError("job")])
    stage = LifespanHarness()

    async def fail_in_group(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise group

    error = await stage.live(wrapper, fail_in_group)
    if error is not group:
        raise ConformanceFailure(f"raised {error!r} instead of the application's group")


async def _call(app: Inner, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)


async def check_37_garbage(wrapper: Wrapper) -> None:
    """A lifespan task without a reference from outside survives the garbage collector."""
    stage = LifespanHarness(asks=[STARTUP])
    served = asyncio.Event()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        served.set()
        await asyncio.Event().wait()

    def begin() -> weakref.ref[asyncio.Task[None]]:
        async def live() -> None:
            await wrapper(inner, stage.resource)({"type": "lifespan"}, stage.receive, stage.send)

        return weakref.ref(asyncio.ensure_future(live()))

    life = begin()
    await served.wait()
    await asyncio.sleep(0)
    gc.collect()
    task = life()
    if task is None or task.done() or not stage.resource.is_open:
        raise ConformanceFailure("the garbage collector ended it while the server serves")
    task.cancel()
    await asyncio.wait({task})


async def check_38_one_task(wrapper: Wrapper) -> None:
    """Connect and disconnect run in the same task: cancel scopes and context tokens need it."""
    direct = polite([])

    async def run_in_group(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_call(polite([]), scope, receive, send))

    for inner in (direct, run_in_group):
        stage = LifespanHarness()
        await stage.live(wrapper, inner)
        stage.expect_good_life()
        first, *others = stage.resource.tasks
        if any(task != first for task in others):
            raise ConformanceFailure("opened in one task, and closed in another")


CHECKS = collect(
    check_33_cancelled,
    check_34_cancelled_twice,
    check_35_interrupted,
    check_36_task_groups,
    check_37_garbage,
    check_38_one_task,
)
