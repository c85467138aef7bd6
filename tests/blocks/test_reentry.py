"""A block that was made once can be entered any number of times, and decorate async functions."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import text

from asgi_dbconn import DatabaseNotConnectedWarning, Registry
from tests.blocks.ends import BlockError
from tests.blocks.stage import Stage, registry_of

BLOCKS = ("transaction", "connection", "session")
F = TypeVar("F", bound=Callable[..., Any])


def decorated_by(block: Any) -> Callable[[F], F]:
    return cast("Callable[[F], F]", block)


@pytest.mark.parametrize("name", BLOCKS)
async def test_one_block_entered_again(stage: Stage, name: str) -> None:
    block = getattr(stage.models, name)()
    for number in range(3):
        async with block:
            await stage.create(f"item {number}")
    with pytest.raises(BlockError):
        async with block:
            await stage.create("gone")
            raise BlockError
    async with block:
        await stage.create("last")
    await stage.check("item 0", "item 1", "item 2", "last")


@pytest.mark.parametrize("name", BLOCKS)
async def test_each_entry_hands_out_its_own(stage: Stage, name: str) -> None:
    block = getattr(stage.models, name)()
    async with block as first:
        pass
    async with block as second:
        executor: Any = second.connection if name == "transaction" else second
        assert (await executor.execute(text("SELECT 1"))).scalar_one() == 1
    assert first is not second


@pytest.mark.parametrize("name", BLOCKS)
async def test_one_block_entered_inside_of_itself(stage: Stage, name: str) -> None:
    block = getattr(stage.models, name)()
    async with block:
        await stage.create("outer")
        async with block:
            await stage.create("inner")
        await stage.create("more")
    await stage.check("inner", "more", "outer")


async def test_an_inner_entry_is_a_savepoint(stage: Stage) -> None:
    block = stage.models.transaction()
    async with block:
        await stage.create("outer")
        with pytest.raises(BlockError):
            async with block:
                await stage.create("inner")
                raise BlockError
    await stage.check("outer")


@pytest.mark.parametrize("name", BLOCKS)
async def test_one_block_entered_by_several_tasks(stage: Stage, name: str) -> None:
    block = getattr(stage.models, name)()

    async def store(number: int) -> None:
        async with block:
            await stage.create(f"item {number}")
            await asyncio.sleep(0)
            if number % 2:
                raise BlockError

    await asyncio.gather(*(store(number) for number in range(6)), return_exceptions=True)
    await stage.check("item 0", "item 2", "item 4")


@pytest.mark.parametrize("name", BLOCKS)
async def test_a_decorator_makes_a_new_block_of_every_call(stage: Stage, name: str) -> None:
    @decorated_by(getattr(stage.models, name)())
    async def store(name: str, *, fails: bool = False) -> str:
        """Store an item."""
        await stage.create(name)
        if fails:
            raise BlockError
        return name.upper()

    assert store.__name__ == "store"
    assert store.__doc__ == "Store an item."
    assert inspect.iscoroutinefunction(store)
    assert list(inspect.signature(store).parameters) == ["name", "fails"]
    assert [await store("one"), await store("two")] == ["ONE", "TWO"]
    with pytest.raises(BlockError):
        await store("three", fails=True)
    await asyncio.gather(*(store(f"item {number}") for number in range(4)))
    await stage.check("item 0", "item 1", "item 2", "item 3", "one", "two")


async def test_a_decorated_function_that_calls_itself(stage: Stage) -> None:
    @decorated_by(stage.models.transaction())
    async def store(depth: int) -> None:
        await stage.create(f"level {depth}")
        if depth == 3:
            raise BlockError
        try:
            await store(depth + 1)
        except BlockError:
            await stage.create(f"after {depth}")

    await store(1)
    await stage.check("after 2", "level 1", "level 2")


async def test_a_decorated_method(stage: Stage) -> None:
    class Service:
        @decorated_by(stage.models.transaction())
        async def store(self, name: str) -> Service:
            await stage.create(name)
            return self

    service = Service()
    assert await service.store("one") is service
    assert await service.store("two") is service
    await stage.check("one", "two")


async def test_the_options_of_the_block_count_for_every_call(stage: Stage) -> None:
    @decorated_by(stage.models.transaction(force_rollback=True))
    async def store() -> None:
        await stage.create("gone")

    await store()
    await store()
    await stage.check()


async def test_blocks_of_the_database_itself(stage: Stage) -> None:
    database: Any = stage.models.database
    for name in BLOCKS:
        block = getattr(database, name)()
        for number in range(2):
            async with block:
                await stage.create(f"{name} {number}")

        @decorated_by(block)
        async def store(name: str) -> None:
            await stage.create(name)

        await store(f"{name} by decorator")
    assert len(stage.watcher.names()) == 9


def _sync_function() -> None: ...


def _generator() -> Iterator[int]:
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


class _Callable:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("name", [*BLOCKS, "with_schema"])
@pytest.mark.parametrize(
    "function",
    [_sync_function, _generator, _async_generator, _Callable(), 1],
    ids=["function", "generator", "async generator", "callable", "number"],
)
def test_what_is_no_async_function_is_refused_at_once(name: str, function: Any) -> None:
    models = Registry("sqlite://")
    block: Any = models.with_schema("tenant") if name == "with_schema" else getattr(models, name)()
    with pytest.raises(TypeError):
        block(function)


# -- schemas


@pytest.fixture
async def tenants(postgres_stage: Stage) -> Stage:
    for schema in ("one", "two"):
        postgres_stage.postgres.execute(
            f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.items (LIKE public.items INCLUDING ALL)"
        )
    return postgres_stage


def names_in(stage: Stage, schema: str) -> list[str]:
    return [row[0] for row in stage.postgres.fetch(f"SELECT name FROM {schema}.items ORDER BY 1")]


async def test_a_schema_block_entered_again(tenants: Stage) -> None:
    block = tenants.models.with_schema("one")
    for number in range(2):
        with block:
            await tenants.create(f"item {number}")
            with block:
                assert tenants.models.current_schema() == "one"
        assert tenants.models.current_schema() is None
    assert names_in(tenants, "one") == ["item 0", "item 1"]
    await tenants.check()


async def test_a_schema_block_entered_by_several_tasks(tenants: Stage) -> None:
    block = tenants.models.with_schema("one")

    async def store(number: int) -> None:
        with block:
            await asyncio.sleep(0)
            await tenants.create(f"item {number}")
        assert tenants.models.current_schema() is None

    await asyncio.gather(*(store(number) for number in range(4)))
    assert len(names_in(tenants, "one")) == 4


async def test_a_schema_block_decorates_async_functions(tenants: Stage) -> None:
    @decorated_by(tenants.models.with_schema("one"))
    async def store(name: str) -> str | None:
        await asyncio.sleep(0)
        await tenants.create(name)
        return tenants.models.current_schema()

    assert await store("a") == "one"
    assert tenants.models.current_schema() is None
    with tenants.models.with_schema("two"):
        assert await store("b") == "one"
        assert tenants.models.current_schema() == "two"
    await asyncio.gather(store("c"), store("d"))
    assert names_in(tenants, "one") == ["a", "b", "c", "d"]
    await tenants.check()


@pytest.mark.parametrize("name", BLOCKS)
async def test_the_schema_is_that_of_the_call(tenants: Stage, name: str) -> None:
    @decorated_by(getattr(tenants.models, name)())
    async def store(item: str) -> None:
        await tenants.create(item)

    block = getattr(tenants.models, name)()
    for schema in ("one", "two"):
        with tenants.models.with_schema(schema):
            await store("called")
            async with block as handle:
                executor: Any = handle.connection if name == "transaction" else handle
                await executor.execute(tenants.Item.__table__.insert().values(name="entered"))
    assert names_in(tenants, "one") == names_in(tenants, "two") == ["called", "entered"]
    await tenants.check()


# -- databases that nobody has connected


def _line_of(function: Callable[..., Any], text_of_line: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text_of_line in line)


async def test_the_line_that_is_blamed_is_that_of_the_call(stage: Stage) -> None:
    models, item = registry_of(stage.url, stage.watcher)
    block = models.transaction()

    @decorated_by(block)
    async def store() -> None:
        await item.query.create(name="decorated")

    with pytest.warns(DatabaseNotConnectedWarning) as caught:
        await store()  # the call
    test = test_the_line_that_is_blamed_is_that_of_the_call
    assert caught[0].filename == __file__
    assert caught[0].lineno in {_line_of(test, "# the call"), _line_of(test, 'name="decorated"')}
    async with models:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with block:
                await item.query.create(name="connected")
    await stage.check("connected", "decorated")
