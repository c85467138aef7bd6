"""The demands of an isolation on its dialect: one connection, in a transaction without an end.

What looks like a transaction to all who use that connection is a savepoint in this one, down to
SQLAlchemy's own connections and sessions, so code behaves in it as it does without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.undo_log import UndoLog

__all__ = ["IsolatedProfile", "Undo", "refuse_another"]

Undo = Callable[[], Awaitable[object]]


class IsolatedProfile(DialectProfile, Protocol):
    """A profile for one pool only: it knows whether its connection was opened already."""

    undo_log: UndoLog
    """The objects that go back at the end. A mark begins a part of it."""

    async def mark(self, connection: Any) -> Undo:
        """Begin a savepoint on the driver's connection; return how to go back to it."""
        ...


def refuse_another(is_lost: object) -> None:
    """Raise TransactionAborted if the one transaction is lost: another would not be the same."""
    if is_lost:
        raise TransactionAborted(
            "The connection on which this database is isolated was lost, or was given up together "
            "with a statement that was cancelled, and everything since the isolation began is "
            "rolled back. Leave the isolation, and begin another."
        )
