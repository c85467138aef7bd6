"""However wildly tenants are mixed, nobody sees or writes a row of another."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from tests.support.postgres import PostgresServer
from tests.tenants.models import Letting, letting, rows

pytestmark = pytest.mark.postgres

TASKS: Final = 50
SECONDS: Final = 1.0


Step = Callable[[], Awaitable[None]]


class _Enough(Exception):
    """Ends a block by an error."""


class Tenant:
    """What one task does for one tenant; it looks at the tenant of every row that it gets."""

    def __init__(self, made: Letting, schema: str, random_: random.Random) -> None:
        self.made = made
        self.models = made.models
        self.schema = schema
        self.random = random_
        self.seen: Counter[str] = Counter()

    def new(self) -> dict[str, Any]:
        return {"tenant": self.schema, "name": f"{self.schema} {self.random.getrandbits(64)}"}

    def look(self, tenants: Any) -> None:
        self.seen.update(tenants)

    async def query(self) -> None:
        houses = await self.made.House.query.prefetch_related("rooms").order_by("-id").limit(3)
        self.look(house.tenant for house in houses)
        self.look(room.tenant for house in houses for room in house.rooms)

    async def write(self) -> None:
        house = await self.made.House.query.create(
            **self.new(), rooms=[self.made.Room(tenant=self.schema)]
        )
        with self.models.with_schema(self.random.choice([None, "t0", "t1"])):
            house.name = f"{house.name} saved"
            await house.save()
            await house.refresh()
        self.look([house.tenant])

    async def write_many(self) -> None:
        House = self.made.House
        for house in await House.query.bulk_create([self.new(), self.new()], returning=True):
            self.look([house.tenant])
        await House.query.filter(tenant=self.schema).order_by("-id").limit(2).update(mood=None)

    async def fail(self) -> None:
        taken = self.new()
        await self.made.House.query.create(**taken)
        with pytest.raises(IntegrityError):
            await self.made.House.query.create(**taken)

    async def transact(self) -> None:
        async with self.models.transaction() as transaction:
            await self.made.House.query.create(**self.new())
            await transaction.connection.execute(insert(self.made.House), self.new())
            with self.models.with_schema(self.random.choice([None, "t0", "t1"])):
                await self.made.House.query.limit(1)
            await self.raw(transaction.connection)
            if self.random.random() < 0.5:
                raise _Enough

    async def raw(self, connection: Any) -> None:
        table = self.made.House.__table__
        self.look(await connection.scalars(select(table.c.tenant).limit(3)))

    async def session(self) -> None:
        async with self.models.session() as session:
            session.add(self.made.House(**self.new()))
            self.look((await session.scalars(select(self.made.House.tenant).limit(3))).all())
            session.add(self.made.House(**self.new()))  # flushed at the end

    async def connection(self) -> None:
        async with self.models.connection() as connection:
            await connection.execute(insert(self.made.House), self.new())
            await self.raw(connection)

    async def stream(self) -> None:
        async with self.made.House.query.stream(2) as houses:
            async for house in houses:
                self.look([house.tenant])
                if self.random.random() < 0.3:
                    break

    async def cancelled(self) -> None:
        work = asyncio.create_task(self.random.choice([self.transact, self.write, self.query])())
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.wait({work})
        if not work.cancelled() and not isinstance(work.exception(), _Enough):
            work.result()

    @property
    def steps_on_one_connection(self) -> list[Step]:
        return [
            self.query,
            self.write,
            self.write_many,
            self.transact,
            self.session,
            self.connection,
            self.stream,
        ]

    async def step(self) -> None:
        # What fails or is cancelled would take the one transaction of everybody along.
        steps = [*self.steps_on_one_connection, self.fail, self.cancelled]
        with self.models.with_schema(self.schema):
            with suppress(_Enough):
                await self.random.choice(steps)()


def assert_kept_apart(
    postgres: PostgresServer, url: str, schemas: list[str], tenants: list[Tenant]
) -> None:
    for tenant in tenants:
        assert set(tenant.seen) <= {tenant.schema}
    for schema in schemas:
        assert {name.partition(" ")[0] for name in rows(postgres, url, schema)} == {schema}
        assert set(rows(postgres, url, schema, "rooms")) <= {schema}
        assert any(tenant.seen for tenant in tenants if tenant.schema == schema)
    assert rows(postgres, url, "public") == rows(postgres, url, "public", "rooms") == []


@pytest.mark.parametrize("number", [2, 10])
async def test_tenants_on_one_pool_stay_apart(
    postgres: PostgresServer, postgres_url: str, number: int
) -> None:
    schemas = [f"t{index}" for index in range(number)]
    async with letting(postgres_url, *schemas, pool_size=5, acquire_timeout=30.0) as made:
        tenants = [
            Tenant(made, schemas[index % number], random.Random(index)) for index in range(TASKS)
        ]
        deadline = time.monotonic() + SECONDS

        async def live(tenant: Tenant) -> None:
            while time.monotonic() < deadline:
                await tenant.step()

        async with asyncio.TaskGroup() as tasks:
            for tenant in tenants:
                tasks.create_task(live(tenant))
    assert_kept_apart(postgres, postgres_url, schemas, tenants)


async def test_tenants_on_one_connection_stay_apart(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Fifty tasks of two tenants, all inside of one transaction that is nobody's."""
    schemas = ["t0", "t1"]
    async with letting(postgres_url, *schemas, pool_size=1) as made:
        tenants = [
            Tenant(made, schemas[number % 2], random.Random(number)) for number in range(TASKS)
        ]
        deadline = time.monotonic() + SECONDS

        async def live(tenant: Tenant) -> None:
            with made.models.with_schema(tenant.schema):
                while time.monotonic() < deadline:
                    with suppress(_Enough):
                        await tenant.random.choice(tenant.steps_on_one_connection)()

        async with made.models.transaction(), asyncio.TaskGroup() as tasks:
            for tenant in tenants:
                tasks.create_task(live(tenant))
    assert_kept_apart(postgres, postgres_url, schemas, tenants)
