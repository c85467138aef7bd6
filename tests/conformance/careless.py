"""Wrappers with one carelessness each, and the checks that must find it out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from asgi_dbconn import LifespanMiddleware
from asgi_dbconn.testing.conformance import Wrapper
from asgi_dbconn.types import ASGIApp, Lifetime, Message, Receive, Scope, Send

# -- what people write at first, in the order in which they learn


def ignores_the_lifetime(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
    wrapped: ASGIApp = app
    return wrapped


def surrounds_the_call(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
    """The textbook: `async with` around the application, which has said goodbye inside it."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        async with lifetime:
            await app(scope, receive, send)

    return wrapped


def acts_on_what_is_received(
    app: Any, lifetime: Any, /, *, handle_lifespan: bool = False
) -> ASGIApp:
    """Connects and disconnects where the server's messages pass, as the incumbents do."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await lifetime.__aenter__()
            else:
                await lifetime.__aexit__(None, None, None)
            return message

        await app(scope, listen, send)

    return wrapped


# -- our own wrapper, made worse in one point

Call = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]


def _around_the_call(call: Call) -> Wrapper:
    """A wrapper which is ours, but is called by ``call``."""

    def wrapper(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
        careful = LifespanMiddleware(app, lifetime, handle_lifespan=handle_lifespan)

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            await call(careful, scope, receive, send)

        return wrapped

    return wrapper


def _around_the_lifetime(change: Callable[[Any], Lifetime]) -> Wrapper:
    """A wrapper which is ours, but is handed a lifetime that ``change`` has made."""

    def wrapper(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
        return LifespanMiddleware(app, change(lifetime), handle_lifespan=handle_lifespan)

    return wrapper


@_around_the_call
async def returns_after_a_failure(
    careful: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    with contextlib.suppress(Exception):
        await careful(scope, receive, send)


@_around_the_call
async def raises_errors_of_its_own(
    careful: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    try:
        await careful(scope, receive, send)
    except Exception as error:
        raise RuntimeError("the lifespan failed") from error


@_around_the_call
async def swallows_whatever_comes(
    careful: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    with contextlib.suppress(BaseException):
        await careful(scope, receive, send)


@_around_the_call
async def asks_ahead(careful: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    asked = [await receive(), await receive()]

    async def replay() -> Message:
        return asked.pop(0)

    await careful(scope, replay, send)


@_around_the_call
async def needs_a_full_scope(careful: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["asgi"]["version"].startswith("3"):
        await careful(scope, receive, send)


@_around_the_call
async def copies_the_state(careful: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if "state" in scope:
        scope = {**scope, "state": dict(scope["state"])}
    await careful(scope, receive, send)


@_around_the_call
async def says_the_last_word_twice(
    careful: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    async def repeat(message: Message) -> None:
        await send(message)
        if message["type"].startswith("lifespan.shutdown"):
            await send(message)

    await careful(scope, receive, repeat)


@_around_the_call
async def keeps_the_reason_to_itself(
    careful: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    async def mute(message: Message) -> None:
        await send({"type": message["type"], "msg": message.get("message")})

    await careful(scope, receive, mute)


def calls_in_a_frame_of_its_own(
    app: Any, lifetime: Any, /, *, handle_lifespan: bool = False
) -> ASGIApp:
    """Asks for the attributes once, too."""
    careful = LifespanMiddleware(app, lifetime, handle_lifespan=handle_lifespan)

    @functools.wraps(app)
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await careful(scope, receive, send)

    return wrapped


class HidesThatItIsASGI3:
    """A plain `def __call__`, by which servers take it for ASGI 2 or WSGI."""

    def __init__(self, app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> None:
        self._careful = LifespanMiddleware(app, lifetime, handle_lifespan=handle_lifespan)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._careful(scope, receive, send)


class _Changed:
    """A lifetime that does what the one inside does."""

    def __init__(self, lifetime: Any) -> None:
        self.lifetime = lifetime

    async def __aenter__(self) -> None:
        await self.lifetime.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.lifetime.__aexit__(None, None, None)


class _InTasks(_Changed):
    async def __aenter__(self) -> None:
        await asyncio.create_task(self.lifetime.__aenter__())

    async def __aexit__(self, *exc_info: Any) -> None:
        await asyncio.create_task(self.lifetime.__aexit__(None, None, None))


class _Once(_Changed):
    is_open = False

    async def __aenter__(self) -> None:
        if not self.is_open:
            self.is_open = True
            await super().__aenter__()


class _Stubborn(_Changed):
    async def __aexit__(self, *exc_info: Any) -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await super().__aexit__(None, None, None)
                return


class _Silent(_Changed):
    async def __aexit__(self, *exc_info: Any) -> None:
        with contextlib.suppress(Exception):
            await super().__aexit__(None, None, None)


_inside: ContextVar[bool] = ContextVar("inside", default=False)


class _Outermost(_Changed):
    """Sees that it is inside another one, which does not have to be of the same databases."""

    async def __aenter__(self) -> None:
        self.token = None if _inside.get() else _inside.set(True)
        if self.token:
            await super().__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        if self.token:
            _inside.reset(self.token)
            await super().__aexit__(None, None, None)


@dataclass(frozen=True)
class Careless:
    """A wrapper, and the numbers of the checks that it fails for its carelessness."""

    name: str
    wrapper: Wrapper
    found_out_by: frozenset[int]


def _careless(name: str, wrapper: Wrapper, *numbers: int) -> Careless:
    return Careless(name, wrapper, frozenset(numbers))


CARELESS = (
    _careless("ignores the lifetime", ignores_the_lifetime, 1, 2, 8, 9, 14, 22, 23, 48, 51),
    _careless(
        "surrounds the call",
        surrounds_the_call,
        *(1, 2, 8, 12, 14, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 37, 51),
    ),
    _careless(
        "acts on what is received",
        acts_on_what_is_received,
        *(1, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 33, 35, 37, 50),
    ),
    _careless("returns after a failure", returns_after_a_failure, 8, 9, 12, 14, 18, 19, 29, 36),
    _careless("raises errors of its own", raises_errors_of_its_own, 8, 9, 12, 17, 21, 27, 28, 36),
    _careless("swallows whatever comes", swallows_whatever_comes, 13, 33, 34, 35),
    _careless("asks ahead", asks_ahead, 4),
    _careless("needs a full scope", needs_a_full_scope, 5),
    _careless("copies the state", copies_the_state, 5, 6),
    _careless("says the last word twice", says_the_last_word_twice, 1, 4, 29, 31),
    _careless("keeps the reason to itself", keeps_the_reason_to_itself, 8, 9, 14, 20, 21, 51),
    _careless("calls in a frame of its own", calls_in_a_frame_of_its_own, 7, 54),
    _careless("hides that it is ASGI 3", HidesThatItIsASGI3, 44),
    _careless("connects in tasks of their own", _around_the_lifetime(_InTasks), 38),
    _careless("connects once and for all", _around_the_lifetime(_Once), 48, 49),
    _careless("disconnects at any price", _around_the_lifetime(_Stubborn), 34),
    _careless("keeps a failed disconnect quiet", _around_the_lifetime(_Silent), 14, 20),
    _careless("thinks it knows what is inside", _around_the_lifetime(_Outermost), 50),
)
