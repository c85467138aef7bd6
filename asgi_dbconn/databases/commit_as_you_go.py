"""``connection()`` and ``session()``: scopes whose user may commit and roll back by hand."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy.exc import IllegalStateChangeError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from asgi_dbconn.databases.checkout import Checkout
from asgi_dbconn.databases.scope_lifetime import InnerScope, OutermostScope, PoolSource
from asgi_dbconn.databases.scopes import Scope
from asgi_dbconn.pools.aborted_transactions import mark_aborted

__all__ = [
    "JoinedConnection",
    "JoinedSession",
    "OutermostConnection",
    "OutermostSession",
    "ScopeSession",
]


class ScopeSession(Session):
    """A Session made by ``session()``; it behaves as any other."""

    target: Any = None
    """The origin of its objects; None if it is not to be noted on them."""
    flush_undo: Any = None
    """The undo of the flush under way."""


class OutermostConnection(OutermostScope):
    """A connection for the block; the end commits the open transaction."""

    __slots__ = ()

    @property
    def value(self) -> AsyncConnection:
        """The connection, for the code in the block."""
        return self.checkout.async_connection

    def _begin(self) -> None:
        self.callbacks.follow(self.checkout.connection)

    def _commit(self) -> None:
        connection = self.checkout.connection
        if connection.in_transaction():
            connection.commit()

    def _roll_back(self) -> None:
        self.callbacks.forget()
        self.checkout.roll_back()


class OutermostSession(OutermostScope):
    """A session for the block, on a connection of its own; the end commits."""

    __slots__ = ("value",)

    def __init__(self, checkout: Checkout, source: PoolSource) -> None:
        super().__init__(checkout, source)
        self.value: AsyncSession
        """The session, for the code in the block."""

    def _begin(self) -> None:
        self.callbacks.follow(self.checkout.connection)
        self.value = self.session = AsyncSession(
            self.checkout.async_connection,
            sync_session_class=ScopeSession,
            expire_on_commit=False,
            join_transaction_mode="control_fully",
        )

    def _commit(self) -> None:
        connection = self.checkout.connection
        self.value.sync_session.commit()
        if connection.in_transaction():  # begun by queries of the block, unseen by the session
            connection.commit()

    def _roll_back(self) -> None:
        self.callbacks.forget()
        self.value.sync_session.close()
        self.checkout.roll_back()

    def _finish(self) -> None:
        self.value.sync_session.close()
        super()._finish()

    def _abandon(self) -> None:
        with suppress(IllegalStateChangeError):  # another task is about to begin in it
            self.value.sync_session.close()
        super()._finish()


class JoinedConnection(InnerScope):
    """The connection of the outer scope, for the block alone; nothing is committed at its end.

    If its error is caught outside, the half of its work must not be committed.
    """

    __slots__ = ()

    @property
    def value(self) -> AsyncConnection:
        """The connection, for the code in the block."""
        return self.checkout.async_connection

    async def _prepare(self) -> None:
        if self._outer_scope.session is None:
            self._outer_scope.raise_if_aborted()  # nothing is sent
        else:
            await super()._prepare()

    def _begin(self) -> None:
        """Do nothing: the transaction is the outer scope's."""

    def _commit(self) -> None:
        """Do nothing: the transaction is the outer scope's."""

    def _roll_back(self) -> None:
        self.callbacks.forget()
        mark_aborted(self.checkout.connection, self.ended_by or "a block in it was left half done")


class JoinedSession(InnerScope):
    """A session on the connection of the outer scope; its end flushes."""

    __slots__ = ("value",)

    def __init__(self, outer: Scope) -> None:
        super().__init__(outer)
        self.value: AsyncSession
        """The session, for the code in the block."""

    def _begin(self) -> None:
        connection = self.checkout.connection
        if not connection.in_transaction():
            connection.begin()  # otherwise the session would begin its own, and commit it
        self.value = _JoinedAsyncSession(
            self.checkout.async_connection,
            sync_session_class=ScopeSession,
            expire_on_commit=False,
            join_transaction_mode="rollback_only",
        )

    def _commit(self) -> None:
        session = self.value.sync_session
        if not session.is_active:
            mark_aborted(self.checkout.connection, "a session in it failed to flush")
        self.raise_if_aborted()
        session.commit()

    def _roll_back(self) -> None:
        self.callbacks.forget()
        mark_aborted(self.checkout.connection, self.ended_by or "a block in it was left half done")

    def _finish(self) -> None:
        self.value.sync_session.close()

    def _abandon(self) -> None:
        with suppress(IllegalStateChangeError):
            self._finish()


class _JoinedAsyncSession(AsyncSession):
    """A session in the block's transaction: a commit flushes, a rollback aborts all of it."""

    async def rollback(self) -> None:
        await super().rollback()
        bind = self.bind
        if isinstance(bind, AsyncConnection) and bind.sync_connection is not None:
            mark_aborted(bind.sync_connection, "a session in it was rolled back")
