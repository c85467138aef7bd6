"""The registry under test, and the steps that only this package has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import BigInteger, ForeignKey, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn import Queryable, Registry
from tests.histories import steps as language
from tests.histories.log import Log
from tests.histories.runner import Place, Runner, Write, cancelling
from tests.histories.steps import Program, Step

__all__ = ["Product", "ProductRunner"]

_INSERT: Final = text("INSERT INTO items (token, value) VALUES (:token, :value)")
_SLOW_SQLITE: Final = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < :steps) "
    "SELECT count(*) FROM c"
)
_STEPS_PER_SECOND: Final = 6_000_000
"""About as many steps of a recursive query does SQLite in a second."""

_NEEDED: Final = {
    language.OnCommit: "on_commit",
    language.RollBack: "on_commit",
    language.SessionCommit: "flush",
    language.SessionRollback: "flush",
    language.SessionAdd: "flush",
    language.Raw: "connection",
}
"""The method that tells the handle that a step is for."""


class Product:
    """A registry with its models, which is connected anew for every history."""

    def __init__(self, url: str, pool_size: int, query_timeout: float | None) -> None:
        self.models = models = Registry(
            url,
            pool_size=pool_size,
            query_timeout=query_timeout,
            acquire_timeout=3.0,
            shutdown_timeout=2.0,
            connect_timeout=2.0,
        )
        self.is_sqlite = url.startswith("sqlite")

        class Base(Queryable, DeclarativeBase, registry=models):
            pass

        class Item(Base):
            __tablename__ = "items"
            id: Mapped[int] = mapped_column(primary_key=True)
            token: Mapped[str] = mapped_column(unique=True)
            value: Mapped[int] = mapped_column(BigInteger)
            parts: Mapped[list[Part]] = relationship(back_populates="item")

        class Part(Base):
            __tablename__ = "parts"
            id: Mapped[int] = mapped_column(primary_key=True)
            token: Mapped[str] = mapped_column(unique=True)
            item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))
            item: Mapped[Item] = relationship(back_populates="parts")

        class Counter(Base):
            __tablename__ = "counters"
            id: Mapped[int] = mapped_column(primary_key=True)
            total: Mapped[int]

        self.Item: Any = Item
        self.Part: Any = Part
        self.Counter: Any = Counter


class ProductRunner(Runner):
    """Executes a program on a connected product."""

    def __init__(self, product: Product, program: Program, log: Log, process: int = 0) -> None:
        super().__init__(program, log, process)
        self._product = product
        self._models = product.models
        self._item = product.Item
        self._objects: dict[str, Any] = {}

    # -- what every object mapper has

    def block(self, step: language.Block) -> AbstractAsyncContextManager[Any]:
        if step.kind == "connection":
            return self._models.connection()
        if step.kind == "session":
            return self._models.session()
        options: dict[str, Any] = {}
        if step.force_rollback:
            options["force_rollback"] = True
        if step.isolation is not None:
            options["isolation_level"] = step.isolation
        return self._models.transaction(**options)

    async def create(self, token: str, value: int) -> None:
        await self._item.query.create(token=token, value=value)

    async def update(self, token: str, value: int) -> int:
        hits: int = await self._item.query.filter(token=token).update(value=value)
        return hits

    async def remove(self, token: str) -> int:
        hits: int = await self._item.query.filter(token=token).delete()
        return hits

    async def increment(self, counter: int) -> None:
        model = self._product.Counter
        await model.query.filter(id=counter).update(total=model.total + 1)

    async def read_counter(self, counter: int) -> int:
        query = self._product.Counter.query.filter(id=counter)
        row = await (query if self._product.is_sqlite else query.with_for_update()).get()
        total: int = row.total
        return total

    async def write_counter(self, counter: int, value: int) -> None:
        await self._product.Counter.query.filter(id=counter).update(total=value)

    async def get(self, token: str) -> int | None:
        found = await self._item.query.get_or_none(token=token)
        return None if found is None else found.value

    async def count(self) -> int:
        total: int = await self._item.query.count()
        return total

    async def slow(self, seconds: float) -> None:
        values: dict[str, float]
        if self._product.is_sqlite:
            sql, values = _SLOW_SQLITE, {"steps": int(seconds * _STEPS_PER_SECOND)}
        else:
            sql, values = "SELECT pg_sleep(:seconds)", {"seconds": seconds}
        await self._models.database.run(
            lambda connection: connection.execute(text(sql), values).all(), autocommit=True
        )

    # -- steps of its own

    async def step_of_its_own(self, step: Step, at: Place) -> None:
        needed = _NEEDED.get(type(step))
        if needed is not None and not hasattr(type(at.handle), needed):
            return  # its block was cut away
        match step:
            case language.BulkCreate(tokens, value):
                rows = [{"token": token, "value": value} for token in tokens]
                writes: list[Write] = [("put", token, value) for token in tokens]
                await self.operation(
                    at, "bulk_create", writes, lambda: self._item.query.bulk_create(rows)
                )
            case language.Rerun():
                await self._rerun(step, at)
            case language.Stream():
                await self._stream(step, at)
            case language.Abandon(rows):
                await self.operation(
                    at, "abandon", [], lambda: asyncio.create_task(self._leave_early(rows))
                )
            case language.Forsake(token, how):
                await self.operation(
                    at, "forsake", [("put", token, -2)], lambda: self._forsake(token, how),
                )  # fmt: skip
            case language.OnCommit(mark):
                self.log.write("registered", block=at.block, mark=mark)
                await self.operation(at, "on_commit", [], lambda: self._register(at.handle, mark))
            case language.RollBack():
                await self._by_hand(at, "rollback", at.handle.rollback)
            case language.SessionCommit():
                await self._by_hand(at, "commit", at.handle.commit)
            case language.SessionRollback():
                await self._by_hand(at, "rollback", at.handle.rollback)
            case language.SessionAdd(token, value):
                await self.operation(
                    at, "session.add", [("put", token, value)],
                    lambda: self._add(at.handle, token, value),
                )  # fmt: skip
            case language.Raw():
                await self._raw(step, at)
            case _:
                await self._object_step(step, at)

    async def _by_hand(self, at: Place, what: str, call: Callable[[], Awaitable[Any]]) -> None:
        number = self.log.number()
        self.log.write("by hand", number=number, block=at.block, task=at.task, what=what)
        try:
            await call()
        except BaseException as error:
            self.log.write("by hand failed", number=number, error=self.log.describe(error))
            raise
        self.log.write("by hand done", number=number)

    async def _rerun(self, step: language.Rerun, at: Place) -> None:
        call = self.log.number()

        async def function() -> None:
            # An attempt is a block whose end is seen by what comes after it.
            number = self.log.number()
            self.log.write(
                "block", block=number, task=at.task, outer=at.block, type="attempt",
                force_rollback=False, call=call,
            )  # fmt: skip
            self.log.write("entered", block=number)
            try:
                await self.steps(step.body, Place(at.request, at.task, number))
            except BaseException as error:
                self.log.write("body ended", block=number, error=self.log.describe(error))
                raise
            self.log.write("body ended", block=number, error=None)

        options: dict[str, Any] = {}
        if step.isolation is not None:
            options["isolation_level"] = step.isolation
        self.log.write("call", call=call, task=at.task, block=at.block)
        try:
            await self._models.run_transaction(function, **options)
        except BaseException as error:
            self.log.write(
                "returned", call=call, error=self.log.describe(error), cancelling=cancelling()
            )
            raise
        self.log.write("returned", call=call, error=None)

    async def _stream(self, step: language.Stream, at: Place) -> None:
        stream = self._item.query.order_by("id").stream(step.rows)

        async def read(here: Place) -> None:
            rows = aiter(here.handle)
            first = await self.operation(here, "fetch", [], lambda: anext(rows, None))
            await self.steps(step.body, replace(here, handle=at.handle))
            while first is not None:
                first = await self.operation(here, "fetch", [], lambda: anext(rows, None))

        # Inside of a block it is a part of that one, and not a unit of its own.
        kind = "stream" if at.block is None else "inner stream"
        await self.in_block(at, kind, stream, read)

    async def _leave_early(self, rows: int) -> None:
        async def all_of_them() -> AsyncIterator[Any]:
            async with self._item.query.stream(rows) as items:
                async for item in items:
                    yield item

        async for _ in all_of_them():
            break

    async def _forsake(self, token: str, how: str) -> None:
        async with self._models.database.engine.connect() as connection:
            pooled = await connection.get_raw_connection()
            driver: Any = pooled.driver_connection
            if how == "driver" and not self._product.is_sqlite:
                await driver.transaction().start()
            else:
                await driver.execute("BEGIN")
            await driver.execute(f"INSERT INTO items (token, value) VALUES ('{token}', -2)")

    async def _register(self, handle: Any, mark: str) -> None:
        handle.on_commit(lambda: self.log.write("called back", mark=mark))

    async def _add(self, session: Any, token: str, value: int) -> None:
        session.add(self._item(token=token, value=value))
        await session.flush()

    async def _raw(self, step: language.Raw, at: Place) -> None:
        values = {"token": step.token, "value": step.value}
        handle = at.handle

        async def execute() -> None:
            if step.door == "session":
                await handle.execute(_INSERT, values)
                return
            connection: AsyncConnection
            if hasattr(handle, "get_raw_connection"):
                connection = handle
            elif step.door == "driver" and hasattr(handle, "flush"):
                connection = await handle.connection()
            else:
                connection = handle.connection
            if step.door == "connection":
                await connection.execute(_INSERT, values)
                return
            pooled = await connection.get_raw_connection()
            driver: Any = pooled.driver_connection
            await driver.execute(
                f"INSERT INTO items (token, value) VALUES ('{step.token}', {step.value})"
            )

        await self.operation(at, f"raw {step.door}", [("put", step.token, step.value)], execute)

    # -- objects

    async def _object_step(self, step: Step, at: Place) -> None:
        match step:
            case language.New(name, token, value):
                self._objects[name] = self._item(token=token, value=value)
                return
            case language.Family(name, token, value):
                parent = self._item(token=token, value=value)
                parent.parts = [self._product.Part(token=f"{token}.{part}") for part in (1, 2)]
                self._objects[name] = parent
                return
            case language.Load(name, token):
                found = await self.operation(
                    at, "load", [], lambda: self._item.query.get_or_none(token=token), object=name
                )
                if found is not None:
                    self._objects[name] = found
                return
            case language.BulkUpdate(names):
                await self._bulk_update(names, at)
                return
        name = step.name  # type: ignore[union-attr]
        instance = self._objects.get(name)
        if instance is None:
            return
        match step:
            case language.Change(_, value):
                instance.value = value
            case language.Save():
                await self.save(name, at)
            case language.Delete() if _is_stored(instance):
                await self.operation(
                    at, "delete", [("delete", instance.token, None)], instance.delete, object=name
                )
            case language.Refresh() if _is_stored(instance):
                await self.operation(at, "refresh", [], instance.refresh, object=name)

    async def save(self, name: str, at: Place, as_operation: str = "save") -> None:
        """Save the object ``name``; what it says that it would write is written down."""
        instance = self._objects[name]
        await self.operation(at, as_operation, _writes_of(instance), instance.save, object=name)

    async def save_new(self, token: str, value: int) -> None:
        """Save a new object that nobody keeps."""
        await self._item(token=token, value=value).save()

    async def _bulk_update(self, names: tuple[str, ...], at: Place) -> None:
        found = [self._objects[name] for name in names if name in self._objects]
        stored = [instance for instance in found if _is_stored(instance)]
        if not stored or len({instance.id for instance in stored}) < len(stored):
            return
        # It says how many rows it found, and not which: an object may have lost its row.
        await self.operation(
            at, "bulk_update", [("put", row.token, row.value) for row in stored],
            lambda: self._item.query.bulk_update(stored, ["value"]),
            expects=len(stored), objects=list(names),
        )  # fmt: skip

    @property
    def models(self) -> Registry:
        return self._models

    @property
    def objects(self) -> dict[str, Any]:
        return self._objects

    def describe_objects(self, when: str) -> None:
        """Write down what each object says about itself and its row."""
        for name, instance in self._objects.items():
            state, known = instance_state(instance), instance.__dict__
            self.log.write(
                "object", when=when, name=name, id=known.get("id"), token=known.get("token"),
                value=known.get("value"), is_stored=state.key is not None,
                is_modified=_is_changed(state), is_unknown=_is_unknown(state),
                parts=[part.__dict__.get("token") for part in known.get("parts", ())],
            )  # fmt: skip


def _is_stored(instance: Any) -> bool:
    return instance_state(instance).key is not None


def _is_changed(state: Any) -> bool:
    # SQLAlchemy's flag stays when the last change has been noted as stored by hand.
    return bool(state.modified and state.committed_state)


def _is_unknown(state: Any) -> bool:
    """Return whether the object knows that it may show what was rolled back since it was loaded."""
    return "value" in state.info.get("asgi_dbconn.unknown", ()) and not _is_changed(state)


def _writes_of(instance: Any) -> list[Write]:
    state, known = instance_state(instance), instance.__dict__
    writes: list[Write] = []
    if state.key is None or _is_changed(state):
        writes.append(("put", known.get("token", "?"), known.get("value")))
    writes += [
        ("put", part.token, 0)
        for part in known.get("parts", ())
        if instance_state(part).key is None
    ]
    return writes
