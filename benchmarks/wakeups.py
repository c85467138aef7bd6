"""What a loop in a thread costs while nobody wants anything of it: how often the thread wakes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final

from anyio import from_thread

from asgi_dbconn import run_sync
from benchmarks.bridges import EDGY, KINDS, OURS, PORTAL, THREADSAFE, loop_in_thread
from benchmarks.edgy import edgy_run_sync
from benchmarks.report import aligned

__all__ = ["count_wakeups", "wakeup_table"]

_TASKS: Final = Path("/proc/self/task")
_WINDOW: Final = 1.0
"""Seconds for which the idle threads are watched."""
_SETTLING: Final = 0.1
"""Seconds in which a thread surely falls asleep after its last work."""


def count_wakeups(kind: str, windows: int) -> Mapping[str, Sequence[int]]:
    """How often each idle thread woke up in each window, beside an application's loop of ``kind``.

    Empty where the system does not tell: only Linux has these files.
    """
    if not _TASKS.exists():
        return {}
    with asyncio.Runner(loop_factory=KINDS[kind]) as runner:
        return runner.run(_count(kind, windows))


async def _count(kind: str, windows: int) -> Mapping[str, Sequence[int]]:
    edgy = edgy_run_sync()
    with ExitStack() as stack:

        def portal() -> None:
            options = {"loop_factory": KINDS[kind]}
            made = from_thread.start_blocking_portal(backend_options=options)
            stack.enter_context(made).call(_nothing)

        def beside() -> None:
            loop = stack.enter_context(loop_in_thread(KINDS[kind]))
            asyncio.run_coroutine_threadsafe(_nothing(), loop).result()

        threads = {
            THREADSAFE: _thread_of(beside),
            PORTAL: _thread_of(portal),
            EDGY: _thread_of(lambda: edgy(_nothing())),
            OURS: _thread_of(lambda: run_sync(_nothing())),
        }
        await asyncio.sleep(_SETTLING)
        counts = [_switches(threads)]
        for _ in range(windows):
            await asyncio.sleep(_WINDOW)
            counts.append(_switches(threads))
    return {
        name: [after[name] - before[name] for before, after in pairwise(counts)] for name in threads
    }


def wakeup_table(wakeups: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """One line for each way, one column for each kind of application's loop."""
    kinds = list(wakeups)
    rows = [["", *kinds]]
    rows += [
        [name, *(", ".join(map(str, wakeups[kind][name])) for kind in kinds)]
        for name in wakeups[kinds[0]]
    ]
    return f"Wake-ups of an idle loop's thread, in {_WINDOW:g} s\n{aligned(rows)}"


async def _nothing() -> None:
    """Enough to have the thread started."""


def _thread_of(use: Callable[[], object]) -> int:
    """The system's number of the thread that is there once ``use`` has been called."""
    before = set(threading.enumerate())
    use()
    (thread,) = set(threading.enumerate()) - before
    if thread.native_id is None:
        raise RuntimeError(f"{thread.name} has not begun")
    return thread.native_id


def _switches(threads: Mapping[str, int]) -> dict[str, int]:
    return {name: _voluntary_switches(number) for name, number in threads.items()}


def _voluntary_switches(number: int) -> int:
    """How often the thread has gone to sleep by its own will, so how often it has been woken."""
    status = (_TASKS / str(number) / "status").read_text()
    return next(
        int(line.split()[1])
        for line in status.splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
