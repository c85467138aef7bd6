"""The transaction on one SQLite connection: begun by SQLAlchemy, and sometimes ended by SQLite.

When a statement that writes is interrupted, SQLite rolls the whole transaction back, and the next
statements would be committed one by one. And a transaction that has read cannot write any more once
another connection has written. This module notices both, in the thread of the connection.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.sqlite_statements import LOCKING, Kind, change_savepoints

__all__ = ["BeginOptions", "SQLiteTransaction", "explain_refused_restart", "is_busy"]

_PRIMARY_CODE: Final = 0xFF
"""SQLITE_BUSY_SNAPSHOT and its like are SQLITE_BUSY with a reason in the higher bits."""


class BeginOptions(NamedTuple):
    """The options of a BEGIN: its statement, and what the transaction may do."""

    statement: str | None
    """None if each statement is to be committed by itself."""
    readonly: bool = False
    can_restart: bool = False
    """True if it may be begun anew with the write lock, as long as it has only read."""


class SQLiteTransaction:
    """The transactions of one connection, one after the other."""

    __slots__ = (
        "_done",
        "can_restart",
        "ended_by",
        "is_begun",
        "is_permanent",
        "savepoints",
    )

    def __init__(self) -> None:
        self.is_permanent = False
        """True if everything on the connection is part of one transaction: it is isolated."""
        self.end()

    def begin(self, options: BeginOptions) -> None:
        """Note that SQLAlchemy's transaction has begun."""
        self.end()
        self.is_begun = options.statement is not None
        self.can_restart = options.can_restart

    def end(self) -> None:
        """Note that it has been committed or rolled back."""
        self.is_begun = False
        self.can_restart = False
        """True if it was begun without the write lock, and may be begun anew with it."""
        self.ended_by: BaseException | None = None
        """The error with which SQLite rolled it back by itself."""
        self.savepoints: list[str] = []
        self._done = Kind.CONTROLS

    @property
    def is_anything_begun(self) -> bool:
        """True if there is something to commit or to roll back.

        An isolated SQLite is always in a transaction, whether that is one to end or not.
        """
        return self.is_begun or bool(self.savepoints) or not self.is_permanent

    @property
    def may_wait_for_lock(self) -> bool:
        """True if a statement that writes has to get the write lock first."""
        if self.is_permanent:
            return False
        return not self.is_begun or (self.can_restart and self._done is Kind.CONTROLS)

    def check(self, connection: sqlite3.Connection, statement: str) -> None:
        """Raise TransactionAborted if SQLite is not in the transaction that ``statement`` is in."""
        if (self.is_begun or self.is_permanent) and not connection.in_transaction:
            by_hand = self.ended_by is None and not self.is_permanent
            if not (by_hand and statement[:5].upper() == "BEGIN"):
                raise self._make_aborted_error()

    def note_success(self, kind: Kind, statement: str) -> None:
        """Note that ``statement`` has been executed."""
        if kind is Kind.CONTROLS:
            change_savepoints(self.savepoints, statement)
        elif kind > self._done:
            self._done = kind

    def note_failure(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Note whether SQLite has rolled everything back together with a statement that failed."""
        if self.is_begun and self.ended_by is None and not connection.in_transaction:
            self.ended_by = error

    def needs_lock(self, kind: Kind, statement: str) -> bool:
        """Return whether ``statement`` reads for update in a transaction without the write lock."""
        return (
            self.can_restart
            and kind is Kind.WRITES
            and self._done is not Kind.WRITES
            and statement.endswith(LOCKING)
        )

    def needs_restart(self, error: sqlite3.Error, kind: Kind) -> bool:
        """Return whether a statement that failed with ``error`` is to be sent once more.

        That is so if it was the first one to write, after others have read: SQLite refuses it
        immediately, since waiting would not help.
        """
        return (
            self.can_restart and self._done is Kind.READS and kind is Kind.WRITES and is_busy(error)
        )

    def _make_aborted_error(self) -> TransactionAborted:
        """Return the error for a task that goes on in a transaction that has ended."""
        if self.ended_by is None:
            why = "it was ended by a COMMIT or ROLLBACK that was sent by hand"
            remedy = "Use the commit() or rollback() of the connection, session or transaction."
        else:
            why = (
                f"SQLite rolled the whole transaction back when a statement of it failed "
                f"({self.ended_by}), with all its savepoints"
            )
            remedy = "Let the error leave the block, and begin the whole transaction once more."
        return TransactionAborted(
            f"This statement belongs to a transaction that has ended: {why}. Executed now, it "
            f"would be committed by itself. {remedy}"
        )


def is_busy(error: BaseException) -> bool:
    """Return whether the lock that a statement needs is taken."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & _PRIMARY_CODE == sqlite3.SQLITE_BUSY


def explain_refused_restart(error: sqlite3.OperationalError) -> sqlite3.OperationalError:
    """Return a copy of ``error`` that says why the transaction cannot begin anew."""
    explained: Any = sqlite3.OperationalError(
        f"{error}: another connection has written, or is about to, since this transaction began to "
        "read. It would be begun anew with the write lock, but a stream of it is still being read. "
        "Use transaction(), which takes the write lock first, or read the stream to its end before "
        "you write"
    )
    explained.sqlite_errorcode = error.sqlite_errorcode
    explained.sqlite_errorname = error.sqlite_errorname
    return explained  # type: ignore[no-any-return]
