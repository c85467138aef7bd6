"""The begin and the end of a scope: outermost ones with a connection of their own, and inner ones.

The end refuses new statements, waits for the one under way, and only then commits. It waits for a
statement, never for a block. An end by an error stops that statement on the server and rolls back,
within two seconds. If the server does not answer, the connection is discarded. The error that ended
the block is the one that leaves it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

from asgi_dbconn.databases.block_state import Ending
from asgi_dbconn.databases.checkout import Checkout
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks
from asgi_dbconn.databases.scopes import Scope, is_outside_scopes
from asgi_dbconn.errors import NestingError, TransactionAborted
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.loops.tasks import finish_despite_cancellation
from asgi_dbconn.pools.aborted_transactions import mark_aborted
from asgi_dbconn.pools.driver_errors import note_cleanup_failure
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT

__all__ = ["BlockScope", "InnerScope", "OutermostScope", "PoolSource"]

PoolSource = Callable[[], LoopPool | AbstractAsyncContextManager[LoopPool]]
"""A function that returns the pool for a block, or a context manager around the block that does."""


class BlockScope(Scope, ABC):
    """A scope with its begin and its end. Methods without ``async`` run in the greenlet."""

    __slots__ = ("ended_by", "rolls_back")

    def __init__(self, checkout: Checkout, outer: Scope | None = None) -> None:
        super().__init__(checkout, outer)
        self.rolls_back = False
        """True if a clean end rolls back."""
        self.ended_by: BaseException | None = None
        """The error that has ended the block."""

    async def leave(self, error: BaseException | None) -> None:
        """End the block, because of ``error`` if there is one.

        Raises what prevented a clean end. The only error that replaces ``error`` is CancelledError,
        if the task is cancelled meanwhile.
        """
        self.is_left = True
        ending = self.begin_to_end(is_clean=error is None)
        if ending is Ending.NOTHING:
            self.leave_context()
            await self._leave_pool()
            if error is None:
                raise self.make_closed_error()
            return
        self.ended_by = error
        if ending is not Ending.COMMIT:
            self.checkout.enders.clear()  # inner blocks that were about to end stop there
        self.checkout.enders.add(asyncio.current_task())
        scopes = cast("list[Scope]", self.chain())
        for scope in scopes:
            scope.lock.refuse_waiters(scope.make_closed_error)
        try:
            if ending is Ending.COMMIT:
                await self._end_cleanly()
            else:
                await self._end_with_error(error)
                if ending is Ending.REFUSE:
                    raise _inner_block_is_open(scopes)
        finally:
            self.leave_context()
            self.end()
            self.checkout.enders.discard(asyncio.current_task())
            self._release()
        await self._leave_pool()

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        """Return None: the callbacks of an inner block wait for the outermost one."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin the transaction or savepoint of the block."""

    @abstractmethod
    def _commit(self) -> None:
        """Commit the work of the block. Raises what prevents it."""

    @abstractmethod
    def _roll_back(self) -> None:
        """Roll back the work of the block. Raises what the driver raises."""

    @abstractmethod
    def _finish(self) -> None:
        """Release the connection, which may have been discarded before."""

    def _abandon(self) -> None:
        """Release the discarded connection, even while other tasks use it."""
        self._finish()

    @abstractmethod
    def _release(self) -> None:
        """Let sibling blocks go on."""

    async def _leave_pool(self) -> None:
        """Leave the context manager that the pool came from, if any."""

    async def _end_cleanly(self) -> None:
        try:
            if self.lock.holder is not None:
                await self.lock.wait_until_free()
            await spawn(self._keep)
        except BaseException as failure:
            await self._end_with_error(failure)
            raise

    def _keep(self) -> None:
        if self.close_cursor is not None:
            self.close_cursor()
        if self.rolls_back:
            self._roll_back()
        else:
            self.raise_if_aborted()
            self._commit()
        self._finish()

    @property
    def _may_end(self) -> bool:
        """True if this task still ends the block, and no outer block does it instead."""
        return asyncio.current_task() in self.checkout.enders

    async def _end_with_error(self, error: BaseException | None) -> None:
        checkout = self.checkout
        if not self._may_end:
            return
        cancelled: asyncio.CancelledError | None = None
        checkout.hurry()
        try:
            if checkout.is_isolated:
                # The one connection cannot be replaced. A second cancellation has to wait, too.
                _, cancelled = await finish_despite_cancellation(
                    self._clean_up(), checkout.add_ender
                )
            else:
                await self._clean_up()
        except BaseException as failure:
            if self._may_end:
                await self._abandon_connection(failure)
            if not isinstance(failure, Exception):
                raise  # cancelled again
            note_cleanup_failure(checkout.name, failure, error)
        else:
            checkout.calm()
        if cancelled is not None:
            raise cancelled

    async def _clean_up(self) -> None:
        async with asyncio.timeout(CANCEL_LIMIT):
            await self._stop_statements()
            await spawn(self._take_back)

    async def _abandon_connection(self, failure: BaseException) -> None:
        checkout = self.checkout
        if self.outer is not None and isinstance(failure, TransactionAborted):
            # The database has rolled back the outer blocks as well. The connection is usable.
            checkout.calm()
            mark_aborted(checkout.connection, "the database rolled the whole transaction back")
            return
        await checkout.discard()
        await spawn(self._abandon)

    async def _stop_statements(self) -> None:
        await self.checkout.stop()
        innermost = cast("Scope", self.chain()[-1])
        if innermost.lock.holder is not None:
            await innermost.lock.wait_until_free()

    def _take_back(self) -> None:
        for scope in reversed(self.chain()):
            cast("BlockScope", scope)._roll_back()
        self._finish()


