"""The part of a QuerySet that reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar, overload

from sqlalchemy import Select
from sqlalchemy.engine import Row
from sqlalchemy.orm import QueryableAttribute

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.orm import loading
from asgi_dbconn.orm.building import Building
from asgi_dbconn.orm.description import Description
from asgi_dbconn.orm.errors import MultipleObjectsReturned, ObjectNotFound
from asgi_dbconn.orm.lookups import conditions, field, primary_key_is
from asgi_dbconn.orm.streaming import Stream

__all__ = ["NOT_GIVEN", "Reading"]

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V")

NOT_GIVEN: Final = object()


class Reading(Building[T]):
    """Objects come back detached, with every column that is not deferred loaded."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, list[T]]:
        return self._objects(list, self._description, self._built_at).__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        # Fetched first, then iterated: a loop that is left early would otherwise keep the
        # connection until the garbage collector comes by. stream() is for many rows.
        for each in await self:
            yield each

    def stream(self, rows: int = 1000) -> Stream[T]:
        """``async with User.query.stream(500) as users:``, then ``async for user in users``.

        Never holds more than ``rows`` objects at a time. The block has a connection, and gives it
        back at its end, however it is left; inside a scope it reads on that scope's connection,
        and takes turns with others for each fetch.
        """
        return Stream(self._description, self._place, rows, self._place.built_at())

    def get(self, pk: Any = NOT_GIVEN, /, **lookups: Any) -> Coroutine[Any, Any, T]:
        """The one object that matches: ``get(5)`` by primary key, ``get(name="x")`` by lookups.

        Raises ObjectNotFound or MultipleObjectsReturned.
        """
        return self._objects(self._exactly_one, self._narrowed(pk, lookups), self._line())

    def get_or_none(self, pk: Any = NOT_GIVEN, /, **lookups: Any) -> Coroutine[Any, Any, T | None]:
        """Like :meth:`get`, but None where nothing matches."""
        return self._objects(self._at_most_one, self._narrowed(pk, lookups), self._line())

    def first(self) -> Coroutine[Any, Any, T | None]:
        """The first object in the query's order (without one, by primary key), or None."""
        return self._objects(_first, self._description.ordered().limited(1), self._line())

    def last(self) -> Coroutine[Any, Any, T | None]:
        """The last object in the query's order (without one, by primary key), or None."""
        description = self._description
        if description.is_sliced:  # the last of these, not the first of the others
            return self._objects(_last, description.ordered(), self._line())
        return self._objects(_first, description.reversed().limited(1), self._line())

    def count(self) -> Coroutine[Any, Any, int]:
        """How many rows match."""
        return self._value(self._description.count())

    def exists(self) -> Coroutine[Any, Any, bool]:
        """Whether any row matches."""
        return self._value(self._description.exists())

    def values(self, *fields: str | Any) -> Coroutine[Any, Any, list[dict[str, Any]]]:
        """A dict for each row instead of an object, with these fields or with every column."""
        return self._rows(lambda rows: [dict(each._mapping) for each in rows], fields)

    @overload
    def values_list(
        self, *fields: str | Any, flat: Literal[False] = False
    ) -> Coroutine[Any, Any, list[tuple[Any, ...]]]: ...
    @overload
    def values_list(
        self, field: QueryableAttribute[V], /, *, flat: Literal[True]
    ) -> Coroutine[Any, Any, list[V]]: ...
    @overload
    def values_list(
        self, field: str | Any, /, *, flat: Literal[True]
    ) -> Coroutine[Any, Any, list[Any]]: ...
    def values_list(self, *fields: str | Any, flat: bool = False) -> Coroutine[Any, Any, list[Any]]:
        """A tuple for each row instead of an object; with ``flat=True`` the one field's values."""
        if flat and len(fields) != 1:
            raise TypeError(f"values_list(flat=True) takes one field, not {len(fields)}.")
        return self._rows((lambda rows: [each[0] for each in rows]) if flat else _tuples, fields)

    # -- inside

    def _line(self) -> CallSite | None:
        return self._place.built_at()

    def _narrowed(self, pk: Any, lookups: dict[str, Any]) -> Description[T]:
        mapper = self._description.mapper
        found = self._description.narrowed(*conditions(mapper, lookups))
        if pk is not NOT_GIVEN:
            found = found.narrowed(primary_key_is(mapper, pk))
        # Two rows are enough to know that there are too many.
        return found.limited(2)

    def _rows(
        self, shape: Callable[[Sequence[Row[*tuple[Any, ...]]]], R], fields: tuple[Any, ...]
    ) -> Coroutine[Any, Any, R]:
        mapper = self._description.mapper
        chosen: list[Any] = [
            field(mapper, each) if isinstance(each, str) else each for each in fields
        ] or [getattr(mapper.class_, each.key) for each in mapper.column_attrs]
        return self._shaped_rows(shape, self._description.columns(*chosen), self._line())

    async def _shaped_rows(
        self,
        shape: Callable[[Sequence[Row[*tuple[Any, ...]]]], R],
        statement: Select[*tuple[Any, ...]],
        built_at: CallSite | None,
    ) -> R:
        work = partial(loading.load_rows, statement=statement)
        return shape(await self._place.run(work, autocommit=True, built_at=built_at))

    def _value(self, statement: Select[V]) -> Coroutine[Any, Any, V]:
        work = partial(loading.scalar, statement=statement)
        return self._place.run(work, autocommit=True, built_at=self._line())

    async def _objects(
        self,
        shape: Callable[[Sequence[T]], R],
        description: Description[T],
        built_at: CallSite | None,
    ) -> R:
        mapper = description.mapper
        statement = description.objects().options(*loading.whole_objects(mapper))
        is_simple = not description.options and loading.is_one_statement(mapper)
        work = partial(loading.load, statement=statement)
        return shape(await self._place.run(work, autocommit=is_simple, built_at=built_at))

    def _at_most_one(self, objects: Sequence[T]) -> T | None:
        if len(objects) > 1:
            raise MultipleObjectsReturned(
                f"More than one {self._description.model.__name__} matches. "
                "Narrow the query, or take first() of an ordered one."
            )
        return objects[0] if objects else None

    def _exactly_one(self, objects: Sequence[T]) -> T:
        found = self._at_most_one(objects)
        if found is None:
            raise ObjectNotFound(
                f"No {self._description.model.__name__} matches. "
                "Where that is expected, use get_or_none()."
            )
        return found


def _first(objects: Sequence[T]) -> T | None:
    return objects[0] if objects else None


def _last(objects: Sequence[T]) -> T | None:
    return objects[-1] if objects else None


def _tuples(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    return [tuple(each) for each in rows]
