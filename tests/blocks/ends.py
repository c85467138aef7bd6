"""The ways in which a block ends while a task started inside it is at work, as a table."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import asyncpg
import pytest

from asgi_dbconn import TransactionClosed
from tests.blocks.children import Child, Pause
from tests.blocks.kinds import Handle, Kind
from tests.blocks.stage import Stage

__all__ = ["FAILING_ENDS", "LONGEST", "OWN_NAME", "BlockError", "Run", "end_by_return"]

OWN_NAME: Final = "own"
"""The name of what a block stores itself."""
_PATIENCE: Final = 4.0
"""Seconds after which a block or a child counts as one that never ends."""


LONGEST: Final = 2.0 + 0.8
"""Seconds that a failing end may take, and what a busy machine adds."""
_DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error, OSError)


class BlockError(Exception):
    """The error that a block ends with."""


class Run:
    """One block with one child: how long its end took, and how the child fared."""

    def __init__(self, stage: Stage, kind: Kind, child: Child | None) -> None:
        self.stage = stage
        self.kind = kind
        self.child = child
        self.task: asyncio.Task[object] | None = None
        """The child."""
        self.error: BaseException | None = None
        """The error that left the block."""
        self.seconds = 0.0
        """How long the end of the block took."""
        self.on_ending: Callable[[], Awaitable[object]] = _return
        """Awaited when the child's statement is under way, before the block ends."""
        self.pause = Pause()
        self._ending_at = 0.0

    async def through(self, end: Callable[[], Awaitable[None]]) -> None:
        """Run the block, and let ``end`` finish its body."""

        async def body(handle: Handle) -> None:
            await self._begin(handle)
            await self.on_ending()
            self._ending_at = time.perf_counter()
            await end()

        try:
            await self.kind.run(self.stage, body)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.seconds = time.perf_counter() - self._ending_at

    async def settle(self) -> None:
        """Let the child go on, and wait until it has ended."""
        self.pause.is_over.set()
        if self.task is not None:
            _, pending = await asyncio.wait({self.task}, timeout=_PATIENCE)
            assert not pending, "the child never ended"
            if not self.task.cancelled():
                self.task.exception()  # read; it is for the tests that ask for it

    @property
    def child_error(self) -> BaseException | None:
        """The error of the child. A child that was cancelled is a failure of the test."""
        if self.task is None:
            return None
        assert not self.task.cancelled()
        assert self.task.cancelling() == 0
        return self.task.exception()

    def check_child(self) -> None:
        """Check that the child was told, by TransactionClosed, what became of its statement."""
        error = self.child_error
        if self.child is None:
            return
        if self.child.is_raw:
            if self.kind.is_isolated and not self.child.can_be_interrupted(self.stage):
                return  # it was waited for, and nobody stands between it and its caller
            assert isinstance(error, (TransactionClosed, *_DRIVER_ERRORS)), repr(error)
            return
        assert type(error) is TransactionClosed, repr(error)
        causes = _causes(error)
        assert any(isinstance(cause, _DRIVER_ERRORS) for cause in causes), causes

    async def _begin(self, handle: Handle) -> None:
        stage = self.stage
        await stage.create(OWN_NAME)
        if self.child is not None:
            stage.watcher.hold()
            work = self.child.work(stage, handle, self.pause)
            self.task = asyncio.ensure_future(work)
            self.task.set_name(f"child of {self.kind.name}")
            await stage.until_held()


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return the causes of the error; SQLAlchemy's adapters have one of their own."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = getattr(error, "orig", None) or error.__cause__
    return found[1:]


async def end_by_return(run: Run) -> None:
    """Let the block end well. Raises what leaves it."""
    await _bound(run.through(_return))


async def _bound(block: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(block)
    try:
        await asyncio.wait({task}, timeout=_PATIENCE)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE)
    if not task.done():
        task.cancel()
        pytest.fail("the block never ended")
    await task


async def _return() -> None:
    """The end of a block that ends well."""


async def _by_error(run: Run) -> None:
    error = BlockError("the error of the block")

    async def fail() -> None:
        raise error

    with pytest.raises(BlockError) as caught:
        await _bound(run.through(fail))
    assert caught.value is error


async def _by_timeout(run: Run) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(None) as limit:

            async def wait() -> None:
                limit.reschedule(asyncio.get_running_loop().time())
                await asyncio.Event().wait()

            await run.through(wait)
    assert type(caught.value) is TimeoutError
    assert isinstance(run.error, asyncio.CancelledError)


async def _by_cancel(run: Run) -> None:
    await _cancel(run, again=lambda _: 0)


async def _by_second_cancel(run: Run) -> None:
    await _cancel(run, again=lambda turn: turn == 1)


async def _by_endless_cancels(run: Run) -> None:
    # The scopes of anyio send one in every turn of the loop until the task has ended.
    await _cancel(run, again=lambda _: True)


async def _cancel(run: Run, again: Callable[[int], object]) -> None:
    is_waiting = asyncio.Event()

    async def wait() -> None:
        is_waiting.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(run.through(wait))
    waiting = asyncio.ensure_future(is_waiting.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    turn = 0
    deadline = time.perf_counter() + _PATIENCE
    while not task.done() and time.perf_counter() < deadline:
        await asyncio.sleep(0)
        turn += 1
        if again(turn):
            task.cancel()
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert task.done(), "the block never ended"
    assert task.cancelled(), f"it ended with {task.exception()!r}"


async def _by_sibling(run: Run) -> None:
    # A task group cancels the block because another of its tasks has failed.
    is_waiting = asyncio.Event()

    async def wait() -> None:
        is_waiting.set()
        await asyncio.Event().wait()

    async def fail() -> None:
        await is_waiting.wait()
        raise BlockError("the error of the sibling")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.through(wait))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [BlockError]
    assert isinstance(run.error, asyncio.CancelledError)


FAILING_ENDS: Final[dict[str, Callable[[Run], Awaitable[None]]]] = {
    "error": _by_error,
    "timeout": _by_timeout,
    "cancel": _by_cancel,
    "second cancel": _by_second_cancel,
    "endless cancels": _by_endless_cancels,
    "sibling": _by_sibling,
}
