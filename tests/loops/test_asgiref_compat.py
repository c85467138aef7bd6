"""Django's bridge and ours in one thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async

from asgi_dbconn import run_sync
from asgi_dbconn.loops import default_loop
from tests.loops.situations import LoopFactory, open_loop, run


@pytest.fixture(autouse=True, scope="module")
def asgirefs_own_thread() -> None:
    """asgiref starts it once, for the life of the process."""
    run(sync_to_async(lambda: None)())


async def work() -> str:
    """Awaits synchronous code through asgiref, as Django's own async methods do."""
    return await sync_to_async(lambda: "done")()


def test_under_asgirefs_executor(factory: LoopFactory) -> None:
    """Scenario 51. A synchronous view under ASGI, and code that it calls."""

    @sync_to_async
    def view(home: Any) -> tuple[str, Any]:
        async def here() -> Any:
            return asyncio.get_running_loop()

        return "done", run_sync(here(), loop=home)

    async def application() -> None:
        loop = asyncio.get_running_loop()
        default_loop.register_app_loop(loop)
        assert await view(loop) == ("done", loop)
        default_loop.unregister_app_loop(loop)

    run(application(), factory)


def test_in_a_thread_whose_executor_waits_for_asgiref(factory: LoopFactory) -> None:
    """Scenario 51. Below ``async_to_sync`` the thread is noted as one that executes."""
    answers: list[str] = []

    @sync_to_async
    def view() -> None:
        answers.append(run_sync(work()))
        with open_loop(factory) as loop:
            answers.append(run_sync(work(), loop=loop))

    async def application() -> None:
        await view()

    async_to_sync(application)()
    assert answers == ["done", "done"]


def test_asgirefs_variables_of_this_thread_are_still_there_afterwards() -> None:
    local: Any = Local()
    local.language = "de"

    async def change() -> str:
        local.language = "en"
        return threading.current_thread().name

    async def outer() -> None:
        local.language = "fr"
        run_sync(change())
        assert local.language == "fr"

    run(outer())
    run_sync(change())
    assert local.language == "en"


def test_in_the_one_thread_of_a_request(factory: LoopFactory) -> None:
    """Scenario 51. Django gives every request an executor with one thread, which waits for us."""
    contexts: list[object] = []

    def view(home: Any) -> list[str]:
        contexts.append(SyncToAsync.thread_sensitive_context.get())
        answers = [run_sync(work(), loop=home), run_sync(work())]
        with open_loop(factory) as loop:
            answers.append(run_sync(work(), loop=loop))
        contexts.append(SyncToAsync.thread_sensitive_context.get())
        return answers

    async def application() -> None:
        async with ThreadSensitiveContext():
            loop = asyncio.get_running_loop()
            assert await sync_to_async(view)(loop) == ["done"] * 3

    run(application(), factory)
    assert contexts[0] is contexts[1] is not None  # what is forgotten is forgotten for the work
