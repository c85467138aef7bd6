"""A line on the terminal that says what is waited for, why, and how much longer."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from asgi_dbconn.pools.observer import Observer

__all__ = ["Progress", "without_warnings"]

_CLEARED_LINE: Final = "\r\x1b[K"
_PERIOD: Final = 0.2


class Progress(Observer):
    """A line on the standard error output while ``shown()``, if that is a terminal."""

    def __init__(self, names: Collection[str], seconds: float) -> None:
        self._waited_for = list(names)
        self._seconds = seconds
        self._why = ""

    def connection_failed(self, database: str, error: Exception) -> None:
        self._why = f": {error}"

    def answered(self, name: str) -> None:
        """Note that ``name`` is no longer waited for."""
        self._waited_for.remove(name)
        self._why = ""

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        if not (self._seconds and sys.stderr.isatty()):
            yield
            return
        showing = asyncio.create_task(self._show(), name="showing the progress")
        try:
            yield
        finally:
            showing.cancel()
            sys.stderr.write(_CLEARED_LINE)
            sys.stderr.flush()

    async def _show(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._seconds
        while self._waited_for:
            seconds = max(0, round(until - clock()))
            line = f"waiting {seconds} s more for {', '.join(self._waited_for)}{self._why}"
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"{_CLEARED_LINE}{line[:width]}")
            sys.stderr.flush()
            await asyncio.sleep(_PERIOD)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep the package's log from being printed, unless the user's code has set logging up."""
    nowhere = logging.NullHandler()
    logger = logging.getLogger("asgi_dbconn")
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
