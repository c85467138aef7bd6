"""The PostgreSQL server that these tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    # One of our own in any case, because it is stopped.
    with PostgresServer("") as server:
        yield server
