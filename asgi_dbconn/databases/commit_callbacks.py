"""Commit callbacks: called after the commit of their transaction, dropped with its rollback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isawaitable

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.loops.job import discard
from asgi_dbconn.pools.pooled_connection import PooledConnection

__all__ = ["Callback", "CommitCallbacks"]

Callback = Callable[[], object]
"""A function called without arguments; an awaitable result is awaited."""


class CommitCallbacks:
    """The callbacks of one block, in the order in which they were given.

    Those of a savepoint go to the outer block when it is released, and are dropped when it is
    rolled back. The outermost block calls all of them after its commit.
    """

    def __init__(self) -> None:
        self._waiting: list[Callback] = []
        self._committed: list[Callback] = []
        self._follows: PooledConnection | None = None

    def add(self, callback: Callback) -> None:
        """Add a callback. Raises ConfigurationError if it cannot be called."""
        if not callable(callback):
            discard(callback)
            raise ConfigurationError(
                f"on_commit() takes a function to call after the commit, not {callback!r}. "
                "Give it the function itself, or `lambda: function(...)`."
            )
        self._waiting.append(callback)

    def take_over(self, inner: CommitCallbacks) -> None:
        """Take the callbacks of an inner block that has ended well."""
        if not inner._waiting:
            return
        if self._follows is not None:
            self._follows.after_commit = self._keep
            self._follows.after_rollback = self.forget
            self._follows = None
        self._waiting += inner._waiting

    def forget(self) -> None:
        """Drop the callbacks: their transaction has been rolled back."""
        self._waiting.clear()

    def follow(self, connection: PooledConnection) -> None:
        """Notice when the user of the block commits or rolls back ``connection`` by hand."""
        self._follows = connection

    async def run(self, error: BaseException | None) -> None:
        """Call them in order. After the first error, raise it and skip the rest.

        If ``error`` has ended the block, call those whose transaction was committed by hand before,
        and add their errors to it as notes.
        """
        callbacks = self._committed + self._waiting if error is None else self._committed
        if callbacks:
            await _call(callbacks, error)

    def _keep(self) -> None:
        self._committed += self._waiting
        self._waiting.clear()


async def _call(callbacks: Sequence[Callback], error: BaseException | None) -> None:
    for position, callback in enumerate(callbacks, 1):
        try:
            outcome = callback()
            if isawaitable(outcome):
                await outcome
        except BaseException as failure:
            note = (
                "A callback of on_commit() raised this, after the transaction was committed; "
                f"{len(callbacks) - position} more were not called."
            )
            if error is None or not isinstance(failure, Exception):
                failure.add_note(note)
                raise
            error.add_note(f"{type(failure).__name__}: {failure}\n{note}")
            return
