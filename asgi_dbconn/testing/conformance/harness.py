"""A server for one lifespan that records everything that happens, in one story."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from asgi_dbconn.testing.conformance.check import ConformanceFailure, Wrapper, expect
from asgi_dbconn.types import Message

__all__ = [
    "BYE",
    "COMPLETE",
    "GOOD_LIFE",
    "SHUTDOWN",
    "STARTUP",
    "Inner",
    "LifespanHarness",
    "Resource",
    "polite",
]

STARTUP: Final = "lifespan.startup"
SHUTDOWN: Final = "lifespan.shutdown"
COMPLETE: Final = {"type": "lifespan.startup.complete"}
BYE: Final = {"type": "lifespan.shutdown.complete"}
GOOD_LIFE: Final = (
    STARTUP, "open", "lifespan.startup.complete",
    SHUTDOWN, "closed", "lifespan.shutdown.complete",
)  # fmt: skip

Inner = Callable[[Any, Any, Any], Awaitable[None]]


class Resource:
    """A lifetime that records when and in which task it opens and closes, and fails on demand."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.fails_to_open: BaseException | None = None
        self.fails_to_close: BaseException | None = None
        self.hangs_in_opening = False
        self.hangs_in_closing = False
        self.tasks: list[weakref.ref[asyncio.Task[Any]] | None] = []
        """The tasks in which it was opened and closed; weak, so that it keeps none alive."""

    @property
    def is_open(self) -> bool:
        return self.story.count("open") > self.story.count("closed")

    async def __aenter__(self) -> None:
        if self.hangs_in_opening:
            await asyncio.Event().wait()
        if self.fails_to_open is not None:
            raise self.fails_to_open
        self._record_task()
        self.story.append("open")

    async def __aexit__(self, *exc_info: object) -> None:
        self._record_task()
        self.story.append("closed")
        if self.hangs_in_closing:
            await asyncio.Event().wait()
        if self.fails_to_close is not None:
            raise self.fails_to_close

    def _record_task(self) -> None:
        task = asyncio.current_task()
        self.tasks.append(None if task is None else weakref.ref(task))


class LifespanHarness:
    """The server's ``receive`` and ``send``, the resource, and the story of one lifespan."""

    def __init__(self, *, asks: Sequence[str] = (STARTUP, SHUTDOWN)) -> None:
        self.story: list[str] = []
        self.resource = Resource(self.story)
        self.last_message: Message = {}
        self.refusals: list[Exception] = []
        """The errors that an application got for messages that it should not send."""
        self.send_fails: BaseException | None = None
        self.waiting = asyncio.Event()
        """An event set when the application waits for a message that the server has not sent."""
        self._asks = list(asks)
        self._more = asyncio.Event()

    async def receive(self) -> Message:
        while not self._asks:
            self.waiting.set()
            self._more.clear()
            await self._more.wait()
        kind = self._asks.pop(0)
        self.story.append(kind)
        return {"type": kind}

    async def send(self, message: Message) -> None:
        self.story.append(message["type"])
        self.last_message = message
        if self.send_fails is not None:
            raise self.send_fails

    def ask(self, kind: str) -> None:
        """Let the server send one more message."""
        self._asks.append(kind)
        self._more.set()

    async def live(
        self, wrapper: Wrapper, inner: Inner, *, handle_lifespan: bool = False, **scope: Any
    ) -> BaseException | None:
        """Run one lifespan of ``inner`` in ``wrapper``; return its error."""
        app = wrapper(inner, self.resource, handle_lifespan=handle_lifespan)
        try:
            await app({"type": "lifespan", **scope}, self.receive, self.send)
        except Exception as error:
            return error
        return None

    def expect_story(self, *story: str) -> None:
        """Raise ConformanceFailure unless exactly these events have happened, in this order."""
        expect(self.story, list(story), "the story")

    def expect_good_life(self, last_message: str = "lifespan.shutdown.complete") -> None:
        """Raise ConformanceFailure unless the resource was open from startup to shutdown.

        It has to be open before the startup is reported to the server. It has to be closed after
        the server asks for the shutdown, and before that is reported. Other messages are for other
        checks.
        """
        order = ["open", "lifespan.startup.complete", SHUTDOWN, "closed", last_message]
        places = [self.story.index(event) if event in self.story else -1 for event in order]
        if -1 in places or places != sorted(places):
            raise ConformanceFailure(f"the story: {self.story!r}")

    def expect_still_open(self, life: asyncio.Future[Any]) -> None:
        """Raise ConformanceFailure unless the databases are still connected."""
        if not self.resource.is_open:
            raise ConformanceFailure(f"closed while the server serves: {self.story!r}")
        if life.done():
            raise ConformanceFailure(f"left while the server serves: {self.story!r}")

    def expect_message(self, *parts: str) -> None:
        """Raise ConformanceFailure unless the text of the last message has all ``parts``."""
        told = self.last_message.get("message")
        for part in parts:
            if part not in str(told):
                raise ConformanceFailure(f"the key 'message' is {told!r} and lacks {part!r}")


def polite(story: list[str]) -> Inner:
    """Return an application that follows the protocol, and records its events in ``story``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        story.append("inner startup")
        await send(COMPLETE)
        await receive()
        story.append("inner shutdown")
        await send(BYE)

    return app
