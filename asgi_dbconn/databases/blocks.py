"""Blocks: ``async with models.transaction():``, entered again, or around async functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

from asgi_dbconn.databases.commit_callbacks import CommitCallbacks

__all__ = ["AsyncFunction", "Block", "Entry", "in_block"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V", covariant=True)


AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, T]]
_AnyBlock: TypeAlias = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]


def in_block(
    function: AsyncFunction[P, T], make_block: Callable[[], _AnyBlock]
) -> AsyncFunction[P, T]:
    """Return ``function``, whose every call runs inside a new block of ``make_block``.

    Raises TypeError for what is no async function.
    """
    _require_async_function(function)

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        block = make_block()
        if isinstance(block, AbstractContextManager):
            with block:
                return await function(*args, **kwargs)
        async with block:
            return await function(*args, **kwargs)

    return call


def _require_async_function(function: Any) -> None:
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        return
    name = getattr(function, "__qualname__", repr(function))
    if isasyncgenfunction(function):
        problem = "is an async generator, whose block would be open while others run"
    elif isgeneratorfunction(function):
        problem = "is a generator"
    else:
        problem = "is not `async def`, so the block would end before its queries are awaited"
    raise TypeError(
        f"A block decorates an async function, and {name} {problem}. "
        "Open the block inside of it with `async with`."
    )


class Entry(Protocol[V]):
    """One use of a block, from entering to leaving it."""

    @property
    def value(self) -> V:
        """The value of ``async with ... as``, once it is entered."""
        ...

    def enter(self) -> Coroutine[Any, Any, None]:
        """Enter the block. If it raises, nothing is held."""
        ...

    def leave(self, error: BaseException | None) -> Coroutine[Any, Any, None]:
        """Leave, because of ``error`` if there is one. Raises what prevents a clean end."""
        ...

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        """Return the callbacks for after a clean end, if that was a commit."""
        ...


class Block(AbstractAsyncContextManager[T], Generic[T]):
    """A block that may be entered again, by any task, each time anew.

    As a decorator it puts each call of an async function into a block of its own; it raises
    TypeError for anything else. What the block is about, its schema and its database, is looked up
    when it is entered.
    """

    __slots__ = ("_entries", "_make_entry")

    def __init__(self, make_entry: Callable[[], Entry[T]]) -> None:
        self._make_entry = make_entry
        self._entries: list[tuple[asyncio.Task[Any] | None, Entry[T]]] = []

    def new_entry(self) -> Entry[T]:
        """Return a new entry of the block, which belongs to the current context."""
        return self._make_entry()

    async def __aenter__(self) -> T:
        entry = self._make_entry()
        await entry.enter()
        self._entries.append((asyncio.current_task(), entry))
        return entry.value

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entry = self._take_entry()
        try:
            await entry.leave(error)
        except BaseException as failure:
            error = failure
            raise
        finally:
            callbacks = entry.callbacks_after_commit()
            if callbacks is not None:
                await callbacks.run(error)

    def __call__(self, function: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        return in_block(function, lambda: Block(self._make_entry))

    def _take_entry(self) -> Entry[T]:
        # The one that this task has entered last; a block may also be left by another task.
        task = asyncio.current_task()
        for position in range(len(self._entries) - 1, -1, -1):
            if self._entries[position][0] is task:
                return self._entries.pop(position)[1]
        return self._entries.pop()[1]
