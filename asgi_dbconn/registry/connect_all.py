"""Several databases together: connect all or none, disconnect all, isolate all for a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.statistics import DrainReport

__all__ = ["connect_all", "disconnect_all", "isolate_all"]


async def connect_all(databases: Collection[Database]) -> None:
    """Connect concurrently; after an error or a cancellation, release those that succeeded.

    Raises the only error, or an ExceptionGroup of all errors, after the others are closed.
    """
    tasks = {
        asyncio.create_task(database.connect(), name=f"connecting {database!r}"): database
        for database in databases
    }
    try:
        await asyncio.wait(tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.shield(asyncio.ensure_future(_release_connected(tasks)))
        raise
    errors = [error for task in tasks if (error := task.exception()) is not None]
    if errors:
        await asyncio.shield(asyncio.ensure_future(_release_connected(tasks)))
        raise _one_error(errors, len(databases))


async def disconnect_all(
    databases: Collection[Database], *, force: bool = False
) -> DrainReport | None:
    """Disconnect concurrently and wait for all of them, then raise the errors.

    Returns the sum of the reports; None if this call closed no database. Raises the only error,
    or an ExceptionGroup of all errors.
    """
    outcomes = await asyncio.gather(
        *(database.disconnect(force=force) for database in databases), return_exceptions=True
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        raise _one_error(errors, len(databases))
    reports = [outcome for outcome in outcomes if isinstance(outcome, DrainReport)]
    return sum(reports, DrainReport()) if reports else None


async def isolate_all(databases: Collection[Database]) -> Callable[[], Awaitable[None]]:
    """Connect all, and isolate each of them; return a function that undoes both.

    Everything that is done with them in between is rolled back by that function. See
    ``Database.force_rollback``. If one of them cannot be isolated, all are disconnected.
    """
    await connect_all(databases)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(disconnect_all, databases)
        for database in databases:
            await stack.enter_async_context(database.force_rollback())
        return stack.pop_all().aclose


async def _release_connected(tasks: dict[asyncio.Task[None], Database]) -> None:
    await asyncio.wait(tasks)
    succeeded = [
        database
        for task, database in tasks.items()
        if not task.cancelled() and task.exception() is None
    ]
    await disconnect_all(succeeded)


def _one_error(errors: list[BaseException], total: int) -> BaseException:
    if len(errors) == 1:
        return errors[0]
    reasons = "\n".join(f"- {error}" for error in errors)
    message = f"{len(errors)} of {total} databases failed:\n{reasons}"
    group = BaseExceptionGroup(message, errors)
    group.__cause__ = next(
        (error for error in errors if isinstance(error, DatabaseUnavailable)), errors[0]
    )
    return group
