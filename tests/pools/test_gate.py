"""The gate: permits, order, deadlines, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from asgi_dbconn import PoolClosed, PoolTimeout
from asgi_dbconn.pools.gate import Gate


async def test_permits_are_granted_up_to_the_size() -> None:
    gate = Gate("shop", 2, 1.0)

    assert gate.acquire_nowait() is not None
    assert gate.acquire_nowait() is not None
    assert gate.acquire_nowait() is None
    assert gate.in_use == 2


async def test_waiters_are_served_in_order() -> None:
    gate = Gate("shop", 1, 5.0)
    first = gate.acquire_nowait()
    assert first is not None
    served: list[int] = []

    async def work(number: int) -> None:
        permit = await gate.acquire()
        served.append(number)
        gate.release(permit)

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(work(number))
        await asyncio.sleep(0)
        assert gate.queue_length == 50
        # Nobody overtakes those who wait, not even while a permit is on its way to one of them.
        gate.release(first)
        assert gate.acquire_nowait() is None

    assert served == list(range(50))
    assert (gate.in_use, gate.queue_length) == (0, 0)


async def test_a_timeout_says_who_holds_what_and_which_option_helps() -> None:
    gate = Gate("shop", 1, 0.05)

    async def hold() -> None:
        assert gate.acquire_nowait() is not None

    await asyncio.create_task(hold(), name="report generator")
    with pytest.raises(PoolTimeout) as caught:
        await gate.acquire()

    text = str(caught.value)
    for part in ("'shop'", "acquire_timeout", "pool_size", "report generator", "All 1"):
        assert part in text
    assert isinstance(caught.value, TimeoutError)
    assert gate.queue_length == 0


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    gate = Gate("shop", 1, 5.0)
    held = gate.acquire_nowait()
    assert held is not None
    waiter = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)

    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter

    assert gate.queue_length == 0
    gate.release(held)
    assert gate.acquire_nowait() is not None


async def test_a_permit_granted_to_a_cancelled_waiter_goes_to_the_next() -> None:
    gate = Gate("shop", 1, 5.0)
    for _ in range(1000):
        held = gate.acquire_nowait()
        assert held is not None
        first = asyncio.create_task(gate.acquire())
        second = asyncio.create_task(gate.acquire())
        await asyncio.sleep(0)

        gate.release(held)  # granted to the first ...
        first.cancel()  # ... which is cancelled before it can run
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.release(await second)

    assert (gate.in_use, gate.queue_length) == (0, 0)


async def test_closing_wakes_every_waiter_and_refuses_newcomers() -> None:
    gate = Gate("shop", 1, 5.0)
    held = gate.acquire_nowait()
    assert held is not None
    waiters = [asyncio.create_task(gate.acquire()) for _ in range(3)]
    await asyncio.sleep(0)

    gate.close()

    for waiter in waiters:
        with pytest.raises(PoolClosed, match="'shop' is disconnecting"):
            await waiter
    with pytest.raises(PoolClosed):
        gate.acquire_nowait()
    unused = asyncio.create_task(gate.wait_until_unused(5.0))
    await asyncio.sleep(0)
    gate.release(held)
    assert await unused


async def test_waiting_for_the_last_holder_is_bounded() -> None:
    gate = Gate("shop", 1, 5.0)
    assert gate.acquire_nowait() is not None
    gate.close()

    assert not await gate.wait_until_unused(0.01)


async def test_giving_a_permit_back_twice_changes_nothing() -> None:
    gate = Gate("shop", 2, 5.0)
    permit, other = gate.acquire_nowait(), gate.acquire_nowait()
    assert permit is not None
    assert other is not None

    gate.release(permit)
    gate.release(permit)

    assert gate.in_use == 1


async def test_another_thread_may_give_a_permit_back() -> None:
    gate = Gate("shop", 1, 5.0)
    permit = gate.acquire_nowait()
    assert permit is not None
    waiter = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)

    thread = threading.Thread(target=gate.release, args=(permit,))
    thread.start()
    await asyncio.to_thread(thread.join)

    gate.release(await waiter)
    assert gate.in_use == 0
    gc.collect()
