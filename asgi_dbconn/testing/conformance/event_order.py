"""Success: the order of the events, and the objects that pass through unchanged."""

from __future__ import annotations

from typing import Any

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, collect, expect
from asgi_dbconn.testing.conformance.harness import (
    BYE,
    COMPLETE,
    GOOD_LIFE,
    SHUTDOWN,
    STARTUP,
    LifespanHarness,
    polite,
)
from asgi_dbconn.types import Message

__all__ = ["CHECKS"]


async def check_1_order(wrapper: Wrapper) -> None:
    """The application's own startup and shutdown run while the databases are connected."""
    stage = LifespanHarness()
    error = await stage.live(wrapper, polite(stage.story))
    expect(error, None, "raised")
    stage.expect_story(
        STARTUP, "open", "inner startup", "lifespan.startup.complete",
        SHUTDOWN, "inner shutdown", "closed", "lifespan.shutdown.complete",
    )  # fmt: skip


async def check_2_synthesised(wrapper: Wrapper) -> None:
    """With handle_lifespan=True the application never sees a lifespan."""
    stage = LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        stage.story.append("called")

    error = await stage.live(wrapper, inner, handle_lifespan=True)
    expect(error, None, "raised")
    stage.expect_story(*GOOD_LIFE)


async def check_4_receives(wrapper: Wrapper) -> None:
    """The server's receive is called exactly twice, first of all and not earlier than needed."""
    stage = LifespanHarness()
    calls: list[str] = []

    async def receive() -> Message:
        calls.append("receive")
        return await stage.receive()

    async def send(message: Message) -> None:
        calls.append(message["type"])
        await stage.send(message)

    app = wrapper(polite(stage.story), stage.resource)
    await app({"type": "lifespan"}, receive, send)
    expect(
        calls,
        ["receive", "lifespan.startup.complete", "receive", "lifespan.shutdown.complete"],
        "the calls",
    )


async def check_5_scope(wrapper: Wrapper) -> None:
    """A scope without `asgi` and `state` works, and a state reaches the application unchanged."""
    scopes: tuple[dict[str, Any], ...] = ({}, {"asgi": {"version": "3.0"}, "state": {}})
    for scope in scopes:
        stage = LifespanHarness()
        seen: list[Any] = []

        async def inner(scope: Any, receive: Any, send: Any, seen: list[Any] = seen) -> None:
            seen.append(scope.get("state"))
            await polite([])(scope, receive, send)

        error = await stage.live(wrapper, inner, **scope)
        expect(error, None, "raised")
        if seen[0] is not scope.get("state"):
            raise ConformanceFailure("the application got another state than the server's")


async def check_6_state(wrapper: Wrapper) -> None:
    """The server sees the values that the application puts into the state."""
    stage, state = LifespanHarness(), dict[str, int]()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["answer"] = 42
        await polite([])(scope, receive, send)

    await stage.live(wrapper, inner, state=state)
    expect(state, {"answer": 42}, "the server's state")


async def check_7_requests(wrapper: Wrapper) -> None:
    """Requests reach the application with the same objects, through no frame of the wrapper."""
    stage = LifespanHarness()
    seen: list[Any] = []
    awaitables: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.extend([scope, receive, send])
            return
        await receive()
        await send(COMPLETE)
        awaitables.append(app(request, stage.receive, stage.send))
        await awaitables[0]
        await receive()
        await send(BYE)

    request = {"type": "http"}
    app = wrapper(inner, stage.resource)
    await app({"type": "lifespan"}, stage.receive, stage.send)
    if not seen or seen[0] is not request:
        raise ConformanceFailure("the application got another scope")
    expect(seen, [request, stage.receive, stage.send], "scope, receive and send")
    if getattr(awaitables[0], "cr_code", None) is not inner.__code__:
        raise ConformanceFailure("requests go through a coroutine of the wrapper's own")


CHECKS = collect(
    check_1_order,
    check_2_synthesised,
    check_4_receives,
    check_5_scope,
    check_6_state,
    check_7_requests,
)
