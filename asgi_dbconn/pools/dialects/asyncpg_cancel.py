"""Cancel requests to PostgreSQL, and the answer to them.

A request travels on a connection of its own. It may overtake the statement that it is about, and
then it is ignored. It may arrive late, and then it would hit the next statement. So it is repeated
while the statement runs, and nothing is sent before each request has arrived.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from asgi_dbconn.pools.statement_lock import StatementLock

__all__ = ["REPEAT_CANCEL_AFTER", "cancel_and_wait", "wait_cancelled"]

REPEAT_CANCEL_AFTER: Final = 0.25
"""Seconds after which a request is sent again.

One that overtook its statement found nothing to cancel and was ignored.
"""


async def wait_cancelled(driver: Any, limit: float) -> bool:
    """Wait until the server has answered a statement whose task was cancelled.

    asyncpg has sent the request already. Return False after ``limit`` seconds, or if the
    connection is closed.
    """
    protocol = driver._protocol
    if driver.is_closed() or protocol is None:
        return False
    if not protocol._is_cancelling():
        return True
    requests = set(driver._cancellations)
    has_answered = await _repeat_until(
        asyncio.ensure_future(protocol._wait_for_cancellation()), driver, limit, first=None
    )
    under_way = {request for request in requests if not request.done()}
    if under_way and driver.is_closed():
        # The pool has terminated it: its loop is about to end, and would end the requests, too.
        await asyncio.wait(under_way, timeout=limit)
    return has_answered


async def cancel_and_wait(driver: Any, lock: StatementLock, limit: float) -> bool:
    """Cancel the statement that another task has under way, and wait until ``lock`` is free.

    Return False if the statement has not ended after ``limit`` seconds.
    """
    if driver.is_closed():
        return False
    if not lock.locked():
        return True
    first = _request(driver)
    return await _repeat_until(
        asyncio.ensure_future(lock.wait_until_free()), driver, limit, first=first
    )


async def _repeat_until(
    ended: asyncio.Future[Any], driver: Any, limit: float, *, first: asyncio.Future[None] | None
) -> bool:
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit
    requests = [] if first is None else [first]
    try:
        while not ended.done():
            left = deadline - clock()
            if left <= 0:
                return False
            await asyncio.wait({ended}, timeout=min(left, REPEAT_CANCEL_AFTER))
            if not ended.done() and not driver.is_closed():
                requests.append(_request(driver))
        if requests:
            await asyncio.wait(requests, timeout=max(deadline - clock(), 0))
        return all(request.done() for request in requests) and not driver.is_closed()
    finally:
        if not ended.done():
            ended.cancel()


def _request(driver: Any) -> asyncio.Future[None]:
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    driver._cancel_current_command(sent)
    return sent
