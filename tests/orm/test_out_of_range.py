"""A value that no row can have finds no row, and lists may be of any length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import BigInteger, SmallInteger, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ObjectNotFound, Queryable, Registry

MANY = 40_000
SIZES = [2**15, 2**31, 2**63, 2**100, -(2**15) - 1, -(2**31) - 1, -(2**63) - 1, -(2**100)]


@asynccontextmanager
async def items(url: str) -> AsyncIterator[Any]:
    models = Registry(url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Item(Base):
        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        small: Mapped[int | None] = mapped_column(SmallInteger)
        usual: Mapped[int | None]
        big: Mapped[int | None] = mapped_column(BigInteger)
        name: Mapped[str | None]

    class Pair(Base):
        __tablename__ = "pairs"
        left: Mapped[int] = mapped_column(primary_key=True)
        right: Mapped[int] = mapped_column(primary_key=True)

    async with models:
        await models.create_all()
        await Item.query.bulk_create([{"small": 1, "usual": 1, "big": 1}, {"name": "nulls"}])
        await Pair.query.create(left=1, right=1)
        Item.pair = Pair
        yield Item


@pytest.mark.parametrize("size", SIZES)
async def test_a_key_out_of_range_finds_no_row(database_url: str, size: int) -> None:
    async with items(database_url) as Item:
        assert await Item.query.get_or_none(size) is None
        with pytest.raises(ObjectNotFound):
            await Item.query.get(pk=size)
        assert not await Item.query.filter(id=size).exists()
        assert await Item.query.filter(pk__in=[1, size]).count() == 1
        assert await Item.pair.query.get_or_none((1, size)) is None
        assert await Item.pair.query.filter(pk__in=[(1, 1), (1, size), (size, size)]).count() == 1
        assert await Item.query.filter(id=size).update(name="x") == 0
        assert await Item.query.filter(id=size).delete() == 0


LOOKUPS: dict[str, Callable[[int, int], bool]] = {
    "exact": lambda value, size: value == size,
    "ne": lambda value, size: value != size,
    "lt": lambda value, size: value < size,
    "lte": lambda value, size: value <= size,
    "gt": lambda value, size: value > size,
    "gte": lambda value, size: value >= size,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["small", "usual", "big"])
async def test_comparisons_out_of_range_are_those_of_numbers(
    database_url: str, name: str, size: int
) -> None:
    async with items(database_url) as Item:
        for lookup, compare in LOOKUPS.items():
            found = Item.query.filter(**{f"{name}__{lookup}": size})
            assert await found.count() == compare(1, size), lookup
            # Where it is unknown, because of a NULL, a row stays.
            unwanted = Item.query.exclude(**{f"{name}__{lookup}": size})
            assert await unwanted.count() == 2 - compare(1, size), lookup
        low, high = min(0, size), max(0, size)
        between = Item.query.filter(**{f"{name}__range": (low, high)})
        assert await between.count() == (low <= 1 <= high)
        assert await Item.query.filter(**{f"{name}__in": [1, size]}).count() == 1
        assert await Item.query.exclude(**{f"{name}__in": [size]}).count() == 2


async def test_sqlite_finds_a_key_that_its_integers_hold(sqlite_url: str) -> None:
    async with items(sqlite_url) as Item:
        await Item.query.create(id=2**40, usual=2**50)
        assert (await Item.query.get(2**40)).usual == 2**50
        assert await Item.query.filter(usual=2**50, pk__in=[2**40, 7]).exists()
        assert await Item.query.filter(usual__lt=2**60).count() == 2


async def test_a_key_out_of_range_does_not_abort_the_transaction(database_url: str) -> None:
    async with items(database_url) as Item:
        async with Item.query._target.database.transaction():
            await Item.query.create(name="kept")
            assert await Item.query.get_or_none(2**63) is None
            assert await Item.query.filter(id__in=[2**31, 2**100]).count() == 0
        assert await Item.query.filter(name="kept").exists()


async def test_a_list_may_have_more_values_than_a_driver_takes_parameters(
    database_url: str,
) -> None:
    async with items(database_url) as Item:
        numbers = range(10, 10 + MANY)
        await Item.query.bulk_create(
            ({"id": number, "usual": number, "name": f"it's {number}"} for number in numbers),
            batch_size=MANY,
        )
        assert await Item.query.filter(id__in=numbers).count() == MANY
        names = [f"it's {number}" for number in numbers]
        assert await Item.query.filter(name__in=[*names, None]).count() == MANY + 1
        assert await Item.query.exclude(id__in=numbers).count() == 2
        objects = await Item.query.filter(id__gte=10)
        for instance in objects:
            instance.usual = 5
        assert await Item.query.bulk_update(objects, ["usual"], batch_size=MANY) == MANY
        assert await Item.query.filter(id__in=numbers, usual=5).delete() == MANY


class Code:
    """A value that can be compared with ``==`` and has no order."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class CodeType(TypeDecorator[Code]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Code | None, _: Any) -> str | None:
        return None if value is None else f"c-{value.text}"

    def process_result_value(self, value: str | None, _: Any) -> Code | None:
        return None if value is None else Code(value.removeprefix("c-"))


async def test_keys_without_an_order_are_updated_in_bulk(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Part(Base):
        __tablename__ = "parts"
        code: Mapped[Code] = mapped_column(CodeType, primary_key=True)
        stock: Mapped[int] = mapped_column(default=0)

    async with models:
        await models.create_all()
        await Part.query.bulk_create([{"code": Code(letter)} for letter in "bca"])
        parts = await Part.query
        for part in parts:
            part.stock = 3
        assert await Part.query.bulk_update(parts, ["stock"]) == 3
        assert await Part.query.filter(stock=3, code__in=[Code("a"), Code("z")]).count() == 1
