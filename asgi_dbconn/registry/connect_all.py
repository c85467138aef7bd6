"""Connecting several databases together: all of them, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.statistics import DrainReport

__all__ = ["connect_all", "disconnect_all"]


async def connect_all(databases: Collection[Database]) -> None:
    """Connect concurrently; if any fails, or we are cancelled, give back those that succeeded.

    Raises the one error there was, or an ExceptionGroup of all, only after the others are closed.
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
        await asyncio.shield(asyncio.ensure_future(_give_back(tasks)))
        raise
    errors = [error for task in tasks if (error := task.exception()) is not None]
    if errors:
        await asyncio.shield(asyncio.ensure_future(_give_back(tasks)))
        raise _one_error(errors, len(databases))


async def disconnect_all(
    databases: Collection[Database], *, force: bool = False
) -> DrainReport | None:
    """Disconnect concurrently and wait for every one, then raise what went wrong, if anything.

    Returns the sum of the reports; None if no database was closed by this call.
    """
    outcomes = await asyncio.gather(
        *(database.disconnect(force=force) for database in databases), return_exceptions=True
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        raise _one_error(errors, len(databases))
    reports = [outcome for outcome in outcomes if isinstance(outcome, DrainReport)]
    return sum(reports, DrainReport()) if reports else None


async def _give_back(tasks: dict[asyncio.Task[None], Database]) -> None:
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
    group.__cause__ = next((e for e in errors if isinstance(e, DatabaseUnavailable)), errors[0])
    return group
