"""The part of a QuerySet that writes."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, overload

from sqlalchemy import Delete, Update, delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm import bulk, storing
from asgi_dbconn.orm.lookups import conditions, equalities, field
from asgi_dbconn.orm.objects import is_stored_alone
from asgi_dbconn.orm.reading import Reading

__all__ = ["Writing"]

T = TypeVar("T")
_EMPTY: Mapping[str, Any] = {}


class Writing(Reading[T]):
    """Outside of a scope each verb is committed when it returns."""

    __slots__ = ()

    def create(self, **values: Any) -> Coroutine[Any, Any, T]:
        """A new object, stored, with what the database filled in (keys, defaults)."""
        return self._insert(self._description.model(**values), self._line())

    async def get_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, /, **lookups: Any
    ) -> tuple[T, bool]:
        """The one that matches, or a new one made of ``lookups`` and ``defaults``; and whether it
        is new.

        Safe where others do the same at the same time, if a unique constraint covers the lookups:
        the one who comes second gets the other's object. Raises MultipleObjectsReturned.
        """
        line = self._line()
        found = await self._objects(self._at_most_one, self._looked_up(lookups), line)
        if found is not None:
            return found, False
        values = {**equalities(self._description.mapper, lookups), **_called(defaults)}
        try:
            return await self._insert_or_undo(values, line), True
        except IntegrityError:
            found = await self._objects(self._at_most_one, self._looked_up(lookups), line)
            if found is None:
                raise
            return found, False

    async def update_or_create(
        self, defaults: Mapping[str, Any] = _EMPTY, /, **lookups: Any
    ) -> tuple[T, bool]:
        """The one that matches, changed to ``defaults``, or a new one; and whether it is new.

        In one transaction, with the row locked in between; safe like :meth:`get_or_create`.
        """
        line = self._line()
        async with self._place.database.transaction():
            found = await self._objects(self._at_most_one, self._locked(lookups), line)
            if found is None:
                values = {**equalities(self._description.mapper, lookups), **_called(defaults)}
                try:
                    return await self._insert_or_undo(values, line), True
                except IntegrityError:
                    found = await self._objects(self._at_most_one, self._locked(lookups), line)
                    if found is None:
                        raise
            for name, value in _called(defaults).items():
                setattr(found, field(self._description.mapper, name).key, value)
            work = partial(storing.change, instance=found)
            await self._place.run(work, autocommit=False, built_at=line)
            return found, False

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
            [bulk.values_of(self._description.mapper, each) for each in rows],
            ignore_conflicts=ignore_conflicts,
            update_conflicts=update_conflicts,
            unique_fields=unique_fields,
            batch_size=batch_size,
        )
        work: Any = partial(bulk.insert_returning if returning else bulk.insert, plan=plan)
        return self._place.run(work, autocommit=False, built_at=self._line())

    def bulk_update(
        self, objects: Iterable[T], fields: Sequence[str], *, batch_size: int = bulk.BATCH
    ) -> Coroutine[Any, Any, int]:
        """Store these fields of many objects, by their primary keys, all or none; gives how many
        were given.
        """
        mapper = self._description.mapper
        names = [field(mapper, each).key for each in fields]
        if not names:
            raise ConfigurationError("bulk_update() needs at least one field.")
        rows = [bulk.key_and_values(mapper, each, names) for each in objects]
        work = partial(bulk.update_by_key, mapper=mapper, rows=rows, batch_size=batch_size)
        return self._place.run(work, autocommit=False, built_at=self._line())

    def update(self, **values: Any) -> Coroutine[Any, Any, int]:
        """Change all matching rows at once, without loading them; gives the number of rows.

        Values may be expressions: ``update(visits=User.visits + 1)``.
        """
        mapper = self._description.mapper
        changes = {field(mapper, name): value for name, value in values.items()}
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

    def _looked_up(self, lookups: Mapping[str, Any]) -> Any:
        found = self._description.narrowed(*conditions(self._description.mapper, lookups))
        return found.limited(2)

    def _locked(self, lookups: Mapping[str, Any]) -> Any:
        return self._looked_up(lookups).changed(lock={})

    async def _insert(self, instance: T, built_at: CallSite | None) -> T:
        work = partial(storing.insert, instance=instance)
        alone = is_stored_alone(instance)
        stored: T = await self._place.run(work, autocommit=alone, built_at=built_at)
        return stored

    async def _insert_or_undo(self, values: Mapping[str, Any], built_at: CallSite | None) -> T:
        # In a scope it may fail without taking the rest of the transaction along.
        if not self._place.is_in_scope():
            return await self._insert(self._description.model(**values), built_at)
        async with self._place.database.transaction():
            return await self._insert(self._description.model(**values), built_at)

    def _change(
        self, statement: Update | Delete, built_at: CallSite | None
    ) -> Coroutine[Any, Any, int]:
        description = self._description
        if not description.is_sliced and len(description.mapper.tables) == 1:
            narrowed = statement.where(*description.where)
        else:
            # Neither UPDATE nor DELETE has a LIMIT of its own, nor the joins of an inheritance:
            # a condition on the parent's table would match every row of the child's.
            narrowed = statement.where(description.key_column().in_(description.keys()))
        work = partial(storing.affected, statement=narrowed)
        return self._place.run(work, autocommit=True, built_at=built_at)


def _called(defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in defaults.items()}


def _is_local(mapper: Mapper[Any], name: str) -> bool:
    attribute = mapper.column_attrs.get(name)
    return attribute is None or any(
        getattr(column, "table", None) is mapper.local_table for column in attribute.columns
    )
