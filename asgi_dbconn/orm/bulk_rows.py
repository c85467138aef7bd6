"""The rows of bulk verbs: plain values, read from dicts or from objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import (
    ColumnProperty,
    Mapper,
    RelationshipDirection,
    RelationshipProperty,
    SynonymProperty,
    object_mapper,
)
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import LoaderCallableStatus

from asgi_dbconn.errors import ConfigurationError, FieldError
from asgi_dbconn.orm.lookups import field
from asgi_dbconn.orm.references import Reference

__all__ = ["RowReader"]

Values = dict[str, Any]
_Read = Callable[[Any], Values]


class RowReader:
    """The reader of the rows of one model, for one statement.

    It remembers how each field is read.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._mapper = mapper
        self.references: set[Reference] = set()
        """The objects to which rows refer by their relationships."""
        self._reads: dict[str, _Read] = {}
        self._defaults = _constructor_defaults(mapper)
        self._relations = [
            relationship for relationship in mapper.relationships if not relationship.viewonly
        ]

    def values_of(self, row: Any) -> Values:
        """Return the values of a row by column attribute.

        Raises FieldError or ConfigurationError for a value that would be lost.
        """
        values: Values = {}
        if isinstance(row, Mapping):
            for name, value in row.items():
                values.update(self._read(name)(value))
            for name, make in self._defaults.items():
                if name not in values:
                    values[name] = make()
            return values
        if not isinstance(row, self._mapper.class_) or object_mapper(row) is not self._mapper:
            raise ConfigurationError(
                f"A row of {self._mapper.class_.__name__} is a dict or an object of that class, "
                f"not {type(row).__name__}."
            )
        present = instance_dict(row)
        values = {
            attribute.key: present[attribute.key]
            for attribute in self._mapper.column_attrs
            if attribute.key in present and _is_stored(attribute)
        }
        for relation in self._relations:
            related = present.get(relation.key)
            if related:
                self._check_does_not_keep(relation, row, related)
                values.update(self._read(relation.key)(related))
        return values

    def column(self, name: str) -> str:
        """Return the column attribute called ``name``. Raises FieldError."""
        found = self._mapper.attrs.get(name)
        while isinstance(found, SynonymProperty):
            found = self._mapper.attrs.get(found.name)
        if isinstance(found, ColumnProperty) and _is_stored(found):
            return found.key
        field(self._mapper, name)
        raise FieldError(
            f"{name!r} of {self._mapper.class_.__name__} is not a column, so it cannot be stored "
            "by itself. Give the columns that it is made of."
        )

    def _read(self, name: str) -> _Read:
        read = self._reads.get(name)
        if read is None:
            read = self._reads[name] = self._reader(name)
        return read

    def _reader(self, name: str) -> _Read:
        relation = self._mapper.relationships.get(name)
        if relation is None:
            key = self.column(name)
            return lambda value: {key: value}
        if relation.direction is not RelationshipDirection.MANYTOONE:
            raise ConfigurationError(
                f"bulk_create() stores rows of one table, and would lose the {name!r} of a "
                f"{self._mapper.class_.__name__}. Store them by a bulk_create() of their own, or "
                "use create()."
            )

        def read(other: Any) -> Values:
            if other is not None:
                self.references.add(instance_state(other))
            return _foreign_key(relation, other)

        return read

    def _check_does_not_keep(
        self, relation: RelationshipProperty[Any], row: Any, other: Any
    ) -> None:
        for name in (relation.back_populates, relation.backref):
            if isinstance(name, str) and isinstance(instance_dict(other).get(name), list):
                raise ConfigurationError(
                    f"The {name!r} of that {type(other).__name__} are loaded, and would hold this "
                    f"{type(row).__name__} as a new one still, to be stored once more. Give the "
                    f"foreign key instead of {relation.key!r}."
                )


def _constructor_defaults(mapper: Mapper[Any]) -> dict[str, Callable[[], Any]]:
    """Return the defaults that the constructor of a dataclass gives to columns."""
    if not dataclasses.is_dataclass(mapper.class_):
        return {}
    made: dict[str, Callable[[], Any]] = {}
    for argument in dataclasses.fields(mapper.class_):
        attribute = mapper.column_attrs.get(argument.name)
        if not argument.init or attribute is None or not _is_stored(attribute):
            continue
        if argument.default_factory is not dataclasses.MISSING:
            made[argument.name] = argument.default_factory
        elif argument.default not in (dataclasses.MISSING, LoaderCallableStatus.DONT_SET):
            made[argument.name] = partial(_same, argument.default)
    return made


def _same(value: Any) -> Any:
    return value


def _foreign_key(relation: RelationshipProperty[Any], other: Any) -> Values:
    values: Values = {}
    for ours, theirs in relation.local_remote_pairs or ():
        value = None
        if other is not None:
            value = getattr(other, relation.mapper.get_property_by_column(theirs).key)
            if value is None and instance_state(other).key is None:
                raise ConfigurationError(
                    f"The {type(other).__name__} in {relation.key!r} has not been stored, so there "
                    "is no key to refer to. save() it first."
                )
        values[relation.parent.get_property_by_column(ours).key] = value
    return values


def _is_stored(attribute: ColumnProperty[Any]) -> bool:
    return isinstance(attribute.columns[0], Column)
