"""The server's side of a lifespan: start an application and stop it, with a time limit for both.

A middleware runs included applications with it, and tests run whole applications. It is stricter
than servers are: an application that fails to start raises its own error here, where a server
would silently go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any, Final

from asgi_dbconn.errors import ShutdownFailed, StartupFailed
from asgi_dbconn.types import ASGIApp, Message

__all__ = ["LifespanDriver"]

_log = logging.getLogger("asgi_dbconn")

_END_TIMEOUT: Final = 5.0
"""Seconds that an application has to return after its last message, before it is cancelled."""


class LifespanDriver:
    """``async with LifespanDriver(app) as state``: ``app`` is started inside and stopped after.

    ``state`` is the lifespan state: the values that the application put there for its requests.
    Pass ``driver.app`` to ``httpx.ASGITransport``: it is the application with that state in each
    request, as servers do it. Everything runs on the loop that entered.

    Entering raises the application's own error if it fails to start, or StartupFailed if it only
    sends a failure. Leaving does the same with ShutdownFailed. Both raise TimeoutError after
    ``startup_timeout`` and ``shutdown_timeout`` seconds (None: never). An application without a
    lifespan is accepted, as servers do. A driver is for one lifespan; make another one for the
    next.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        startup_timeout: float | None = 30.0,
        shutdown_timeout: float | None = 30.0,
        scope: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            **(scope or {}),
            "state": self.state,
        }
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._took_startup = False

    async def __aenter__(self) -> dict[str, Any]:
        await self.startup()
        return self.state

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            await self.shutdown()
        except Exception as failure:
            if error is None:
                raise
            # The error of the block is the one that the user needs to see.
            error.add_note(f"Then shutting the application down failed: {failure!r}")

    async def app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Call the application with a copy of the lifespan state in the scope, as servers do."""
        await self._app({**scope, "state": dict(self.state)}, receive, send)

    async def startup(self) -> None:
        """Start the application, and return when it is ready."""
        self._task = asyncio.create_task(self._run_app(), name="application lifespan")
        self._to_app.put_nowait({"type": "lifespan.startup"})
        answer = await self._wait_answer("startup", self._startup_timeout)
        if answer is None:
            # It ended without an answer. For servers that means "no lifespan"; but an application
            # that received the message and raised has one.
            if self._took_startup and (error := self._error()) is not None:
                raise error
        elif answer["type"] != "lifespan.startup.complete":
            await self._end()
            raise self._error() or StartupFailed(_reason(answer, "did not start"))
        else:
            self._task.add_done_callback(_log_early_end)

    async def shutdown(self) -> None:
        """Stop the application, and return when it has ended."""
        task = self._task
        if task is None:
            return
        task.remove_done_callback(_log_early_end)
        answer = None
        if not task.done():
            self._to_app.put_nowait({"type": "lifespan.shutdown"})
            answer = await self._wait_answer("shutdown", self._shutdown_timeout)
            await self._end()
        self._task = None
        error = _error_of(task)
        if error is not None and self._took_startup:
            raise error
        if answer is not None and answer["type"] != "lifespan.shutdown.complete":
            raise ShutdownFailed(_reason(answer, "did not stop"))

    async def _run_app(self) -> None:
        await self._app(self._scope, self._receive, self._from_app.put)

    async def _receive(self) -> Message:
        message = await self._to_app.get()
        self._took_startup = True
        return message

    async def _wait_answer(self, event: str, timeout: float | None) -> Message | None:
        """Return the application's answer to ``event``; None if it ends without one."""
        if self._task is None:
            return None
        listening = asyncio.create_task(self._from_app.get(), name=f"listening for {event}")
        try:
            await asyncio.wait(
                {listening, self._task}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self._end(cancel=True)
            raise
        finally:
            listening.cancel()
        if listening.done() and not listening.cancelled():
            return listening.result()
        if not self._from_app.empty():
            return self._from_app.get_nowait()
        if not self._task.done():
            await self._end(cancel=True)
            raise TimeoutError(f"the application did not answer to {event} within {timeout} s")
        return None

    async def _end(self, *, cancel: bool = False) -> None:
        """Wait for the application's call to return; cancel it if it does not."""
        if self._task is None:
            return
        if not cancel:
            await asyncio.wait({self._task}, timeout=_END_TIMEOUT)
        self._task.cancel()
        await asyncio.wait({self._task})

    def _error(self) -> BaseException | None:
        return None if self._task is None else _error_of(self._task)


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return None if not task.done() or task.cancelled() else task.exception()


def _reason(answer: Message, what: str) -> str:
    return str(answer.get("message") or f"The application {what}, and gave no reason.")


def _log_early_end(task: asyncio.Task[None]) -> None:
    error = _error_of(task)
    if error is not None:
        _log.error("an application's lifespan crashed while it was serving", exc_info=error)