class OutermostScope(BlockScope):
    """A block with a connection of its own, which the blocks inside it share."""

    __slots__ = ("_entered", "_source")

    def __init__(self, checkout: Checkout, source: PoolSource) -> None:
        super().__init__(checkout)
        self._source = source
        self._entered: AbstractAsyncContextManager[LoopPool] | None = None

    async def enter(self) -> None:
        """Acquire a connection and begin. If either raises, nothing is held."""
        source = self._source()
        if isinstance(source, LoopPool):
            await self._enter(source)
            return
        pool = await source.__aenter__()
        try:
            await self._enter(pool)
        except BaseException as error:
            await source.__aexit__(type(error), error, error.__traceback__)
            raise
        self._entered = source

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        """Return the callbacks of the block and of those inside it."""
        return self.callbacks

    async def _enter(self, pool: LoopPool) -> None:
        def acquire() -> None:
            self.checkout.acquire(pool, self.refuse, self.lock_to_take)
            try:
                self._begin()
            except BaseException:
                self.checkout.release()
                raise

        await spawn(acquire)
        self.open()
        self.enter_context()

    async def _leave_pool(self) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            await entered.__aexit__(None, None, None)

    def _take_back(self) -> None:
        self._roll_back()  # with all blocks inside
        self._finish()

    def _finish(self) -> None:
        self.checkout.release()

    def _release(self) -> None:
        """Do nothing: blocks beside it have connections of their own."""


class InnerScope(BlockScope):
    """A block on the connection of an outer one; the siblings wait until it has ended."""

    __slots__ = ("_outer_scope",)

    def __init__(self, outer: Scope) -> None:
        super().__init__(outer.checkout, outer)
        self._outer_scope = outer
        self.is_waited_for = outer.is_waited_for or is_outside_scopes(outer.database)
        self.transaction = outer.transaction

    async def enter(self) -> None:
        """Take the lock of the outer scope, and begin. Raises what either raises."""
        outer = self._outer_scope
        await outer.acquire()
        # From here on the end of an outer block sees this one, and waits for its statement.
        self.begin_to_open()
        self.lock.holder = self.owner
        try:
            await self._prepare()
            if not self.open():
                raise self.make_closed_error()
        except BaseException:
            self.cancel_opening()
            self.lock.release()
            outer.lock.release()
            raise
        self.lock.release()
        self.enter_context()

    async def _prepare(self) -> None:
        await spawn(self._prepare_and_begin)

    def _prepare_and_begin(self) -> None:
        self._outer_scope.prepare()
        self._begin()

    def _keep(self) -> None:
        super()._keep()
        self._outer_scope.callbacks.take_over(self.callbacks)

    def _finish(self) -> None:
        """Do nothing: the connection is the outer scope's."""

    def _release(self) -> None:
        self._outer_scope.lock.release()


def _inner_block_is_open(scopes: list[Scope]) -> NestingError:
    outer, inner = scopes[0], scopes[1]
    task = inner.owner
    if task is asyncio.current_task():
        what = "A block inside it is still open, and was entered after it by the same task"
        remedy = "Leave blocks in the reverse order of entering them"
    else:
        name = "another task" if task is None else f"task {task.get_name()!r}"
        what = f"A block inside it is still open in {name}"
        remedy = "Await that task inside the block, or start it with outside_scopes()"
    return NestingError(
        f"The block of database {outer.name!r} has ended, and nothing of it was committed. "
        f"{what}, so it may be half done. {remedy}."
    )
