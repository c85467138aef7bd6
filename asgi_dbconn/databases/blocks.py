"""Blocks: ``async with models.transaction():``, again and again, and around async functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from asgi_dbconn.databases.block_decorator import AsyncFunction, in_block
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks

__all__ = ["Block", "Entry"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V", covariant=True)


class Entry(Protocol[V]):
    """One entering of a block."""

    @property
    def value(self) -> V:
        """The value of ``async with ... as``, once it is entered."""
        ...

    def enter(self) -> Coroutine[Any, Any, None]:
        """Enter. Raises what prevents it, and then holds nothing."""
        ...

    def leave(self, error: BaseException | None) -> Coroutine[Any, Any, None]:
        """Leave, because of ``error`` if there is one. Raises what prevents a clean end."""
        ...

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        """Return what is to be called after a clean end, if it was a commit."""
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
        """Return one entering of the block, which belongs to the current context."""
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
