"""What the applications of all frameworks are made from, and what a framework has to show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from asgi_dbconn import ShutdownFailed, StartupFailed

Hook = Callable[[], Awaitable[Any]]


async def nothing() -> None:
    """Startup or shutdown code of an application that has none."""


@dataclass(frozen=True)
class Parts:
    """The same for every framework: code for startup and shutdown, a state, and what to answer."""

    User: Any
    startup: Hook = nothing
    shutdown: Hook = nothing
    state: dict[str, str] | None = None
    """What the lifespan yields, for frameworks that hand it on to their requests."""

    async def names(self) -> list[str]:
        """The answer to /users."""
        return [user.name for user in await self.User.query.order_by("name")]

    def lifespan(self) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """A lifespan function; a plain one, because Lilya calls bound methods without the app."""

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            await self.startup()
            yield self.state
            await self.shutdown()

        return lifespan


class Framework:
    """Makes applications that serve /users, each framework in its own words."""

    name: ClassVar[str]
    has_lifespan = True
    raises: Literal["the error", "a group", "nothing"] = "the error"
    """What comes out of its lifespan call when its startup or shutdown code has failed."""
    yields_state = False
    """What its lifespan yields goes to the server, and from there to the requests."""
    keeps_server_state = True
    """Requests see what the server has in their state."""
    has_hooks = False
    middleware_sees_lifespan: bool | None = None
    """None: it takes no ASGI middleware of this form."""
    has_mounts = False
    attribute = "debug"
    """A plain attribute of its applications that can be set to True and False."""

    def app(self, parts: Parts) -> Any:
        """With the parts' startup and shutdown code in its lifespan, if it has one."""
        raise NotImplementedError

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        """With these functions, as they are, as startup and shutdown hooks."""
        raise NotImplementedError

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        """With LifespanMiddleware as its own middleware, by each form that it has."""
        raise NotImplementedError

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        """With the application ``mounted`` below /mounted."""
        raise NotImplementedError

    def made_of(self, failure: Exception, error: BaseException | None) -> bool:
        """Whether ``error`` is what it makes of a ``failure`` in startup or shutdown code."""
        match self.raises:
            case "the error":
                return error is failure
            case "a group":
                return isinstance(error, ExceptionGroup) and error.exceptions == (failure,)
            case "nothing":  # it reports, and we raise
                told = isinstance(error, StartupFailed | ShutdownFailed)
                return told and str(failure) in str(error)

    def __repr__(self) -> str:
        return self.name
