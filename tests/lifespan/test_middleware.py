"""LifespanMiddleware: the order of things, and every way in which a life can end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_dbconn import (
    ConfigurationError,
    LifespanClosed,
    LifespanError,
    LifespanMiddleware,
    ShutdownFailed,
    StartupFailed,
)
from asgi_dbconn.types import Message

STARTUP = {"type": "lifespan.startup"}
SHUTDOWN = {"type": "lifespan.shutdown"}
COMPLETE = {"type": "lifespan.startup.complete"}
BYE = {"type": "lifespan.shutdown.complete"}

Inner = Callable[[Any, Any, Any], Awaitable[None]]


class Resource:
    """Something that is open or not, and writes into the story when that changes."""

    def __init__(self, story: list[Any]) -> None:
        self.story = story
        self.fails_to_open: BaseException | None = None
        self.fails_to_close: BaseException | None = None

    async def __aenter__(self) -> None:
        if self.fails_to_open:
            raise self.fails_to_open
        self.story.append("open")

    async def __aexit__(self, *exc_info: object) -> None:
        self.story.append("closed")
        if self.fails_to_close:
            raise self.fails_to_close


class Server:
    """The server's side of one lifespan; everything that happens goes into one story."""

    def __init__(self) -> None:
        self.story: list[Any] = []
        self.resource = Resource(self.story)
        self.messages = [STARTUP, SHUTDOWN]
        self.send_fails: BaseException | None = None
        self.waiting = asyncio.Event()

    async def receive(self) -> Message:
        if not self.messages:
            self.waiting.set()
            await asyncio.Event().wait()
        message = self.messages.pop(0)
        self.story.append(message["type"])
        return message

    async def send(self, message: Message) -> None:
        self.story.append(message["type"])
        self.said = message
        if self.send_fails:
            raise self.send_fails

    async def live(self, inner: Inner, **options: Any) -> None:
        app = LifespanMiddleware(inner, self.resource, **options)
        await app({"type": "lifespan"}, self.receive, self.send)


GOOD_STORY = [
    "lifespan.startup",
    "open",
    "lifespan.startup.complete",
    "lifespan.shutdown",
    "closed",
    "lifespan.shutdown.complete",
]


def polite(story: list[Any]) -> Inner:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        story.append("inner startup")
        await send(COMPLETE)
        assert (await receive())["type"] == "lifespan.shutdown"
        story.append("inner shutdown")
        await send(BYE)

    return app


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    return


