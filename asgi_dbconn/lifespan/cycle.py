"""One lifespan of an application: connect, start, serve, shut down, disconnect, in this order.

Everything happens in the server's lifespan task: a context that is entered in a task must be left
in it (cancel scopes, context variables). All clean-up comes before the last message, because
servers cancel the code after it, or never run it. After a failure we raise: a return would hang
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
    """All state of one lifespan call. The middleware holds none of it: lifespans may share one."""

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
        self._included_error: Exception | None = None
        self._inner_reason = ""
        self._task: asyncio.Task[Any] | None = None
        self._postponed_message: Message | None = None

    async def run(self) -> None:
        """Handle the lifespan from the first message to the last."""
        self._startup = await self._receive()
        if self._startup["type"] == "lifespan.shutdown":
            await self._send_to_server({"type": "lifespan.shutdown.complete"})
            return
        try:
            await self._open()
            if self._app is None:
                await self._synthesise_events()
            else:
                await self._forward(self._app)
        except GeneratorExit:
            raise  # the loop is closed, nothing can be awaited any more
        except BaseException:
            # Every error leaves here, cancellation included, with everything closed.
            await self._close()
            raise

    async def _open(self) -> None:
        try:
            self._task = _own_task()
            await self._lifetime.__aenter__()
        except Exception as error:
            await self._send_to_server(
                {"type": "lifespan.startup.failed", "message": _explain(error)}
            )
            raise
        self._is_open = True

    async def _close(self) -> Exception | None:
        """Stop the included applications and disconnect, once; return the error, if any."""
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

    async def _send_to_server(self, message: Message) -> None:
        try:
            await self._send(message)
        except BaseException as error:
            # Hypercorn aborts the startup by raising here; it must get its own error back.
            self._server_error = error
            raise

    # -- with an application that has a lifespan

    async def _forward(self, app: ASGIApp) -> None:
        raised: Exception | None = None
        try:
            await app(self._scope, self._receive_for_inner, self._send_for_inner)
        except Exception as error:
            raised = error
        if self._server_error is not None:
            raise self._server_error
        if self._postponed_message is not None:
            await self._close_then_send(self._postponed_message)
        match self._protocol.on_inner_end(raised=raised is not None):
            case Ending.FINISHED:
                self._finish(raised)
            case Ending.CALLED_OFF:
                await self._call_off()
            case Ending.REFUSED_TO_STOP:
                raise self._error_of_inner(raised) or ShutdownFailed(self._reason("did not stop"))
            case Ending.REFUSED_TO_START:
                raise self._error_of_inner(raised) or StartupFailed(self._reason("did not start"))
            case Ending.CRASHED_IN_STARTUP:
                await self._fail_startup(raised)
            case Ending.UNSUPPORTED:
                await self._synthesise_events()
            case Ending.LEFT_EARLY:
                await self._serve_without_inner(raised)

    async def _start_included_then_send(self, complete: Message) -> None:
        try:
            await self._included.start()
        except Exception as error:
            self._included_error = error
            self._protocol.called_off = True
        else:
            await self._send_to_server(complete)

    async def _call_off(self) -> None:
        """Report a failed startup: an included application failed; the others have stopped."""
        error = self._included_error or StartupFailed("An included application did not start.")
        await self._close()
        await self._send_to_server(
            {"type": "lifespan.startup.failed", "message": self._explain(error)}
        )
        raise error

    def _finish(self, raised: Exception | None) -> None:
        if self._close_error is not None:
            raise self._close_error
        if error := self._error_of_inner(raised):
            raise error

    def _error_of_inner(self, raised: Exception | None) -> Exception | None:
        """Return the error of inner, unless it is the LifespanClosed of its own ``receive``."""
        return None if isinstance(raised, LifespanClosed) else raised

    def _reason(self, what: str) -> str:
        return self._inner_reason or f"The application {what}, and gave no reason."

    async def _fail_startup(self, raised: Exception | None) -> None:
        error = raised or StartupFailed("The application ended during its startup.")
        await self._close()
        await self._send_to_server(
            {"type": "lifespan.startup.failed", "message": self._explain(error)}
        )
        raise error

    async def _serve_without_inner(self, raised: Exception | None) -> None:
        if raised is not None and not self._protocol.shutdown_requested:
            _log.error(
                "the application's lifespan crashed while it was serving; the databases stay "
                "connected until the server shuts down",
                exc_info=raised,
            )
        await self._synthesise_events(crash=raised)

    async def _receive_for_inner(self) -> Message:
        match self._protocol.on_inner_receive():
            case OnReceive.REPLAY_STARTUP:
                return self._startup
            case OnReceive.ASK_SERVER:
                message = await self._receive_from_server()
                if self._protocol.shutdown_requested:
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
        match self._protocol.on_inner_send(kind):
            case OnSend.FORWARD:
                await self._send_to_server(message)
            case OnSend.START_INCLUDED_THEN_FORWARD:
                await self._start_included_then_send(message)
            case OnSend.NOTE:
                pass
            case OnSend.CLOSE_THEN_FORWARD:
                self._inner_reason = message.get("message", "")
                if asyncio.current_task() is self._task:
                    await self._close_then_send(message)
                else:
                    # A context has to be left in the task that entered it; ours awaits inner.
                    self._postponed_message = message
            case OnSend.REFUSE_FOREIGN:
                raise LifespanError(
                    f"{kind!r} is not allowed in a lifespan that has not begun; "
                    "receive lifespan.startup first."
                )
            case OnSend.REFUSE_REPEATED:
                raise LifespanError(f"{kind!r} was sent a second time, or after the end.")

    # -- in place of an application that has none

    async def _synthesise_events(self, crash: Exception | None = None) -> None:
        if not self._protocol.started:
            self._protocol.started = True
            await self._start_included_then_send({"type": "lifespan.startup.complete"})
            if self._protocol.called_off:
                await self._call_off()
        while not self._protocol.shutdown_requested:
            await self._receive_from_server()
        error = await self._close() or crash
        self._protocol.done = True
        if error is not None:
            await self._send_to_server(
                {"type": "lifespan.shutdown.failed", "message": self._explain(error)}
            )
            raise error
        await self._send_to_server({"type": "lifespan.shutdown.complete"})

    async def _close_then_send(self, message: Message) -> None:
        error = await self._close()
        await self._send_to_server(
            message if error is None else self._add_close_error(message, error)
        )

    async def _receive_from_server(self) -> Message:
        message = await self._receive()
        self._protocol.on_server_message(message["type"])
        return message

    # -- messages

    def _add_close_error(self, message: Message, error: Exception) -> Message:
        """Return inner's last message, with the error of closing added."""
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
    """Return a sentence to act on; with the traceback if the error is not one of ours."""
    if isinstance(error, DBConnError):
        return str(error)
    if isinstance(error, ExceptionGroup) and all(
        isinstance(exception, DBConnError) for exception in error.exceptions
    ):
        return str(error.message)  # a group of ours; its message has every reason
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
