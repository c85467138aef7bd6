"""What frameworks do to the whole process: its logging, and what they keep in memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_old_is_looked_through() -> None:
    """Frameworks keep what they have made; the search for leftovers need not see it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    """Lilya, Esmerald and Litestar configure the whole process's logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class _Ears(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = [word.rstrip(":") for word in record.getMessage().split()]
        self.heard += [word for word in words if word in {"connected", "disconnected"}]


@pytest.fixture
def opened_and_closed() -> Iterator[list[str]]:
    """Each time that a database really opens or closes; `connected` or `disconnected`."""
    logger, ears = logging.getLogger("asgi_dbconn"), _Ears()
    level = logger.level
    logger.addHandler(ears)  # not the root's, which frameworks replace
    logger.setLevel(logging.INFO)
    yield ears.heard
    logger.removeHandler(ears)
    logger.setLevel(level)
