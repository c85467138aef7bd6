"""``User.query``: the QuerySet and its writing verbs.

The reading verbs are in ``queryset_reads.py``, those that build a query in ``queryset_builder.py``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, overload

from sqlalchemy.exc import IntegrityError

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm import bulk, instance_verbs, update_delete
from asgi_dbconn.orm.binding import Binding
from asgi_dbconn.orm.lookups import conditions, equalities, field
from asgi_dbconn.orm.query import Query
from asgi_dbconn.orm.queryset_reads import QuerySetReads
from asgi_dbconn.orm.references import references_in
from asgi_dbconn.orm.target import QueryTarget, Work

__all__ = [
    "QuerySet",
]

R = TypeVar("R")
T = TypeVar("T")


_EMPTY: Mapping[str, Any] = {}


class QuerySet(QuerySetReads[T]):
    """An immutable query: every building method returns a new one.

    Nothing is sent before ``await``. ``await queryset`` returns the list of its objects. You may
    keep it, share it between tasks and loops, and await it many times: each time sends the query
    again. Objects come back detached, with every column loaded that is not deferred, and know their
    database and schema.
    """

    __slots__ = ()

    @classmethod
    def over(cls, model: type[T], binding: Binding, database: Database) -> QuerySet[T]:
        """Return the query of all rows of ``model``, whose table belongs to ``database``."""
        return cls(Query(model), QueryTarget(binding, database, database))

    def create(self, **values: Any) -> Coroutine[Any, Any, T]:
        """Store a new object. Return it with the values that the database filled in (keys,
        defaults).

        New or changed related objects are stored with it, all or none.
        """
        made = self._query.model(**values)
        return instance_verbs.store(self._target.here(), made, is_known=False)

    def get_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, **lookups: Any
    ) -> Coroutine[Any, Any, tuple[T, bool]]:
        """Return ``(object, created)``: the object that matches, or a new one.

        A new object gets the values of ``lookups`` and ``defaults``. A callable default is called
        only if the object is new.

        Safe under concurrency if a unique constraint covers the lookups: the task that comes second
        gets the object of the first. Raises MultipleObjectsReturned.
        """
        mapper = self._query.mapper
        values = equalities(mapper, lookups)
        return self.again()._get_or_create(self._matching(lookups), values, defaults)

    def update_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, **lookups: Any
    ) -> Coroutine[Any, Any, tuple[T, bool]]:
        """Return ``(object, created)``: the match, updated with ``defaults``, or a new object.

        One transaction, which locks the row before it updates it. Safe under concurrency like
        :meth:`get_or_create`.
        """
        mapper = self._query.mapper
        for name in defaults:
            field(mapper, name)
        values, found = equalities(mapper, lookups), self._matching(lookups).replace(lock={})
        return self.again()._update_or_create(found, values, defaults)

    @overload
    def bulk_create(
        self,
        rows: Iterable[T | Mapping[str, Any]],
        *,
        returning: Literal[False] = False,
        ignore_conflicts: bool = False,
        update_conflicts: Sequence[str] = (),
        unique_fields: Sequence[str] = (),
        batch_size: int = bulk.BATCH,
    ) -> Coroutine[Any, Any, int]: ...
    @overload
    def bulk_create(
        self,
        rows: Iterable[T | Mapping[str, Any]],
        *,
        returning: Literal[True],
        ignore_conflicts: bool = False,
        update_conflicts: Sequence[str] = (),
        unique_fields: Sequence[str] = (),
        batch_size: int = bulk.BATCH,
    ) -> Coroutine[Any, Any, list[T]]: ...
    def bulk_create(
        self,
        rows: Iterable[T | Mapping[str, Any]],
        *,
        returning: bool = False,
        ignore_conflicts: bool = False,
        update_conflicts: Sequence[str] = (),
        unique_fields: Sequence[str] = (),
        batch_size: int = bulk.BATCH,
    ) -> Coroutine[Any, Any, int | list[T]]:
        """Insert many rows, given as objects or as dicts, all or none. Return their number.

        With ``returning`` it returns the stored objects instead, in the order of ``rows``, which
        costs more. A row that exists already raises IntegrityError. With ``ignore_conflicts`` it is
        left out. With ``update_conflicts`` its fields of that name get the new values, and
        ``unique_fields`` (by default the primary key) tell which rows are the same. The given
        objects are not changed. Relationships and cascades are ignored.
        """
        plan = bulk.BulkInsert(
            self._query.mapper,
            rows,
            ignore_conflicts=ignore_conflicts,
            update_conflicts=update_conflicts,
            unique_fields=unique_fields,
            batch_size=batch_size,
        )
        work: Any = partial(bulk.insert_returning if returning else bulk.insert, plan=plan)
        nothing: Any = [] if returning else 0
        return self.again()._bulk(work, plan, nothing)

    def bulk_update(
        self, objects: Iterable[T], fields: Sequence[str], *, batch_size: int = bulk.BATCH
    ) -> Coroutine[Any, Any, int]:
        """Update these fields of many objects, by their primary keys, all or none.

        Return the number of rows found: fewer than given if rows are gone.
        """
        changes = bulk.BulkUpdate(self._query.mapper, objects, fields, batch_size=batch_size)
        return self.again()._bulk_update(changes)

    def update(self, **values: Any) -> Coroutine[Any, Any, int]:
        """Update all matching rows by one statement, without loading them. Return their number.

        Values may be expressions: ``update(visits=User.visits + 1)``.
        """
        work = update_delete.build_update(self._query, values)
        references = (*self._query.references, *references_in(values.values()))
        return self._target.here().run(work, autocommit=True, references=references)

    def delete(self) -> Coroutine[Any, Any, int]:
        """Delete all matching rows by one statement, without loading them. Return their number.

        Cascades are the database's (``ON DELETE``), not the relationship's.
        """
        work = update_delete.build_delete(self._query)
        references = self._query.references
        return self._target.here().run(work, autocommit=True, references=references)

    # -- inside

    def _matching(self, lookups: Mapping[str, Any]) -> Query[T]:
        if not lookups and not self._query.conditions:
            name = self._query.model.__name__
            raise ConfigurationError(
                f"Without lookups any {name} matches, and might be taken or overwritten. Say which "
                f"one is meant by name: get_or_create({{...}}, email=email). The first argument is "
                "the values of a new one."
            )
        found = self._query.with_conditions(*conditions(self._query.mapper, lookups))
        return found.with_limit(2)

    async def _get_or_create(
        self,
        looked_up: Query[T],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> tuple[T, bool]:
        found = await self._objects(self._at_most_one, looked_up)
        return (
            (found, False)
            if found is not None
            else await self._create_or_get(looked_up, {**values, **_call(defaults)})
        )

    async def _update_or_create(
        self,
        looked_up: Query[T],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> tuple[T, bool]:
        self._target.effective_schema()  # raises before anything begins
        async with self._target.database.verb_transaction():
            found = await self._objects(self._at_most_one, looked_up)
            defaults = _call(defaults)
            if found is None:
                made = {**values, **defaults}
                found, is_new = await self._create_or_get(looked_up, made)
                if is_new:
                    return found, True
            for name, value in defaults.items():
                setattr(found, name, value)
            return await instance_verbs.store(self._target, found), False

    async def _create_or_get(
        self, looked_up: Query[T], values: Mapping[str, Any]
    ) -> tuple[T, bool]:
        made = self._query.model(**values)
        try:
            if self._target.scope() is None:
                return await instance_verbs.store(self._target, made, is_known=False), True
            # In a scope its failure must not abort the whole transaction.
            async with self._target.database.verb_transaction():
                return await instance_verbs.store(self._target, made, is_known=False), True
        except IntegrityError:
            found = await self._objects(self._at_most_one, looked_up)
            if found is None:
                raise
            return found, False

    async def _bulk(self, work: Work[R], plan: bulk.BulkInsert, nothing: R) -> R:
        if not plan.rows:
            return nothing
        return await self._target.run(work, autocommit=False, references=plan.references)

    async def _bulk_update(self, changes: bulk.BulkUpdate) -> int:
        criteria = self._query.of_rows().options
        work = partial(bulk.update_by_key, changes=changes, criteria=criteria)
        if not changes.rows:
            return 0
        references = changes.references
        return await instance_verbs.run(self._target, work, alone=False, references=references)


def _call(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in defaults.items()}
