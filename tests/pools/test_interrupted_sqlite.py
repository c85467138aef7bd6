"""An interrupted connect to SQLite ends, wherever it was: a program that is stopped does end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asgi_dbconn import Database
from tests.support.waiting import wait_until_async

PAUSE = 0.0002
"""Seconds; a connect takes some five milliseconds, so the interrupts fall into all of it."""


@pytest.mark.parametrize("turns", range(6))
async def test_nothing_waits_for_ever_if_all_tasks_are_cancelled_during_a_connect(
    sqlite_url: str, turns: int
) -> None:
    database = Database(sqlite_url)
    async with database:
        pass  # the file is there: who makes it locks it for a while
    others, threads = asyncio.all_tasks(), set(threading.enumerate())
    for number in range(30):
        connecting = asyncio.create_task(database.connect())
        await asyncio.sleep(number * PAUSE)
        connecting.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        # As asyncio.run does at its end, for those that clean up after the first cancellation.
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()

        _, pending = await asyncio.wait({connecting, *left}, timeout=5)

        assert not pending
        await database.disconnect()
    # A driver's thread that was told to stop ends a moment later.
    await wait_until_async(lambda: threads.issuperset(threading.enumerate()), 5)
