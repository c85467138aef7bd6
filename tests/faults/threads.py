"""Work in several threads at once, under a watchdog that says where each of them stands."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["Threads"]

T = TypeVar("T")

_BEGIN_LIMIT: Final = 10.0
"""Seconds that the threads have to get started."""


class Threads(Generic[T]):
    """Each of ``works`` in a thread of its own, all begun at the same moment.

    The threads are daemons: one that hangs fails its test, and not the end of the process.
    """

    def __init__(self, works: Sequence[Callable[[], T]]) -> None:
        self._begin = threading.Barrier(len(works))
        self._results: dict[int, T] = {}
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._do, args=work, name=f"work {work[0]}", daemon=True)
            for work in enumerate(works)
        ]
        for thread in self._threads:
            thread.start()

    def results(self, within: float) -> list[T]:
        """What each of them has returned, in order.

        Raises what one of them raised, or AssertionError if one needs more than ``within`` seconds.
        """
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        stuck = [thread for thread in self._threads if thread.is_alive()]
        assert not stuck, "\n".join(_whereabouts(thread) for thread in stuck)
        if self._errors:
            raise self._errors[0]
        return [self._results[number] for number in range(len(self._threads))]

    def _do(self, number: int, work: Callable[[], T]) -> None:
        try:
            self._begin.wait(_BEGIN_LIMIT)
            self._results[number] = work()
        except BaseException as error:
            self._errors.append(error)


def _whereabouts(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread.name} runs on:\n{''.join(traceback.format_stack(frame))}"
