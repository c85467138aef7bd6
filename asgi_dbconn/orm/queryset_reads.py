"""The reading verbs of a QuerySet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar, overload

from sqlalchemy import Label, Select
from sqlalchemy.engine import Row
from sqlalchemy.orm import ColumnProperty, QueryableAttribute

from asgi_dbconn.errors import FieldError, TransactionError
from asgi_dbconn.orm import object_loading
from asgi_dbconn.orm.errors import MultipleObjectsReturned, ObjectNotFound
from asgi_dbconn.orm.fast_path.hydration import has_statement_listeners
from asgi_dbconn.orm.lookups import conditions, has_no_value, primary_key_is
from asgi_dbconn.orm.query import Query, cached_statement
from asgi_dbconn.orm.queryset_builder import QuerySetBuilder
from asgi_dbconn.orm.references import references_in
from asgi_dbconn.orm.streaming import Stream
from asgi_dbconn.orm.target import Work

__all__ = ["NOT_GIVEN", "QuerySetReads"]

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V")
Rows = Sequence[Row[*tuple[Any, ...]]]

NOT_GIVEN: Final = object()


class QuerySetReads(QuerySetBuilder[T]):
    """The reading verbs.

    Objects come back detached, with every column loaded that is not deferred.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, list[T]]:
        return self._objects(list, self._query).__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        # Fetch first, then iterate: a loop that is left early would otherwise keep the connection
        # until it is garbage-collected. stream() is for many rows.
        for instance in await self:
            yield instance

    def stream(self, rows: int = 1000) -> Stream[T]:
        """Return a stream of the objects.

        ``async with User.query.stream(500) as users:``, then ``async for user in users``.

        It never holds more than ``rows`` objects at a time. The block checks out a connection, and
        returns it at its end, however it is left. Inside a scope it reads on that scope's
        connection, and takes the statement lock for each fetch.
        """
        return Stream(self._query, self._target, rows)

    def get(self, pk: Any = NOT_GIVEN, /, **lookups: Any) -> Coroutine[object, None, T]:
        """Return the one object that matches.

        ``get(5)`` is by primary key, ``get(name="x")`` by lookups.
        Raises ObjectNotFound or MultipleObjectsReturned.
        """
        return self.again()._get(self._exactly_one, pk, lookups)

    def get_or_none(
        self, pk: Any = NOT_GIVEN, /, **lookups: Any
    ) -> Coroutine[object, None, T | None]:
        """Return the same as :meth:`get`, or None if nothing matches."""
        return self.again()._get(self._at_most_one, pk, lookups)

    def first(self) -> Coroutine[object, None, T | None]:
        """Return the first object in the query's order (by default, primary key), or None."""
        return self.again()._objects(_first, self._query.with_order().with_limit(1))

    def last(self) -> Coroutine[object, None, T | None]:
        """Return the last object in the query's order (by default, primary key), or None."""
        return self.again()._objects(_last, self._query.last())

    def count(self) -> Coroutine[object, None, int]:
        """Return how many rows match."""
        return self.again()._value("count", Query.count)

    def exists(self) -> Coroutine[object, None, bool]:
        """Return whether any row matches."""
        return self.again()._value("exists", Query.exists)

    def values(self, *fields: str | Any) -> Coroutine[object, None, list[dict[str, Any]]]:
        """Return a dict per row instead of an object.

        Its keys are these fields, or every column that is not deferred. The key of an expression is
        its ``label()``.
        """
        names = [field if isinstance(field, str) else _name(field) for field in fields]
        for name in names:
            if name is not None and names.count(name) > 1:
                raise FieldError(
                    f"Two of the fields are called {name!r}, and a dict holds one. Give one of "
                    "them another name by label()."
                )
        names = names or [attribute.key for attribute in self._loaded_attributes()]
        return self.again()._select_rows(partial(_dicts, names), "values", fields)

    @overload
    def values_list(
        self, *fields: str | Any, flat: Literal[False] = False
    ) -> Coroutine[object, None, list[tuple[Any, ...]]]: ...
    @overload
    def values_list(
        self, field: QueryableAttribute[V], /, *, flat: Literal[True]
    ) -> Coroutine[object, None, list[V]]: ...
    @overload
    def values_list(
        self, field: str | Any, /, *, flat: Literal[True]
    ) -> Coroutine[object, None, list[Any]]: ...
    def values_list(
        self, *fields: str | Any, flat: bool = False
    ) -> Coroutine[object, None, list[Any]]:
        """Return a tuple per row instead of an object.

        With ``flat=True`` return the value of one field.
        """
        if flat and len(fields) != 1:
            raise TypeError(f"values_list(flat=True) takes one field, not {len(fields)}.")
        return self.again()._select_rows(_firsts if flat else _tuples, "values_list", fields)

    # -- inside

    def _get(
        self, convert: Callable[[Sequence[T]], R], pk: Any, lookups: dict[str, Any]
    ) -> Coroutine[object, None, R]:
        work = None
        if pk is not NOT_GIVEN and not lookups:
            work = object_loading.load_by_key(self._query, pk)
        if work is None:
            return self._objects(convert, self._with_lookups(pk, lookups))
        return self._run_and_shape(convert, work)

    async def _run_and_shape(
        self,
        convert: Callable[[Sequence[T]], R],
        work: Work[Sequence[T]],
    ) -> R:
        return convert(
            await self._target.run(work, autocommit=True, references=self._query.references)
        )

    def _with_lookups(self, pk: Any, lookups: dict[str, Any]) -> Query[T]:
        mapper = self._query.mapper
        found = self._query.with_conditions(*conditions(mapper, lookups))
        if pk is not NOT_GIVEN:
            found = found.with_conditions(primary_key_is(mapper, pk))
        is_sliced = found.is_sliced
        if found.order and not is_sliced:
            found = found.replace(order=())
        if (is_sliced or found.lock is not None) and found.repeats_objects:
            return found
        # Two objects prove that more than one matches.
        return found.with_limit(2)

    def _columns_of(self, verb: str, fields: tuple[Any, ...]) -> list[Any]:
        if fields:
            return [self._column(verb, field) for field in fields]
        return [
            getattr(self._query.model, attribute.key) for attribute in self._loaded_attributes()
        ]

    def _loaded_attributes(self) -> list[ColumnProperty[Any]]:
        mapper = self._query.mapper
        return [
            attribute
            for attribute in mapper.column_attrs
            if not attribute.deferred and not has_no_value(mapper, attribute.key)
        ]

    def _select_rows(
        self, convert: Callable[[Rows], R], verb: str, fields: tuple[Any, ...]
    ) -> Coroutine[object, None, R]:
        def build(query: Query[T]) -> Select[*tuple[Any, ...]]:
            return query.columns(*self._columns_of(verb, fields))

        query = self._query
        if query.options:
            query = query.of_rows()
        if all(isinstance(field, str) for field in fields):
            statement, values = cached_statement(query, ("columns", fields), build)
        else:
            statement, values = build(query), None
            compared = references_in(field for field in fields if not isinstance(field, str))
            query = query.replace(references=(*query.references, *compared))
        work = partial(
            object_loading.load_rows,
            statement=statement,
            parameters=values,
            in_session=bool(query.options) or has_statement_listeners(),
        )
        return self._run_rows(convert, work, query)

    async def _run_rows(self, convert: Callable[[Rows], R], work: Work[Rows], query: Query[T]) -> R:
        self._check_lock(query)
        return convert(await self._target.run(work, autocommit=True, references=query.references))

    def _value(
        self, what: str, build: Callable[[Query[T]], Select[V]]
    ) -> Coroutine[object, None, V]:
        query = self._query
        if query.options:
            query = query.of_rows()
        statement, values = cached_statement(query, what, build)
        work = partial(
            object_loading.scalar,
            statement=statement,
            parameters=values,
            in_session=bool(query.options) or has_statement_listeners(),
        )
        return self._target.run(work, autocommit=True, references=query.references)

    async def _objects(
        self,
        convert: Callable[[Sequence[T]], R],
        query: Query[T],
    ) -> R:
        self._check_lock(query)
        work, is_single_statement = object_loading.load_by_query(query)
        return convert(
            await self._target.run(
                work, autocommit=is_single_statement, references=query.references
            )
        )

    def _check_lock(self, query: Query[T]) -> None:
        if query.lock is not None and self._target.scope() is None:
            raise TransactionError(
                "with_for_update() locks rows until the transaction ends, and here it would end at "
                "once. Use it inside `async with models.transaction()`."
            )

    def _at_most_one(self, objects: Sequence[T]) -> T | None:
        if len(objects) > 1:
            raise MultipleObjectsReturned(
                f"More than one {self._query.model.__name__} matches. "
                "Narrow the query, or take first() of an ordered one."
            )
        return objects[0] if objects else None

    def _exactly_one(self, objects: Sequence[T]) -> T:
        found = self._at_most_one(objects)
        if found is None:
            raise ObjectNotFound(
                f"No {self._query.model.__name__} matches. "
                "Where that is expected, use get_or_none()."
            )
        return found


def _first(objects: Sequence[T]) -> T | None:
    return objects[0] if objects else None


def _last(objects: Sequence[T]) -> T | None:
    return objects[-1] if objects else None


def _tuples(rows: Rows) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


def _firsts(rows: Rows) -> list[Any]:
    return [row[0] for row in rows]


def _dicts(names: Sequence[str | None], rows: Rows) -> list[dict[str, Any]]:
    if not rows:
        return []
    # By attribute name, which may differ from the column name.
    named = [name or key for name, key in zip(names, rows[0]._fields, strict=True)]
    return [dict(zip(named, row, strict=True)) for row in rows]


def _name(expression: Any) -> str | None:
    """Return the name in Python, or None if only the database names it."""
    return expression.key if isinstance(expression, QueryableAttribute | Label) else None
