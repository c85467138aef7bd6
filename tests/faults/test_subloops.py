"""Loops that stand still while synchronous code inside of them waits for a database."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asgi_dbconn import Database, PoolTimeout, run_sync
from asgi_dbconn.loops.managed_loop import subloop_of
from tests.faults.threads import Threads
from tests.support.leftovers import wait_until

pytestmark = pytest.mark.postgres


def test_sixteen_threads_that_ask_at_once_get_one_subloop() -> None:
    """Scenario 45."""
    before = set(threading.enumerate())
    parent = asyncio.new_event_loop()

    async def pid() -> int:
        return threading.get_ident()

    def ask() -> tuple[object, int]:
        own = subloop_of(parent)
        return own, run_sync(pid(), loop=own.loop)

    found = Threads([ask] * 16).results(within=10)

    assert len(found) == 16
    assert len(set(found)) == 1
    assert len(set(threading.enumerate()) - before) == 1
    parent.close()
    wait_until(lambda: not set(threading.enumerate()) - before, 0.2)


def test_a_loop_that_waits_for_its_own_permits_gets_a_timeout_and_no_deadlock(
    postgres_url: str,
) -> None:
    """Scenario 46."""
    database = Database(postgres_url, pool_size=1, max_connections=1, acquire_timeout=0.3)

    async def main() -> None:
        async with database, database.engine.connect():
            # The subloop may have a pool, but the process no other connection than the one that
            # the blocked loop holds.
            with pytest.raises(PoolTimeout, match="max_connections"):
                run_sync(database.ping())

    asyncio.run(main())


def test_a_subloop_has_a_pool_of_its_own(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1, acquire_timeout=0.3)

    async def main() -> None:
        async with database, database.engine.connect():
            run_sync(database.ping())
            assert database.stats().loops == 2

    asyncio.run(main())
