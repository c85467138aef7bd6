"""One migration at a time: in the process, and of each database in the world."""

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

__all__ = ["one_at_a_time", "take_turn"]

_KEYS: Final = {"first": 0x61736769, "second": 0x6D696772}
"""Numbers that no other program takes; "asgi" and "migr" in ASCII."""
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
"""Seconds between two looks whether a lock has come free."""

# Alembic's `op` and `context` are modules, so there is one of each in a process. A budget of one
# is what can be waited for on any number of loops.
_process: Final = Budget(1)
after_every_fork(_process.after_fork)


@asynccontextmanager
async def one_at_a_time(seconds: float) -> AsyncIterator[None]:
    """Keep Alembic for one task of this process, on any loop. Raises MigrationLocked."""
    try:
        turn = await _process.acquire("", asyncio.get_running_loop().time() + seconds)
    except PoolTimeout as error:
        raise MigrationLocked(
            f"Another task of this process has been using Alembic for {seconds:.1f} s "
            "(lock_timeout), and it can be used by one at a time. Wait for it, or for longer."
        ) from error
    try:
        yield
    finally:
        turn.release()


async def take_turn(connection: AsyncConnection, database: Database, seconds: float) -> None:
    """Wait until no other session migrates the database, and keep others out meanwhile.

    On PostgreSQL that lasts as long as the session; behind PgBouncer, and on SQLite, as long as
    the transaction, which is begun here. Raises MigrationLocked.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    if database.url.dialect == "sqlite":
        await _take_write_lock(connection, database, seconds, deadline)
        return
    is_for_transaction = database.options.pgbouncer
    lock = func.pg_try_advisory_xact_lock if is_for_transaction else func.pg_try_advisory_lock
    ask = select(lock(*_KEYS.values()))
    pause = _SHORTEST
    # Asked again and again: a statement that waits for the lock would hold a snapshot, and
    # CREATE INDEX CONCURRENTLY, on the other side, waits for every snapshot to end.
    while not (await connection.execute(ask)).scalar_one():
        if asyncio.get_running_loop().time() > deadline:
            holder = (await connection.execute(_HOLDER, _KEYS)).first()
            raise _lock(database, seconds, _tell(holder))
        await connection.rollback()
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST)
    if not is_for_transaction:
        await connection.commit()


async def _take_write_lock(
    connection: AsyncConnection, database: Database, seconds: float, deadline: float
) -> None:
    while True:
        try:
            await connection.begin()  # which waits by itself, for as long as busy_timeout
            return
        except OperationalError as error:
            if not is_conflict(error):
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise _lock(database, seconds, "another connection writes to it") from error


def _tell(holder: Row[Any] | None) -> str:
    if holder is None:
        return "they have just finished"
    return (
        f"process {holder.pid} of the server, {holder.name or 'without a name'}, from "
        f"{holder.address or 'this host'}, connected for {holder.age}; "
        f"SELECT pg_terminate_backend({holder.pid}) would end it"
    )


def _lock(database: Database, seconds: float, holder: str) -> MigrationLocked:
    return MigrationLocked(
        f"Database {database.name or 'default'!r} ({database.url}) is being migrated by somebody "
        f"else, who did not finish within {seconds:.1f} s (lock_timeout): {holder}. "
        "Wait for them, or for longer."
    )
