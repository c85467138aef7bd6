"""A transaction that is open on one event loop and used from another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from asgi_dbconn.databases.blocks import Entry
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks
from asgi_dbconn.databases.cross_loop_calls import CrossLoopCaller
from asgi_dbconn.databases.transactions import Transaction, scope_of
from asgi_dbconn.errors import LoopError
from asgi_dbconn.loops.tasks import retrieve_error, wait_entered

__all__ = ["CrossLoopTransaction"]

MakeEntry = Callable[[], Entry[Transaction]]


class CrossLoopTransaction:
    """An entry whose block is entered and left on its home loop, in one task there."""

    __slots__ = ("_cross_loop", "_holder", "value")

    def __init__(self, cross_loop: CrossLoopCaller, make_entry: MakeEntry) -> None:
        self._cross_loop = cross_loop
        self._holder = _Holder(make_entry)
        self.value: Transaction

    async def enter(self) -> None:
        """Enter it there. Raises what that raises, or LoopError if the loop cannot."""
        self.value = await self._cross_loop.call(self._holder.enter)
        scope_of(self.value).enter_context()

    async def leave(self, error: BaseException | None) -> None:
        """Leave it there. If that loop is gone, raise LoopError, or note it on ``error``."""
        scope = scope_of(self.value)
        try:
            # First, so that it ends there even if this task is cancelled.
            self._cross_loop.call_soon(partial(self._holder.end, error))
            await self._cross_loop.call(self._holder.wait)
        except LoopError as failure:
            if error is None:
                raise
            error.add_note(f"The block could not be rolled back: {failure}")
        finally:
            scope.leave_context()

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        """Return the callbacks of the outermost block; they are called on this loop."""
        scope = scope_of(self.value)
        return scope.callbacks if scope.outer is None else None


class _Holder:
    """The task that enters the block, waits, and leaves it, so that its scope belongs to the task.

    Not a ``ContextTask`` of ``loops``: that is for synchronous code, and
    leaves without an error; a block has to know the error that ended it.
    """

    def __init__(self, make_entry: MakeEntry) -> None:
        self._make_entry = make_entry
        self._ended: asyncio.Future[BaseException | None]
        self._task: asyncio.Task[None]

    async def enter(self) -> Transaction:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        entered: asyncio.Future[Transaction] = loop.create_future()
        self._task = asyncio.create_task(
            self._hold(entered), name="holding a transaction open for another loop"
        )
        return await wait_entered(self._task, entered)

    def end(self, error: BaseException | None) -> None:
        """Let the block end, because of ``error`` if there is one."""
        if not self._ended.done():
            self._ended.set_result(error)

    async def wait(self) -> None:
        """Wait until the block has ended. Raises what its end raises, as a failed commit."""
        # A cancelled caller stops waiting, and the block ends all the same.
        await asyncio.shield(self._task)

    async def _hold(self, entered: asyncio.Future[Transaction]) -> None:
        entry = self._make_entry()
        await entry.enter()
        self._task.add_done_callback(retrieve_error)  # the caller may wait no more
        try:
            entered.set_result(entry.value)
            error = await self._ended
        except BaseException as interruption:
            await entry.leave(interruption)
            raise
        await entry.leave(error)
