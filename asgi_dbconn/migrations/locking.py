"""Locks for migrations: one task of the process uses Alembic, one session migrates a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Row, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import MigrationLocked, PoolTimeout
from asgi_dbconn.loops.fork import after_every_fork
from asgi_dbconn.pools.budget import Budget
from asgi_dbconn.pools.driver_errors import is_conflict

__all__ = ["exclusive_alembic", "lock_database"]

_KEYS: Final = {"first": 0x61736769, "second": 0x6D696772}
"""The key of the advisory lock: "asgi" and "migr" in ASCII, which no other program uses."""
_HOLDER: Final = text(
    "SELECT activity.pid, activity.application_name AS name, activity.client_addr::text AS address,"
    " date_trunc('second', clock_timestamp() - activity.backend_start)::text AS age "
    "FROM pg_locks AS lock JOIN pg_stat_activity AS activity ON activity.pid = lock.pid "
    "WHERE lock.locktype = 'advisory' AND lock.granted "
    "AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND lock.classid::bigint = :first AND lock.objid::bigint = :second"
)
_SHORTEST: Final = 0.05
_LONGEST: Final = 1.0
"""Seconds between two attempts to get a lock."""

# Alembic's `op` and `context` are modules, so there is one of each in a process. A budget of one
# slot is a lock that tasks of any number of loops can wait for.
_process: Final = Budget(1)
after_every_fork(_process.after_fork)


@asynccontextmanager
async def exclusive_alembic(seconds: float) -> AsyncIterator[None]:
    """Use Alembic in one task of this process at a time, on any loop. Raises MigrationLocked."""
    try:
        permit = await _process.acquire("", asyncio.get_running_loop().time() + seconds)
    except PoolTimeout as error:
        raise MigrationLocked(
            f"Another task of this process has been using Alembic for {seconds:.1f} s "
            "(lock_timeout), and only one can use it at a time. Wait for it, or for longer."
        ) from error
    try:
        yield
    finally:
        permit.release()


async def lock_database(connection: AsyncConnection, database: Database, seconds: float) -> None:
    """Acquire the lock for migrating the database; wait for a session that holds it.

    On PostgreSQL the lock lasts as long as the session. Behind PgBouncer, and on SQLite, it lasts
    as long as the transaction, which is begun here. Raises MigrationLocked.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    if database.url.dialect == "sqlite":
        await _acquire_write_lock(connection, database, seconds, deadline)
        return
    is_for_transaction = database.options.pgbouncer
    lock = func.pg_try_advisory_xact_lock if is_for_transaction else func.pg_try_advisory_lock
    ask = select(lock(*_KEYS.values()))
    pause = _SHORTEST
    # Polled: a statement that waits for the lock would hold a snapshot, and CREATE INDEX
    # CONCURRENTLY in the other session waits for every snapshot to end.
    while not (await connection.execute(ask)).scalar_one():
        if asyncio.get_running_loop().time() > deadline:
            holder = (await connection.execute(_HOLDER, _KEYS)).first()
            raise _locked_error(database, seconds, _describe_holder(holder))
        await connection.rollback()
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST)
    if not is_for_transaction:
        await connection.commit()


async def _acquire_write_lock(
    connection: AsyncConnection, database: Database, seconds: float, deadline: float
) -> None:
    while True:
        try:
            await connection.begin()  # waits itself, for as long as busy_timeout
            return
        except OperationalError as error:
            if not is_conflict(error):
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise _locked_error(database, seconds, "another connection writes to it") from error


def _describe_holder(holder: Row[Any] | None) -> str:
    if holder is None:
        return "it has just finished"
    return (
        f"process {holder.pid} of the server, {holder.name or 'without a name'}, from "
        f"{holder.address or 'this host'}, connected for {holder.age}; "
        f"SELECT pg_terminate_backend({holder.pid}) would end it"
    )


def _locked_error(database: Database, seconds: float, holder: str) -> MigrationLocked:
    return MigrationLocked(
        f"Database {database.name or 'default'!r} ({database.url}) is being migrated by another "
        f"session, which did not finish within {seconds:.1f} s (lock_timeout): {holder}. "
        "Wait for it, or for longer."
    )
