"""A progress line on the terminal: the databases waited for, the error, the time left."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from asgi_dbconn.pools.observer import Observer

__all__ = ["Progress", "silence_log"]

_CLEARED_LINE: Final = "\r\x1b[K"
_PERIOD: Final = 0.2


class Progress(Observer):
    """A line on the standard error output inside of ``show()``, if that is a terminal."""

    def __init__(self, names: Collection[str], seconds: float) -> None:
        self._waiting_for = list(names)
        self._seconds = seconds
        self._reason = ""

    def connection_failed(self, database: str, error: Exception) -> None:
        self._reason = f": {error}"

    def remove(self, name: str) -> None:
        """Remove the database ``name``, which has answered, from the line."""
        self._waiting_for.remove(name)
        self._reason = ""

    @asynccontextmanager
    async def show(self) -> AsyncIterator[None]:
        """Draw the line again and again during the block, and clear it at the end."""
        if not (self._seconds and sys.stderr.isatty()):
            yield
            return
        drawing = asyncio.create_task(self._draw_lines(), name="drawing the progress")
        try:
            yield
        finally:
            drawing.cancel()
            sys.stderr.write(_CLEARED_LINE)
            sys.stderr.flush()

    async def _draw_lines(self) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._seconds
        while self._waiting_for:
            seconds = max(0, round(until - clock()))
            line = f"waiting {seconds} s more for {', '.join(self._waiting_for)}{self._reason}"
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"{_CLEARED_LINE}{line[:width]}")
            sys.stderr.flush()
            await asyncio.sleep(_PERIOD)


@contextmanager
def silence_log() -> Iterator[None]:
    """Do not print the package's log in the block, unless the user's code has set up logging."""
    handler = logging.NullHandler()
    logger = logging.getLogger("asgi_dbconn")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
