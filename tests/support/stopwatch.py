"""How long something takes, where that is what a test is about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["taking"]


@contextmanager
def taking(least: float = 0.0, *, most: float) -> Iterator[None]:
    """Inside of it, so many seconds pass.

    ``most`` lies nearer to what would happen if things went wrong than to what should happen: a
    machine that is busy with something else is late by tenths of a second, and tells nothing.
    """
    started = time.perf_counter()
    yield
    took = time.perf_counter() - started
    assert least <= took <= most, f"took {took:.3f} s, and not {least:g} to {most:g} s"
