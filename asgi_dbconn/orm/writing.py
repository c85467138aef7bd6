"""The part of a QuerySet that writes."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, overload

from sqlalchemy import (
    ColumnClause,
    Delete,
    FromClause,
    TextClause,
    Update,
    delete,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.visitors import iterate

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm import bulk, graph, objects, storing
from asgi_dbconn.orm.description import Description
from asgi_dbconn.orm.lookups import column, conditions, equalities, field
from asgi_dbconn.orm.place import Work
from asgi_dbconn.orm.reading import Reading

__all__ = ["Writing"]

R = TypeVar("R")
T = TypeVar("T")
_EMPTY: Mapping[str, Any] = {}


class Writing(Reading[T]):
    """Outside of a scope each verb is committed when it returns."""

    __slots__ = ()

    def create(self, **values: Any) -> Coroutine[Any, Any, T]:
        """A new object, stored, with what the database filled in (keys, defaults).

        Related objects that are new or changed are stored along, all or none.
        """
        return objects.store(self._place, self._description.model(**values), self._line())

    def get_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, **lookups: Any
    ) -> Coroutine[Any, Any, tuple[T, bool]]:
        """The one that matches, or a new one made of ``lookups`` and ``defaults``; and whether it
        is new. A default that can be called is called, if it is needed.

        Safe where others do the same at the same time, if a unique constraint covers the lookups:
        the one who comes second gets the other's object. Raises MultipleObjectsReturned.
        """
        mapper = self._description.mapper
        values = equalities(mapper, lookups)
        return self._get_or_create(self._looked_up(lookups), values, defaults, self._line())

    def update_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, **lookups: Any
    ) -> Coroutine[Any, Any, tuple[T, bool]]:
        """The one that matches, changed to ``defaults``, or a new one; and whether it is new.

        In one transaction, with the row locked in between; safe like :meth:`get_or_create`.
        """
        mapper = self._description.mapper
        for name in defaults:
            field(mapper, name)
        values, found = equalities(mapper, lookups), self._looked_up(lookups).changed(lock={})
        return self._update_or_create(found, values, defaults, self._line())

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
        """Store many rows, given as objects or as dicts, all or none; gives how many.

        With ``returning`` it gives the stored objects instead, in the order of ``rows``, which
        costs more. A row that is there already is an IntegrityError, or is left out with
        ``ignore_conflicts``, or gets the new values of the fields in ``update_conflicts``, where
        ``unique_fields`` (by default the primary key) say what makes it the same. Objects that
        are given are not changed; relations and cascades are not looked at.
        """
        plan = bulk.Insertion(
            self._description.mapper,
            rows,
            ignore_conflicts=ignore_conflicts,
            update_conflicts=update_conflicts,
            unique_fields=unique_fields,
            batch_size=batch_size,
        )
        work: Any = partial(bulk.insert_returning if returning else bulk.insert, plan=plan)
        nothing: Any = [] if returning else 0
        return self._bulk(work, plan.rows, nothing, self._line())

    def bulk_update(
        self, objects: Iterable[T], fields: Sequence[str], *, batch_size: int = bulk.BATCH
    ) -> Coroutine[Any, Any, int]:
        """Store these fields of many objects, by their primary keys, all or none; gives how many
        there were: fewer than given, if rows are gone.
        """
        changes = bulk.Changes(self._description.mapper, objects, fields, batch_size=batch_size)
        return self._bulk_update(changes, self._line())

    def update(self, **values: Any) -> Coroutine[Any, Any, int]:
        """Change all matching rows at once, without loading them; gives the number of rows.

        Values may be expressions: ``update(visits=User.visits + 1)``.
        """
        mapper = self._description.mapper
        changes = {column(mapper, name): value for name, value in values.items()}
        if not changes:
            raise ConfigurationError("update() needs at least one field=value.")
        others = [name for name in values if not _is_local(mapper, name)]
        if others:
            raise ConfigurationError(
                f"{', '.join(others)} of {mapper.class_.__name__} lie in another table than its "
                "own columns, and one UPDATE changes one table. Update them on the parent class."
            )
        return self._change(update(mapper.class_).values(changes), self._line())

    def delete(self) -> Coroutine[Any, Any, int]:
        """Delete all matching rows at once, without loading them; gives the number of rows.

        Cascades are the database's (``ON DELETE``), not the relationship's.
        """
        mapper = self._description.mapper
        if len(mapper.tables) > 1:
            raise ConfigurationError(
                f"A {mapper.class_.__name__} has rows in several tables, and one DELETE deletes "
                "from one. Load the objects and delete them in models.session()."
            )
        return self._change(delete(mapper.class_), self._line())

    # -- inside

    def _looked_up(self, lookups: Mapping[str, Any]) -> Description[T]:
        found = self._description.narrowed(*conditions(self._description.mapper, lookups))
        return found.limited(2)

    async def _get_or_create(
        self,
        looked_up: Description[T],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any],
        built_at: CallSite | None,
    ) -> tuple[T, bool]:
        found = await self._objects(self._at_most_one, looked_up, built_at)
        return (
            (found, False)
            if found is not None
            else await self._create_or_get(looked_up, {**values, **_called(defaults)}, built_at)
        )

    async def _update_or_create(
        self,
        looked_up: Description[T],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any],
        built_at: CallSite | None,
    ) -> tuple[T, bool]:
        async with self._place.database.transaction():
            found = await self._objects(self._at_most_one, looked_up, built_at)
            defaults = _called(defaults)
            if found is None:
                made = {**values, **defaults}
                found, is_new = await self._create_or_get(looked_up, made, built_at)
                if is_new:
                    return found, True
            for name, value in defaults.items():
                setattr(found, name, value)
            return await objects.store(self._place, found, built_at), False

    async def _create_or_get(
        self, looked_up: Description[T], values: Mapping[str, Any], built_at: CallSite | None
    ) -> tuple[T, bool]:
        made = self._description.model(**values)
        try:
            if not self._place.is_in_scope():
                return await objects.store(self._place, made, built_at), True
            # In a scope it may fail without taking the rest of the transaction along.
            async with self._place.database.transaction():
                return await objects.store(self._place, made, built_at), True
        except IntegrityError:
            graph.take_out(made)
            found = await self._objects(self._at_most_one, looked_up, built_at)
            if found is None:
                raise
            return found, False

    async def _bulk(
        self, work: Work[R], rows: Sequence[Any], nothing: R, built_at: CallSite | None
    ) -> R:
        if not rows:
            return nothing
        return await self._place.run(work, autocommit=False, built_at=built_at)

    async def _bulk_update(self, changes: bulk.Changes, built_at: CallSite | None) -> int:
        work = partial(bulk.update_by_key, changes=changes)
        if not changes.rows:
            return 0
        changed = await objects.run(self._place, work, alone=False, built_at=built_at)
        changes.settle()
        return changed

    def _change(
        self, statement: Update | Delete, built_at: CallSite | None
    ) -> Coroutine[Any, Any, int]:
        description = self._description
        is_plain = _is_about_one_table(description)
        if is_plain:
            # Said again beside a slice: who waited for a row that was changed meanwhile looks at
            # it once more.
            statement = statement.where(*description.where)
        if not is_plain or description.is_sliced or description.lock is not None:
            # Neither UPDATE nor DELETE has a LIMIT of its own, nor the joins of an inheritance:
            # a condition on the parent's table would match every row of the child's.
            statement = statement.where(description.key_column().in_(_picked(description)))
        work = partial(storing.affected, statement=statement)
        return self._place.run(work, autocommit=True, built_at=built_at)


def _is_about_one_table(description: Description[Any]) -> bool:
    mapper = description.mapper
    if len(mapper.tables) > 1:
        return False
    inside = [each for condition in description.where for each in iterate(condition)]
    # Most conditions are about columns of the model, and seeing that is cheap.
    if not any(isinstance(each, FromClause | TextClause) for each in inside) and all(
        each.table is not None and each.table in mapper.tables
        for each in inside
        if isinstance(each, ColumnClause)
    ):
        return True
    # Others may have tables of their own inside, as those of an EXISTS, or bring them along.
    return len(select(*mapper.primary_key).where(*description.where).get_final_froms()) == 1


def _picked(description: Description[Any]) -> Any:
    keys = description.keys()
    if description.lock is None:
        return keys
    # Locked once, and not for each row that is looked at.
    picked = keys.with_for_update(**description.lock).cte("picked")
    return select(*picked.c)


def _called(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in defaults.items()}


def _is_local(mapper: Mapper[Any], name: str) -> bool:
    attribute = mapper.column_attrs.get(name)
    return attribute is None or any(
        getattr(column, "table", None) is mapper.local_table for column in attribute.columns
    )
