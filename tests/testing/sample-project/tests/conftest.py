from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop.main import mails

from asgi_dbconn.testing import TestDatabase


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_mails() -> Iterator[None]:
    yield
    mails.clear()


@pytest.fixture(autouse=True)
def seen(dbconn_database: TestDatabase) -> None:
    """Tells the suite that runs this project which database each worker had."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    Path(os.environ["SEEN"], f"{worker}-{dbconn_database.name}").touch()
