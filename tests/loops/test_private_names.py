"""The private names of asyncio and asgiref that the loops use: listed, and still there."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import AsyncToSync, SyncToAsync

from tests.architecture.private_names import private_names

ASYNCIO: dict[str, object] = {
    "_get_running_loop": asyncio,
    "_set_running_loop": asyncio,
    "_enter_task": asyncio.tasks,
    "_leave_task": asyncio.tasks,
    "_log_destroy_pending": asyncio.Task,
    "_interrupt_count": asyncio.Runner(),
}
ASGIREF: dict[str, object] = {"_threads": ThreadPoolExecutor()}
CPYTHON: dict[str, object] = {"_current_frames": sys}


def test_no_other_private_name_is_used() -> None:
    assert private_names("loops") == {*ASYNCIO, *ASGIREF, *CPYTHON, "_thread_id"}


@pytest.mark.parametrize(("name", "owner"), [*ASYNCIO.items(), *ASGIREF.items(), *CPYTHON.items()])
def test_a_private_name_exists(name: str, owner: object) -> None:
    assert hasattr(owner, name)


async def test_a_running_loop_of_asyncio_knows_its_thread() -> None:
    assert getattr(asyncio.get_running_loop(), "_thread_id") is not None  # noqa: B009


def test_asgiref_keeps_the_waiting_threads_where_we_clear_them() -> None:
    assert hasattr(AsyncToSync, "executors")
    assert hasattr(SyncToAsync, "thread_sensitive_context")
    assert hasattr(SyncToAsync, "context_to_thread_executor")
