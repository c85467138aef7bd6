"""Many objects, a few at a time, on a connection that is given back in any case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import Result
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import ConfigurationError, TransactionClosed
from asgi_dbconn.orm.description import Description
from asgi_dbconn.orm.loading import session_for, whole_objects
from asgi_dbconn.orm.place import Origin, Place

__all__ = ["Stream"]

T = TypeVar("T")
R = TypeVar("R")


class Stream(Generic[T]):
    """``async with`` it, then ``async for``; once. For the task that has entered it."""

    def __init__(
        self,
        description: Description[T],
        place: Place,
        rows: int,
        built_at: CallSite | None,
    ) -> None:
        if type(rows) is not int or rows < 1:
            raise ConfigurationError(f"stream() takes a number of rows of 1 or more, not {rows!r}.")
        self._description = description
        self._place = place
        self._rows = rows
        self._built_at = built_at
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._batches: Any = None

    async def __aenter__(self) -> Self:
        # A scope of its own, or a part of the one that is open: each fetch takes its turn there.
        await self._stack.enter_async_context(self._place.database.connection())
        try:
            await self._run(self._begin)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._run(self._end)
        finally:
            await self._stack.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            batch: Sequence[T] = await self._run(self._fetch)
            if not batch:
                return
            for each in batch:
                yield each

    async def _run(self, work: Callable[[Connection, Any, Origin], R]) -> R:
        return await self._place.run(work, autocommit=False, built_at=self._built_at)

    def _begin(self, connection: Connection, options: Any, origin: Origin) -> None:
        statement = self._description.objects().options(*whole_objects(self._description.mapper))
        how: dict[str, Any] = {"yield_per": self._rows}
        if origin is not None:
            how["identity_token"] = origin
        self._session = session_for(connection, options)
        result: Result[T] = self._session.execute(statement, execution_options=how)
        self._batches = result.scalars().partitions()

    def _fetch(self, *_: Any) -> Sequence[T]:
        if self._session is None:
            raise TransactionClosed("The stream's block has ended. Read it inside `async with`.")
        batch: Sequence[T] = next(self._batches, ())
        self._session.expunge_all()
        return batch

    def _end(self, *_: Any) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
