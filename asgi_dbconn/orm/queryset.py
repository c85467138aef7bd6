"""``User.query``: an immutable description of a query, run when it is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    delete,
    exists,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, class_mapper

from asgi_dbconn.call_site import CallSite, building_line
from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm import loading
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice, DatabaseChoice
from asgi_dbconn.orm.errors import MultipleObjectsReturned, ObjectNotFound
from asgi_dbconn.orm.lookups import conditions, field, primary_key, primary_key_is

if TYPE_CHECKING:
    from sqlalchemy.sql._typing import _ColumnExpressionArgument

__all__ = ["QuerySet"]

T = TypeVar("T")
R = TypeVar("R")

_NOT_GIVEN: Final = object()


class QuerySet(Generic[T]):
    """Every building method returns a new one; nothing is sent before ``await``.

    ``await queryset`` gives the list of its objects. May be kept, shared between tasks and loops,
    and awaited many times: each time it asks the database anew. Objects come back detached, with
    every column that is not deferred loaded.
    """

    __slots__ = ("_binding", "_built_at", "_database", "_limit", "_model", "_order", "_where")

    def __init__(self, model: type[T], binding: Binding, database: Database) -> None:
        self._model = model
        self._binding = binding
        self._database = database
        self._where: tuple[ColumnElement[bool], ...] = ()
        self._order: tuple[Any, ...] = ()
        self._limit: int | None = None
        self._built_at = _built_at(database)

    def __asgi_dbconn_loop__(self) -> asyncio.AbstractEventLoop | None:
        # Where run_sync awaits it if the calling thread has no loop of its own.
        return self._database.home_loop

    # -- building

    def all(self) -> Self:
        """The same query; for those who like to read ``await User.query.all()``."""
        return self

    def filter(self, *expressions: _ColumnExpressionArgument[bool], **lookups: Any) -> Self:
        """Only rows for which all of these are true.

        Raises FieldError, at once, if a lookup names what the model does not have.
        """
        mapper = self._mapper
        added = (*expressions, *conditions(mapper, lookups))
        return self._with(_where=(*self._where, *added))

    def order_by(self, *fields: _ColumnExpressionArgument[Any] | str) -> Self:
        """Order by expressions or names; ``"-name"`` is descending. Replaces an earlier order."""
        return self._with(_order=tuple(self._ordering(each) for each in fields))

    def limit(self, rows: int) -> Self:
        """At most so many rows."""
        if rows < 0:
            raise ConfigurationError(f"limit() takes a number of rows of 0 or more, not {rows}.")
        return self._with(_limit=rows)

    def using(self, *, database: DatabaseChoice | Choice = INHERIT) -> Self:
        """Run on another database: a name of the registry, an object, or None for the default.

        Raises UnknownDatabase, at once, for a name that is not registered.
        """
        if isinstance(database, Choice):
            return self
        return self._with(_database=self._binding.find_database(database))

    @property
    def statement(self) -> Select[T]:
        """SQLAlchemy's own SELECT for this query, to look at, extend, or execute elsewhere."""
        statement = select(self._model).where(*self._where).order_by(*self._order)
        return statement if self._limit is None else statement.limit(self._limit)

    # -- reading

    def __await__(self) -> Generator[Any, Any, list[T]]:
        return self._read(list, self.statement, self._built_at).__await__()

    def get(self, pk: Any = _NOT_GIVEN, /, **lookups: Any) -> Coroutine[Any, Any, T]:
        """The one object that matches: ``get(5)`` by primary key, ``get(name="x")`` by lookups.

        Raises ObjectNotFound or MultipleObjectsReturned.
        """
        return self._read(self._exactly_one, self._narrowed(pk, lookups), self._line())

    def get_or_none(self, pk: Any = _NOT_GIVEN, /, **lookups: Any) -> Coroutine[Any, Any, T | None]:
        """Like :meth:`get`, but None where nothing matches."""
        return self._read(self._at_most_one, self._narrowed(pk, lookups), self._line())

    def first(self) -> Coroutine[Any, Any, T | None]:
        """The first object in the query's order (without one, by primary key), or None."""
        ordered = self if self._order else self._with(_order=tuple(primary_key(self._mapper)))
        rows = 1 if self._limit is None else min(self._limit, 1)
        return self._read(_first, ordered.limit(rows).statement, self._line())

    def count(self) -> Coroutine[Any, Any, int]:
        """How many rows match."""
        if self._limit is None:
            statement = select(func.count()).select_from(self._model).where(*self._where)
        else:
            statement = select(func.count()).select_from(self._keys().subquery())
        return self._run(partial(loading.scalar, statement=statement), self._line())

    def exists(self) -> Coroutine[Any, Any, bool]:
        """Whether any row matches."""
        statement = select(exists(self._keys()))
        return self._run(partial(loading.scalar, statement=statement), self._line())

    # -- writing

    def create(self, **values: Any) -> Coroutine[Any, Any, T]:
        """A new object, stored, with what the database filled in (keys, defaults)."""
        instance = self._model(**values)
        mapper = self._mapper
        # Asked of the object: related ones may come under other names, or from its constructor.
        related = any(instance.__dict__.get(each.key) for each in mapper.relationships)
        alone = len(mapper.tables) == 1 and not related
        work: Callable[[Connection], T] = partial(loading.insert, instance=instance)
        return self._run(work, self._line(), autocommit=alone)

    def update(self, **values: Any) -> Coroutine[Any, Any, int]:
        """Change all matching rows at once, without loading them; gives the number of rows.

        Values may be expressions: ``update(visits=User.visits + 1)``.
        """
        changes = {field(self._mapper, name): value for name, value in values.items()}
        if not changes:
            raise ConfigurationError("update() needs at least one field=value.")
        statement = update(self._model).values(changes)
        others = [name for name in values if not _is_local(self._mapper, name)]
        if others:
            raise ConfigurationError(
                f"{', '.join(others)} of {self._model.__name__} lie in another table than its own "
                "columns, and one UPDATE changes one table. Update them on the parent class."
            )
        return self._change(statement, self._line())

    def delete(self) -> Coroutine[Any, Any, int]:
        """Delete all matching rows at once, without loading them; gives the number of rows.

        Cascades are the database's (``ON DELETE``), not the relationship's.
        """
        if len(self._mapper.tables) > 1:
            raise ConfigurationError(
                f"A {self._model.__name__} has rows in several tables, and one DELETE deletes from "
                "one. Load the objects and delete them in models.session()."
            )
        return self._change(delete(self._model), self._line())

    # -- inside

    @property
    def _mapper(self) -> Mapper[T]:
        return class_mapper(self._model)

    def _with(self, **changes: Any) -> Self:
        copy = object.__new__(type(self))
        for name in QuerySet.__slots__:
            setattr(copy, name, changes[name] if name in changes else getattr(self, name))
        return copy

    def _line(self) -> CallSite | None:
        return _built_at(self._database)

    def _ordering(self, by: Any) -> Any:
        if not isinstance(by, str):
            return by
        attribute = field(self._mapper, by.removeprefix("-"))
        return attribute.desc() if by.startswith("-") else attribute.asc()

    def _narrowed(self, pk: Any, lookups: dict[str, Any]) -> Select[Any]:
        narrowed = self.filter(**lookups)
        if pk is not _NOT_GIVEN:
            narrowed = narrowed.filter(primary_key_is(self._mapper, pk))
        # Two rows are enough to know that there are too many.
        return (narrowed if self._limit is not None else narrowed.limit(2)).statement

    def _keys(self) -> Select[*tuple[Any, ...]]:
        statement = select(*primary_key(self._mapper)).where(*self._where)
        if self._limit is None:
            return statement
        return statement.order_by(*self._order).limit(self._limit)

    def _change(
        self, statement: Update | Delete, built_at: CallSite | None
    ) -> Coroutine[Any, Any, int]:
        if self._limit is None and len(self._mapper.tables) == 1:
            narrowed = statement.where(*self._where)
        else:
            # Neither UPDATE nor DELETE has a LIMIT of its own, nor the joins of an inheritance:
            # a condition on the parent's table would match every row of the child's.
            narrowed = statement.where(_key_of(self._mapper).in_(self._keys()))
        work: Callable[[Connection], int] = partial(loading.affected, statement=narrowed)
        return self._run(work, built_at)

    async def _read(
        self, shape: Callable[[Any], R], statement: Select[Any], built_at: CallSite | None
    ) -> R:
        complete = statement.options(*loading.whole_objects(self._mapper))
        objects = await self._database.run(
            partial(loading.load, statement=complete),
            autocommit=loading.is_one_statement(self._mapper),
            built_at=built_at,
        )
        return shape(objects)

    async def _run(
        self,
        work: Callable[[Connection], R],
        built_at: CallSite | None,
        *,
        autocommit: bool = True,
    ) -> R:
        return await self._database.run(work, autocommit=autocommit, built_at=built_at)

    def _at_most_one(self, objects: list[T]) -> T | None:
        if len(objects) > 1:
            raise MultipleObjectsReturned(
                f"More than one {self._model.__name__} matches. "
                "Narrow the query, or take first() of an ordered one."
            )
        return objects[0] if objects else None

    def _exactly_one(self, objects: list[T]) -> T:
        found = self._at_most_one(objects)
        if found is None:
            raise ObjectNotFound(
                f"No {self._model.__name__} matches. Where that is expected, use get_or_none()."
            )
        return found


def _built_at(database: Database) -> CallSite | None:
    # Walking the stack costs more than building the query: only where a warning may need it.
    return None if database.is_connected else building_line()


def _first(objects: list[T]) -> T | None:
    return objects[0] if objects else None


def _key_of(mapper: Mapper[Any]) -> Any:
    key = primary_key(mapper)
    return key[0] if len(key) == 1 else tuple_(*key)


def _is_local(mapper: Mapper[Any], name: str) -> bool:
    attribute = mapper.column_attrs.get(name)
    return attribute is None or any(
        getattr(column, "table", None) is mapper.local_table for column in attribute.columns
    )
