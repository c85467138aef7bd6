"""Callbacks that wait for the commit of their transaction, and are dropped with its rollback."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable

from sqlalchemy import event
from sqlalchemy.engine import Connection

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.loops.awaitables import discard

__all__ = ["Callback", "CommitCallbacks"]

Callback = Callable[[], object]
"""A function called without arguments; what it returns is awaited if it can be."""


class CommitCallbacks:
    """The callbacks of one block, in the order in which they were given.

    Those of a savepoint go to the outer block when it is released, and are dropped when it is
    rolled back. The outermost block calls all of them after its commit.
    """

    def __init__(self) -> None:
        self._waiting: list[Callback] = []
        self._kept: list[Callback] = []
        self._follows: Connection | None = None

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
            # Not before: an event of its own makes each statement of a connection slower.
            event.listen(self._follows, "commit", self._keep)
            event.listen(self._follows, "rollback", self.forget)
            self._follows = None
        self._waiting += inner._waiting

    def forget(self, *_: object) -> None:
        """Drop the callbacks: their transaction has been rolled back."""
        self._waiting.clear()

    def follow(self, connection: Connection) -> None:
        """Notice where the block's user commits or rolls back ``connection`` by hand."""
        self._follows = connection

    async def run(self) -> None:
        """Call them one after the other. The first error is raised, and the rest not called."""
        callbacks = self._kept + self._waiting
        for position, callback in enumerate(callbacks, 1):
            try:
                outcome = callback()
                if isawaitable(outcome):
                    await outcome
            except BaseException as error:
                error.add_note(
                    "A callback of on_commit() raised this, after the transaction was committed; "
                    f"{len(callbacks) - position} more were not called."
                )
                raise

    def _keep(self, _: Connection) -> None:
        self._kept += self._waiting
        self._waiting.clear()