async def answers_in_http(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


async def test_the_application_starts_and_stops_while_connected() -> None:
    server = Server()

    await server.live(polite(server.story))

    assert server.story == [
        "lifespan.startup",
        "open",
        "inner startup",
        "lifespan.startup.complete",
        "lifespan.shutdown",
        "inner shutdown",
        "closed",
        "lifespan.shutdown.complete",
    ]


@pytest.mark.parametrize("inner", [raises_at_once, returns_at_once, answers_in_http])
async def test_an_application_without_a_lifespan_is_spoken_for(inner: Inner) -> None:
    server = Server()

    await server.live(inner)

    assert server.story == GOOD_STORY


async def test_with_handle_lifespan_the_application_never_sees_one() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("called")

    await server.live(inner, handle_lifespan=True)

    assert server.story == GOOD_STORY


@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_what_cannot_open_is_reported_and_the_application_not_started(
    handle_lifespan: bool,
) -> None:
    server = Server()
    failure = server.resource.fails_to_open = OSError("nobody answers")

    with pytest.raises(OSError, match="nobody answers") as caught:
        await server.live(polite(server.story), handle_lifespan=handle_lifespan)

    assert caught.value is failure
    assert server.story == ["lifespan.startup", "lifespan.startup.failed"]
    assert server.said["message"].startswith("OSError: nobody answers")


async def test_a_server_that_aborts_by_raising_gets_its_own_error_back() -> None:
    class Abort(Exception):
        pass

    server = Server()
    server.resource.fails_to_open = OSError()
    abort = server.send_fails = Abort()

    with pytest.raises(Abort) as caught:
        await server.live(polite(server.story))

    assert caught.value is abort
    assert server.story == ["lifespan.startup", "lifespan.startup.failed"]


async def test_a_failed_inner_startup_closes_before_it_is_reported() -> None:
    server = Server()
    told = {"type": "lifespan.startup.failed", "message": "no template folder"}

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(told)
        raise KeyError("templates")

    with pytest.raises(KeyError):
        await server.live(inner)

    assert server.story == ["lifespan.startup", "open", "closed", "lifespan.startup.failed"]
    assert server.said is told


async def test_a_failed_inner_startup_that_returns_is_raised_all_the_same() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    with pytest.raises(StartupFailed):
        await server.live(inner)


@pytest.mark.parametrize("raises", [True, False])
async def test_a_failed_inner_shutdown_is_raised_too(raises: bool) -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the queue is full"})
        if raises:
            raise KeyError("queue")

    with pytest.raises(KeyError if raises else ShutdownFailed):
        await server.live(inner)

    assert server.story == [*GOOD_STORY[:-1], "lifespan.shutdown.failed"]
    assert server.said["message"] == "the queue is full"


async def test_an_application_that_listens_after_the_end_is_stopped() -> None:
    server = Server()
    heard: list[BaseException] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        while True:
            try:
                message = await receive()
            except LifespanClosed as closed:
                heard.append(closed)
                raise
            await send(COMPLETE if message["type"] == "lifespan.startup" else BYE)

    await server.live(inner)

    assert server.story == GOOD_STORY
    assert len(heard) == 1


async def test_a_crash_in_startup_is_reported_for_the_application() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("templates")

    with pytest.raises(KeyError):
        await server.live(inner)

    assert server.story == ["lifespan.startup", "open", "closed", "lifespan.startup.failed"]
    assert "KeyError: 'templates'" in server.said["message"]


async def test_a_crash_in_mid_life_leaves_the_databases_to_the_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    server.messages = [STARTUP]

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        raise KeyError("background job")

    with caplog.at_level(logging.ERROR, "asgi_dbconn"):
        life = asyncio.create_task(server.live(inner))
        await server.waiting.wait()

    assert "crashed while it was serving" in caplog.text
    assert "background job" in caplog.text
    assert server.story == ["lifespan.startup", "open", "lifespan.startup.complete"]
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life
    assert server.story[-1] == "closed"


async def test_a_crash_in_mid_life_is_reported_at_shutdown() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        raise KeyError("background job")

    with pytest.raises(KeyError):
        await server.live(inner)

    assert server.story == [*GOOD_STORY[:-1], "lifespan.shutdown.failed"]


@pytest.mark.parametrize("waits", [True, False])
async def test_an_application_that_leaves_quietly_is_spoken_for(waits: bool) -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        if waits:
            await receive()

    await server.live(inner)

    assert server.story == GOOD_STORY


async def test_a_crash_in_shutdown_is_reported_after_closing() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise KeyError("flush")

    with pytest.raises(KeyError):
        await server.live(inner)

    assert server.story == [*GOOD_STORY[:-1], "lifespan.shutdown.failed"]


async def test_what_cannot_close_turns_the_goodbye_into_a_failure() -> None:
    for handle_lifespan in (True, False):
        server = Server()
        server.resource.fails_to_close = OSError("socket is gone")

        with pytest.raises(OSError, match="socket is gone"):
            await server.live(polite([]), handle_lifespan=handle_lifespan)

        assert server.story == [*GOOD_STORY[:-1], "lifespan.shutdown.failed"]
        assert "socket is gone" in server.said["message"]


async def test_a_failed_start_and_a_failed_close_are_told_together() -> None:
    server = Server()
    server.resource.fails_to_close = OSError("socket is gone")

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no template folder"})
        raise KeyError

    with pytest.raises(KeyError):
        await server.live(inner)

    assert "no template folder" in server.said["message"]
    assert "socket is gone" in server.said["message"]


async def test_a_close_that_hangs_is_bounded() -> None:
    server = Server()

    class Stuck(Resource):
        async def __aexit__(self, *exc_info: object) -> None:
            await asyncio.Event().wait()

    server.resource = Stuck(server.story)
    with pytest.raises(TimeoutError):
        await server.live(polite([]), shutdown_timeout=0.05)

    assert server.story[-1] == "lifespan.shutdown.failed"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_process_closes_and_passes_on(kind: type[BaseException]) -> None:
    server = Server()
    end = kind()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        raise end

    try:
        # Driven by hand: a task would carry such an exception into the event loop.
        server.live(inner).__await__().send(None)
    except kind as caught:
        assert caught is end
    else:
        pytest.fail("it was swallowed")
    assert server.story[-1] == "closed"


async def test_repeated_words_are_refused_and_the_server_hears_them_once() -> None:
    server = Server()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        with pytest.raises(LifespanError):
            await send(COMPLETE)
        await receive()
        await send(BYE)
        with pytest.raises(LifespanError):
            await send(BYE)

    await server.live(inner)

    assert server.story == GOOD_STORY


async def test_each_life_has_a_state_of_its_own() -> None:
    server = Server()
    app = LifespanMiddleware(polite([]), server.resource)
    for _ in range(3):
        server.messages = [STARTUP, SHUTDOWN]
        await app({"type": "lifespan"}, server.receive, server.send)

    assert server.story == GOOD_STORY * 3


async def test_a_function_may_make_the_lifetime() -> None:
    server = Server()
    app = LifespanMiddleware(polite([]), lambda: server.resource)

    await app({"type": "lifespan"}, server.receive, server.send)

    assert server.story == GOOD_STORY


async def test_requests_reach_the_application_untouched() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send])

    app = LifespanMiddleware(inner, Server().resource, without_lifespan="ignore")
    scope, receive, send = {"type": "http"}, Server().receive, Server().send
    awaitable = app(scope=scope, receive=receive, send=send)

    assert inspect.iscoroutine(awaitable)
    assert awaitable.cr_code is inner.__code__
    await awaitable
    assert seen == [scope, receive, send]


async def test_servers_see_an_asgi_3_application() -> None:
    from asgiref.compatibility import is_double_callable
    from starlette._utils import is_async_callable

    app = LifespanMiddleware(polite([]), Server().resource)

    assert inspect.iscoroutinefunction(app.__call__)  # how uvicorn and hypercorn ask
    assert is_async_callable(app)
    assert not is_double_callable(app)  # type: ignore[no-untyped-call]
    server = Server()
    await LifespanMiddleware(polite([]), server.resource).__call__(
        {"type": "lifespan"}, server.receive, server.send
    )
    assert server.story == GOOD_STORY


def test_attributes_of_the_application_are_live() -> None:
    class App:
        title = "before"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    inner = App()
    wrapped = LifespanMiddleware(inner, lambda: Resource([]))
    inner.title = "after"

    assert wrapped.title == "after"
    with pytest.raises(AttributeError, match="nothing"):
        _ = wrapped.nothing


@pytest.mark.parametrize("app", [1, "x", None])
def test_what_is_no_application_is_refused(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="wraps ASGI applications"):
        LifespanMiddleware(app, lambda: Resource([]))


def test_what_is_no_lifetime_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="async context manager"):
        LifespanMiddleware(polite([]), 5)  # type: ignore[arg-type]
