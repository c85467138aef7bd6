"""A context manager that synchronous code keeps open, in a task of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_dbconn.loops.context_manager_task import ContextTask
from tests.loops.situations import LoopFactory, open_loop


@asynccontextmanager
async def noting(notes: list[Any]) -> AsyncIterator[None]:
    notes.append(asyncio.current_task())
    try:
        yield
    finally:
        await asyncio.sleep(0)
        notes.append(asyncio.current_task())


def test_it_is_entered_and_left_in_one_task(factory: LoopFactory) -> None:
    notes: list[Any] = []
    with open_loop(factory) as loop:
        held = ContextTask(noting(notes))
        held.enter(loop)
        assert len(notes) == 1
        held.leave()
        assert notes == [notes[0], notes[0]]
        held.leave()  # does nothing
        assert len(notes) == 2


def test_a_loop_that_is_closed_under_it(
    factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left on another loop, and nobody hears of the task that could not do it."""
    notes: list[Any] = []
    with open_loop(factory) as loop:
        held = ContextTask(noting(notes))
        held.enter(loop)
    assert len(notes) == 1
    with caplog.at_level(logging.WARNING):
        held.leave()
        assert len(notes) == 2
        notes.clear()
        del held
        gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_loop_that_ends_in_good_order_before(factory: LoopFactory) -> None:
    notes: list[Any] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        held = ContextTask(noting(notes))
        held.enter(runner.get_loop())
    assert len(notes) == 2
    held.leave()
    assert len(notes) == 2


def test_what_cannot_be_entered_is_not_held(factory: LoopFactory) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise LookupError("closed today")
        yield

    with open_loop(factory) as loop:
        held = ContextTask(broken())
        with pytest.raises(LookupError, match="closed today"):
            held.enter(loop)
        held.leave()
        assert not asyncio.all_tasks(loop)
