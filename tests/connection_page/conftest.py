"""Each sample runs as a program of its own would: with fresh settings and its own instance."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from asgi_dbconn import monkay


@pytest.fixture(autouse=True)
def a_program_of_its_own() -> Iterator[None]:
    yield
    monkay.set_instance(None)
    monkay.clear_caches()
    # `echo` made SQLAlchemy write to this test's stdout, which is closed when the test is over.
    logging.getLogger("sqlalchemy.engine.Engine").handlers.clear()
