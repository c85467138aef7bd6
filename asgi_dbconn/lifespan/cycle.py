"""One life of an application: connect, start, serve, shut down, disconnect, in this order.

Everything happens in the server's lifespan task: what is entered in a task must be left in it
(cancel scopes, context variables). All clean-up comes before the last message, because servers
cancel, or never run, what comes after it; and after a failure we raise, because a return hangs
test clients that wait for the reason.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import AbstractAsyncContextManager
from typing import Any

from asgi_dbconn.errors import (
    DBConnError,
    LifespanClosed,
    LifespanError,
    ShutdownFailed,
    StartupFailed,
)
from asgi_dbconn.lifespan.included_apps import IncludedApps
from asgi_dbconn.lifespan.protocol import Ending, LifespanProtocol, OnReceive, OnSend
from asgi_dbconn.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LifespanCycle"]

_log = logging.getLogger("asgi_dbconn")


class LifespanCycle:
    """All state of one lifespan call. Nothing is kept on the middleware, which many may share."""

    def __init__(
        self,
        app: ASGIApp | None,
        lifetime: AbstractAsyncContextManager[Any],
        included: IncludedApps,
        scope: Scope,
        receive: Receive,
        send: Send,
        shutdown_timeout: float | None,
    ) -> None:
        self._app = app
        self._lifetime = lifetime
        self._included = included
        self._scope = scope
        self._receive = receive
        self._send = send
        self._shutdown_timeout = shutdown_timeout
        self._protocol = LifespanProtocol()
        self._startup: Message = {}
        self._is_open = False
        self._server_error: BaseException | None = None
        self._close_error: Exception | None = None
        self._called_off_by: Exception | None = None
        self._last_words = ""
        self._task: asyncio.Task[Any] | None = None
        self._postponed: Message | None = None

    async def run(self) -> None:
        """Lead the conversation from the first message to the last."""
        self._startup = await self._receive()
        if self._startup["type"] == "lifespan.shutdown":
            await self._say({"type": "lifespan.shutdown.complete"})
            return
        try:
            await self._open()
            if self._app is None:
                await self._speak_ourselves()
            else:
                await self._forward(self._app)
        except GeneratorExit:
            raise  # the loop is gone, nothing can be awaited any more
        except BaseException:
            # Whatever comes out of here, cancellation included, comes out with everything closed.
            await self._close()
            raise

    async def _open(self) -> None:
        try:
            self._task = _own_task()
            await self._lifetime.__aenter__()
        except Exception as error:
            await self._say({"type": "lifespan.startup.failed", "message": _explain(error)})
            raise
        self._is_open = True

    async def _close(self) -> Exception | None:
        """Stop what is included and disconnect, once; return what went wrong."""
        await self._stop_included()
        if self._is_open:
            self._is_open = False
            try:
                async with asyncio.timeout(self._shutdown_timeout):
                    await self._lifetime.__aexit__(None, None, None)
            except Exception as error:
                _log.error("disconnecting failed: %s", error)
                self._close_error = error
        return self._close_error

    async def _stop_included(self) -> None:
        self._close_error = await self._included.stop() or self._close_error

    async def _say(self, message: Message) -> None:
        try:
            await self._send(message)
        except BaseException as error:
            # Hypercorn aborts the start by raising here; it must get its own error back.
            self._server_error = error
            raise

    # -- with an application that speaks

    async def _forward(self, app: ASGIApp) -> None:
        raised: Exception | None = None
        try:
            await app(self._scope, self._receive_for_inner, self._send_for_inner)
        except Exception as error:
            raised = error
        if self._server_error is not None:
            raise self._server_error
        if self._postponed is not None:
            await self._close_and_say(self._postponed)
        match self._protocol.inner_ended(raised=raised is not None):
            case Ending.FINISHED:
                self._finish(raised)
            case Ending.CALLED_OFF:
                await self._call_off()
            case Ending.REFUSED_TO_STOP:
                raise self._inners_own(raised) or ShutdownFailed(
                    self._is_server_told("did not stop")
                )
            case Ending.REFUSED_TO_START:
                raise self._inners_own(raised) or StartupFailed(
                    self._is_server_told("did not start")
                )
            case Ending.CRASHED_IN_STARTUP:
                await self._is_startup_crash(raised)
            case Ending.UNSUPPORTED:
                await self._speak_ourselves()
            case Ending.LEFT_EARLY:
                await self._serve_without_inner(raised)

    async def _start_included_then_say(self, complete: Message) -> None:
        try:
            await self._included.start()
        except Exception as error:
            self._called_off_by = error
            self._protocol.called_off = True
        else:
            await self._say(complete)

    async def _call_off(self) -> None:
        """Call off a startup: an included application failed; those before and inner are down."""
        error = self._called_off_by or StartupFailed("An included application did not start.")
        await self._close()
        await self._say({"type": "lifespan.startup.failed", "message": self._explain(error)})
        raise error

    def _finish(self, raised: Exception | None) -> None:
        if self._close_error is not None:
            raise self._close_error
        if error := self._inners_own(raised):
            raise error

    def _inners_own(self, raised: Exception | None) -> Exception | None:
        """Return what inner raised, unless that was our answer to its listening on."""
        return None if isinstance(raised, LifespanClosed) else raised

    def _is_server_told(self, what: str) -> str:
        return self._last_words or f"The application {what}, and said no reason."

    async def _is_startup_crash(self, raised: Exception | None) -> None:
        error = raised or StartupFailed("The application ended during its startup.")
        await self._close()
        await self._say({"type": "lifespan.startup.failed", "message": self._explain(error)})
        raise error

    async def _serve_without_inner(self, raised: Exception | None) -> None:
        if raised is not None and not self._protocol.shutdown_asked:
            _log.error(
                "the application's lifespan crashed while it was serving; the databases stay "
                "connected until the server shuts down",
                exc_info=raised,
            )
        await self._speak_ourselves(crash=raised)

    async def _receive_for_inner(self) -> Message:
        match self._protocol.inner_receives():
            case OnReceive.REPLAY_STARTUP:
                return self._startup
            case OnReceive.ASK_SERVER:
                message = await self._listen()
                if self._protocol.shutdown_asked:
                    await self._stop_included()  # they started after inner
                return message
            case OnReceive.CALL_OFF:
                return {"type": "lifespan.shutdown"}
            case OnReceive.REFUSE:
                raise LifespanClosed(
                    "This lifespan is over; there is no message to wait for. "
                    "Return after startup.failed, shutdown.complete or shutdown.failed."
                )

    async def _send_for_inner(self, message: Message) -> None:
        kind = message["type"]
        match self._protocol.inner_sends(kind):
            case OnSend.FORWARD:
                await self._say(message)
            case OnSend.START_INCLUDED_THEN_FORWARD:
                await self._start_included_then_say(message)
            case OnSend.NOTE:
                pass
            case OnSend.CLOSE_THEN_FORWARD:
                self._last_words = message.get("message", "")
                if asyncio.current_task() is self._task:
                    await self._close_and_say(message)
                else:
                    # What was opened in a task has to be closed in it; ours waits for inner.
                    self._postponed = message
            case OnSend.REFUSE_FOREIGN:
                raise LifespanError(
                    f"{kind!r} does not belong into a lifespan that has not begun; "
                    "receive lifespan.startup first."
                )
            case OnSend.REFUSE_REPEATED:
                raise LifespanError(f"{kind!r} was sent before, or after the end; it is said once.")

    # -- in place of an application that does not

    async def _speak_ourselves(self, crash: Exception | None = None) -> None:
        if not self._protocol.started:
            self._protocol.started = True
            await self._start_included_then_say({"type": "lifespan.startup.complete"})
            if self._protocol.called_off:
                await self._call_off()
        while not self._protocol.shutdown_asked:
            await self._listen()
        error = await self._close() or crash
        self._protocol.done = True
        if error is not None:
            await self._say({"type": "lifespan.shutdown.failed", "message": self._explain(error)})
            raise error
        await self._say({"type": "lifespan.shutdown.complete"})

    async def _close_and_say(self, message: Message) -> None:
        error = await self._close()
        await self._say(message if error is None else self._worse(message, error))

    async def _listen(self) -> Message:
        message = await self._receive()
        self._protocol.server_said(message["type"])
        return message

    # -- words

    def _worse(self, message: Message, error: Exception) -> Message:
        """Return inner's last message, and that closing failed on top of it."""
        kind = message["type"]
        if kind == "lifespan.shutdown.complete":
            return {"type": "lifespan.shutdown.failed", "message": _explain(error)}
        told = message.get("message", "")
        return {"type": kind, "message": f"{told}\nThen disconnecting failed: {_explain(error)}"}

    def _explain(self, error: Exception) -> str:
        text = _explain(error)
        if self._close_error is not None and self._close_error is not error:
            text += f"\nThen disconnecting failed: {_explain(self._close_error)}"
        return text


def _explain(error: Exception) -> str:
    """Return a sentence to act on; the way there only where the sentence is not ours."""
    if isinstance(error, DBConnError):
        return str(error)
    if isinstance(error, ExceptionGroup) and all(
        isinstance(exception, DBConnError) for exception in error.exceptions
    ):
        return str(error.message)  # a group of ours, which tells each reason itself
    sentence = "".join(traceback.format_exception_only(error)).strip()
    return f"{sentence}\n\n{''.join(traceback.format_exception(error))}"


def _own_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        raise LifespanError(
            "There is no asyncio event loop here: asgi_dbconn's databases need one, and cannot "
            "run on trio. Run the server, or the test client, with its asyncio backend."
        ) from None
