"""The policy for requests that come without a lifespan: warn, connect, refuse or ignore.

Servers run with the lifespan off, or have none (daphne). Test clients send none. Frameworks do not
pass it on to middleware or mounted applications. Then the databases are not connected.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, get_args

from asgi_dbconn.errors import ConfigurationError, DatabaseNotConnectedWarning, LifespanError
from asgi_dbconn.loops.loop_lifetime import ShutdownHook
from asgi_dbconn.loops.tasks import retrieve_error

__all__ = ["MissingLifespanPolicy", "WithoutLifespan"]

_log = logging.getLogger("asgi_dbconn")

WithoutLifespan = Literal["warn", "connect", "error", "ignore"]

_WHY: Final = (
    "A request came without a lifespan, so nothing is connected. Likely causes: the server runs "
    "with its lifespan off or has none (daphne), a test client is used without its `with` block, "
    "or the middleware sits inside a framework that keeps the lifespan to itself (Esmerald, "
    "Litestar, mounted applications): wrap the outermost application with `models.asgi(app)` "
    f"there. Or choose without_lifespan='connect'. [{DatabaseNotConnectedWarning.code}]"
)


class MissingLifespanPolicy:
    """The policy of one middleware, and the loops on which a first request has connected."""

    def __init__(
        self, policy: WithoutLifespan, lifetime: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> None:
        if policy not in get_args(WithoutLifespan):
            raise ConfigurationError(
                f"without_lifespan is one of {', '.join(get_args(WithoutLifespan))}, "
                f"not {policy!r}."
            )
        self.policy = policy
        self._lifetime = lifetime
        self._starts: dict[asyncio.AbstractEventLoop, _Start] = {}
        self._lock = threading.Lock()
        self._warned = False

    @property
    def is_finished(self) -> bool:
        """True if no request needs to be checked any more."""
        return self.policy == "ignore" or self._warned

    async def handle_request(self, *, is_connected: bool) -> None:
        """Apply the policy to a request. Raises LifespanError if the policy is "error".

        A registry that is connected in another way needs neither a warning nor an error. With
        "connect" this loop acquires a reference of its own all the same: the other one may be
        released first.
        """
        match self.policy:
            case "connect":
                await self._connect_once()
            case "error" if not is_connected:
                raise LifespanError(_WHY)
            case "warn" if not is_connected and not self._warned:
                self._warned = True
                warnings.warn(_WHY, DatabaseNotConnectedWarning, stacklevel=2)
                if getattr(warnings.showwarning, "__module__", "").startswith("twisted."):
                    # Twisted redirects warnings into a log of its own, which daphne discards.
                    _log.warning(_WHY)

    async def _connect_once(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            for closed_loop in [known for known in self._starts if known.is_closed()]:
                del self._starts[closed_loop]
            start = self._starts.get(loop)
            if start is None:
                start = self._starts[loop] = _Start(self._lifetime(), self._forget)
        await start.wait_connected()

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._starts.pop(loop, None)


class _Start:
    """The connect that all first requests of a loop share, undone when that loop ends."""

    def __init__(
        self,
        lifetime: AbstractAsyncContextManager[Any],
        forget: Callable[[asyncio.AbstractEventLoop], None],
    ) -> None:
        self._lifetime = lifetime
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._hook: ShutdownHook | None = None
        self._connecting = asyncio.create_task(self._connect(), name="connecting at first request")
        self._connecting.add_done_callback(retrieve_error)

    async def wait_connected(self) -> None:
        # Shielded: the first request may be cancelled while others wait for the same connect.
        await asyncio.shield(self._connecting)

    async def _connect(self) -> None:
        try:
            await self._lifetime.__aenter__()
        except BaseException:
            self._forget(self._loop)  # the next request tries again
            raise
        self._hook = ShutdownHook(self._disconnect)

    async def _disconnect(self) -> None:
        self._forget(self._loop)
        await self._lifetime.__aexit__(None, None, None)
