"""Calls of the wrapped application: as ASGI 3, repeatedly, from two loops, without asyncio."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import GOOD_LIFE, LifespanHarness, Resource, polite
from asgi_dbconn.types import Message

__all__ = ["CHECKS"]


async def check_44_detection(wrapper: Wrapper) -> None:
    """Servers detect an ASGI 3 application, and may call it with keyword arguments (daphne)."""
    stage = LifespanHarness()
    app: Any = wrapper(polite([]), stage.resource)
    is_asgi_3 = inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(
        getattr(app, "__call__", None)  # noqa: B004 - as uvicorn and hypercorn do
    )
    expect(is_asgi_3, True, "found to be ASGI 3")
    await app(scope={"type": "lifespan"}, receive=stage.receive, send=stage.send)
    stage.expect_good_life()


async def check_48_again(wrapper: Wrapper) -> None:
    """One wrapped application may have several lifespans in a row (test clients, serverless)."""
    app: Any = None
    resource = Resource([])
    for _ in range(3):
        stage = LifespanHarness()
        app = app or wrapper(polite([]), resource)
        resource.story = stage.story
        await app({"type": "lifespan"}, stage.receive, stage.send)
        stage.expect_good_life()


async def check_49_two_loops(wrapper: Wrapper) -> None:
    """One wrapped application may run on two loops at the same time, independently."""
    one_ended, two_started = threading.Event(), threading.Event()
    stories: dict[str, list[str]] = {}

    class PerThread:
        async def __aenter__(self) -> None:
            stories[threading.current_thread().name].append("open")

        async def __aexit__(self, *exc_info: object) -> None:
            stories[threading.current_thread().name].append("closed")

    app = wrapper(polite([]), PerThread())

    def life(name: str, before_shutdown: threading.Event, started: threading.Event) -> None:
        threading.current_thread().name = name
        asyncio.run(_one_life(app, stories.setdefault(name, []), before_shutdown, started))

    ignored = threading.Event()
    two = asyncio.to_thread(life, "two", one_ended, two_started)
    running = asyncio.ensure_future(two)
    await asyncio.to_thread(two_started.wait, 2)
    await asyncio.to_thread(life, "one", two_started, ignored)
    expect(stories["two"][-1], "lifespan.startup.complete", "the other life")
    one_ended.set()
    await running
    for name in ("one", "two"):
        expect(stories[name], list(GOOD_LIFE), f"the story of loop {name}")


async def _one_life(
    app: Any, story: list[str], before_shutdown: threading.Event, started: threading.Event
) -> None:
    asks = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Message:
        kind = asks.pop(0)
        if kind == "lifespan.shutdown":
            started.set()
            await asyncio.to_thread(before_shutdown.wait, 2)
        story.append(kind)
        return {"type": kind}

    async def send(message: Message) -> None:
        story.append(message["type"])

    await app({"type": "lifespan"}, receive, send)


async def check_50_twice_around(wrapper: Wrapper) -> None:
    """Two wrappers around each other open and close a shared lifetime in the right order."""
    stage, outer = LifespanHarness(), Resource([])
    outer.story = stage.story
    app = wrapper(wrapper(polite(stage.story), stage.resource), outer)
    await app({"type": "lifespan"}, stage.receive, stage.send)
    stage.expect_story(
        "lifespan.startup", "open", "open", "inner startup", "lifespan.startup.complete",
        "lifespan.shutdown", "inner shutdown", "closed", "closed", "lifespan.shutdown.complete",
    )  # fmt: skip


async def check_51_without_asyncio(wrapper: Wrapper) -> None:
    """On a loop of another library the startup fails with a reason, instead of being ignored."""
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        said.append(message)

    class NeedsAsyncio(Resource):
        async def __aenter__(self) -> None:
            asyncio.get_running_loop()

    def by_hand() -> None:
        # No asyncio loop runs in this thread, as under trio.
        stepping = wrapper(polite([]), NeedsAsyncio([]))(
            {"type": "lifespan"}, receive, send
        ).__await__()
        try:
            stepping.send(None)
        except BaseException as error:  # this check is not about the exception
            said.append({"type": "raised", "message": repr(error)})

    await asyncio.to_thread(by_hand)
    if not said or said[0]["type"] != "lifespan.startup.failed":
        raise ConformanceFailure(f"said {[message['type'] for message in said]}")
    if not said[0].get("message"):
        raise ConformanceFailure("startup.failed has no reason under the key 'message'")


async def check_54_attributes(wrapper: Wrapper) -> None:
    """Attributes of the application are found on the wrapper, with their current values."""

    class App:
        title = "before"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

        def method(self) -> str:
            return self.title

    inner = App()
    app: Any = wrapper(inner, Resource([]))
    inner.title = "after"
    expect(getattr(app, "title", None), "after", "the attribute")
    expect(app.method() if hasattr(app, "method") else None, "after", "the method's answer")


CHECKS = collect(
    check_44_detection,
    check_48_again,
    check_49_two_loops,
    check_50_twice_around,
    check_51_without_asyncio,
    check_54_attributes,
)
