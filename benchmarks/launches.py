"""Repeating a measurement in new processes.

Where the operating system happened to put code and objects makes nanoseconds of difference, which
stay the same for as long as a process lives. No number of rounds within one process shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["launch"]

T = TypeVar("T")


def launch(work: Callable[[], T], times: int) -> list[T]:
    """What ``work`` returns in each of so many processes, which run one after another."""
    # Spawned: a fork would have the memory of this process, and so the same luck.
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        return [processes.submit(work).result() for _ in range(times)]
