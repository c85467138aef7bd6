"""A schema change elsewhere, while the application runs, on PostgreSQL.

A verb of one statement that was refused before it ran is prepared anew and sent again, once. In a
transaction it is one clear error. What may have been executed is never sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from asgi_dbconn import ConnectionLost, QueryTimeout
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import Stage, open_stage

SIZE = 3
"""Connections of the pool; each has plans of its own."""
CHANGES = {
    "type": "ALTER TABLE items ALTER n TYPE bigint",
    "new column": "ALTER TABLE items ADD COLUMN x int",
    "dropped column": "ALTER TABLE items DROP COLUMN n; ALTER TABLE items ADD COLUMN n int",
    "new table": (
        "DROP TABLE items; CREATE TABLE items (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
        "n INT NOT NULL DEFAULT 0); INSERT INTO items (name, n) VALUES ('one', 1)"
    ),
}
Work = Callable[[Stage], Awaitable[object]]


@pytest.fixture
async def warm(postgres_url: str, other_process: OtherProcess) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, other_process, pool_size=SIZE) as stage:
        await stage.create("one")
        yield stage


async def on_every_connection(stage: Stage, work: Work) -> None:
    """Do the work twice on each connection of the pool, so that each has a plan for it."""
    everybody = asyncio.Barrier(SIZE)

    async def hold() -> None:
        async with stage.models.database.engine.connect():
            await everybody.wait()

    await asyncio.gather(*(hold() for _ in range(SIZE)))
    for _ in range(4):
        await asyncio.gather(*(work(stage) for _ in range(SIZE)))


async def errors_of(stage: Stage, work: Work, rounds: int = 4) -> list[BaseException]:
    """Return what the work raised, on all connections and several times."""
    outcomes: list[Any] = []
    for _ in range(rounds):
        outcomes += await asyncio.gather(
            *(work(stage) for _ in range(SIZE)), return_exceptions=True
        )
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


async def _get(stage: Stage) -> None:
    assert (await stage.Item.query.get(name="one")).name == "one"


async def _all(stage: Stage) -> None:
    assert await stage.Item.query.filter(name="one").order_by("name").all()


async def _values(stage: Stage) -> None:
    assert await stage.Item.query.filter(name="one").values_list("name", "n")


async def _create(stage: Stage) -> None:
    await stage.Item.query.create(name=f"item {id(object())} {asyncio.get_running_loop().time()}")


async def _update(stage: Stage) -> None:
    await stage.Item.query.filter(name="one").update(n=2)


async def _save(stage: Stage) -> None:
    item = await stage.Item.query.get(name="one")
    item.n = (item.n or 0) + 1
    await item.save()


async def _refresh(stage: Stage) -> None:
    item = await stage.Item.query.get(name="one")
    await item.refresh()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("work", [_get, _all, _values, _create, _update, _save, _refresh])
async def test_a_verb_outside_of_transactions_is_not_disturbed(
    warm: Stage, work: Work, change: str
) -> None:
    await on_every_connection(warm, work)
    warm.postgres.execute(CHANGES[change])
    assert await errors_of(warm, work) == []


async def _in_a_transaction(stage: Stage) -> None:
    async with stage.models.transaction():
        await _get(stage)


async def _star_in_a_connection(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(text("SELECT * FROM items"))


async def _in_a_session(stage: Stage) -> None:
    async with stage.models.session():
        await _all(stage)


@pytest.mark.parametrize("change", ["type", "new column"])
@pytest.mark.parametrize("work", [_in_a_transaction, _star_in_a_connection, _in_a_session])
async def test_in_a_transaction_it_is_one_clear_error_and_then_well(
    warm: Stage, work: Work, change: str
) -> None:
    await on_every_connection(warm, work)
    warm.postgres.execute(CHANGES[change])
    errors = await errors_of(warm, work)
    assert len(errors) <= SIZE
    for error in errors:
        assert isinstance(error, DBAPIError)
        assert "plan" in str(error)
    assert await errors_of(warm, work) == []


async def test_a_retry_in_autocommit_stores_once(warm: Stage) -> None:
    await on_every_connection(warm, _get)
    for number in range(SIZE):
        await warm.create(f"before {number}")
    warm.postgres.execute(CHANGES["type"])
    names = [f"after {number}" for number in range(10)]
    await asyncio.gather(*(warm.create(name) for name in names))
    assert [name for name in warm.watcher.names() if name.startswith("after")] == names


# -- what is never sent again

COUNTED = "SELECT nextval('calls'), n FROM hold"
"""A sequence counts also what is rolled back."""


async def _calls(stage: Stage) -> int:
    return int(stage.postgres.fetch("SELECT last_value FROM calls")[0][0])


async def test_a_statement_that_timed_out_is_not_sent_again(
    postgres_url: str, other_process: OtherProcess
) -> None:
    async with open_stage(postgres_url, other_process, query_timeout=0.2) as stage:
        stage.postgres.execute("CREATE SEQUENCE calls")
        stage.watcher.hold()
        with pytest.raises(QueryTimeout):
            await stage.models.database.run(
                lambda connection: connection.execute(text(COUNTED)), autocommit=True
            )
        assert await _calls(stage) == 1
        stage.watcher.release()


async def test_a_statement_whose_connection_was_lost_is_not_sent_again(
    postgres_stage: Stage,
) -> None:
    stage = postgres_stage
    stage.postgres.execute("CREATE SEQUENCE calls")
    stage.watcher.hold()
    task = asyncio.create_task(
        stage.models.database.run(
            lambda connection: connection.execute(text(COUNTED)), autocommit=True
        )
    )
    await stage.until_held()
    stage.postgres.terminate()
    with pytest.raises(ConnectionLost):
        await task
    stage.watcher.release()
    assert await _calls(stage) == 1
