"""``run_transaction()`` of a registry: call a function in a transaction, again after a conflict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.engine.interfaces import IsolationLevel

from asgi_dbconn.call_site import find_call_site
from asgi_dbconn.databases.blocks import Block
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.transactions import Transaction, retry_transaction
from asgi_dbconn.registry.schema_context import SchemaContext

__all__ = ["run_transaction"]

T = TypeVar("T")


def run_transaction(
    database: Database,
    schema: SchemaContext,
    function: Callable[[], Awaitable[T]],
    *,
    retries: int,
    isolation_level: IsolationLevel | None,
    readonly: bool,
) -> Coroutine[Any, Any, T]:
    """Return a coroutine that runs ``function`` in a transaction, in the current schema.

    Not a coroutine function itself: a warning about an unconnected database names the line that
    calls us, and a task that awaits the coroutine later would not have that line on its stack.
    Each attempt opens a transaction of its own. Inside an open scope there is one attempt, in a
    savepoint: after a conflict only the whole transaction could be run again.
    """
    call_site = None if database.is_connected else find_call_site()

    def begin() -> Block[Transaction]:
        transaction = database.transaction(
            isolation_level=isolation_level, readonly=readonly, call_site=call_site
        )
        return schema.with_current_schema(database, transaction)

    async def run() -> T:
        is_nested = current_scope(database) is not None
        return await retry_transaction(begin, function, 0 if is_nested else retries)

    return run()
