"""The part of a registry for transactions: one, one that is repeated, and none that lasts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from sqlalchemy.engine.interfaces import IsolationLevel

from asgi_dbconn.call_site import find_call_site
from asgi_dbconn.databases.blocks import Block
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.split_context import SplitContext
from asgi_dbconn.databases.transactions import Transaction, retry_transaction
from asgi_dbconn.orm.binding import DatabaseChoice
from asgi_dbconn.registry.connect_all import connect_all, disconnect_all
from asgi_dbconn.registry.schema_context import SchemaContext

__all__ = ["TransactionalUse"]

T = TypeVar("T")


class TransactionalUse(ABC):
    """A mixin for a class that knows databases by name."""

    _schema: SchemaContext

    @property
    @abstractmethod
    def databases(self) -> Mapping[str | None, Database]: ...

    @abstractmethod
    def find_database(self, choice: DatabaseChoice) -> Database: ...

    def transaction(
        self,
        database: DatabaseChoice = None,
        *,
        isolation_level: IsolationLevel | None = None,
        readonly: bool = False,
        force_rollback: bool = False,
    ) -> Block[Transaction]:
        """See ``Database.transaction``. Carries the schema of this moment."""
        chosen = self.find_database(database)
        return self._schema.with_current_schema(
            chosen,
            chosen.transaction(
                isolation_level=isolation_level, readonly=readonly, force_rollback=force_rollback
            ),
        )

    def run_transaction(
        self,
        fn: Callable[[], Awaitable[T]],
        *,
        database: DatabaseChoice = None,
        retries: int = 3,
        isolation_level: IsolationLevel | None = None,
        readonly: bool = False,
    ) -> Coroutine[Any, Any, T]:
        """Return what ``await fn()`` returns, in a transaction, and again if that lost to another.

        That is a serialization failure or a deadlock (SQLSTATE 40001, 40P01), or a lock that
        SQLite did not get, in any statement or in the commit. ``fn`` is called at most
        ``retries`` more times, after short, growing pauses, so whatever it does outside of the
        database it has to be able to do again: leave that to ``on_commit``. The last error is
        raised. Inside a scope it is called once, in a savepoint: only the whole transaction could
        be repeated.
        """
        chosen = self.find_database(database)
        line = None if chosen.is_connected else find_call_site()

        def begin() -> Block[Transaction]:
            begun = chosen.transaction(
                isolation_level=isolation_level, readonly=readonly, call_site=line
            )
            return self._schema.with_current_schema(chosen, begun)

        async def run() -> T:
            is_a_part = current_scope(chosen) is not None
            return await retry_transaction(begin, fn, 0 if is_a_part else retries)

        return run()

    def rollback(self) -> AbstractAsyncContextManager[None]:
        """Roll back at the end whatever is done with any of the databases; for a test.

        Connects them for that time. See ``Database.force_rollback``, of which there is one for
        each database.
        """
        return SplitContext(self._isolate)

    async def _isolate(self) -> Callable[[], Awaitable[None]]:
        databases = list(dict.fromkeys(self.databases.values()))
        await connect_all(databases)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(disconnect_all, databases)
            for database in databases:
                await stack.enter_async_context(database.force_rollback())
            return stack.pop_all().aclose
