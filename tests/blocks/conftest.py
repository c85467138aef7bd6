"""A connected registry for every test of blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import Stage, open_stage

_LIMIT = 20
"""Seconds for one test; a block that waits for ever fails after them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(_LIMIT))


@pytest.fixture(scope="session")
def other_process() -> Iterator[OtherProcess]:
    process = OtherProcess()
    yield process
    process.close()


@pytest.fixture
async def stage(database_url: str, other_process: OtherProcess) -> AsyncIterator[Stage]:
    async with open_stage(database_url, other_process) as stage:
        yield stage


@pytest.fixture
async def postgres_stage(postgres_url: str, other_process: OtherProcess) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, other_process) as stage:
        yield stage


@pytest.fixture
async def sqlite_stage(sqlite_url: str, other_process: OtherProcess) -> AsyncIterator[Stage]:
    async with open_stage(sqlite_url, other_process) as stage:
        yield stage
