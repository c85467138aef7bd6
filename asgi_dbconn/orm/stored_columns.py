"""All that storing an object has to know of each of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, TypeDecorator
from sqlalchemy.types import UserDefinedType

__all__ = ["StoredColumn", "has_own_idea_of_null", "stored_column"]

_OWN_IDEA_OF_NULL: Final = (TypeDecorator, UserDefinedType)


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """Facts, in the words of an INSERT and of an UPDATE of a single row."""

    column: Column[Any]
    key: str
    """The name of its value among the parameters of a statement."""
    is_of_key: bool
    is_filled_in: bool
    """True if a new row needs no value for it: the database or a default has one."""
    is_null_if_left_out: bool
    stores_none: bool
    """True if None is a value of its own, as the null of JSON."""
    has_server_default: bool
    is_asked_for: bool
    """True if only the database knows what a new row has in it."""
    is_asked_for_again: bool
    """True if only the database knows what a changed row has in it."""

    def takes(self, name: str, present: Mapping[str, Any], *, server_defaults: bool) -> bool:
        """Return whether an object with these values takes what a new row has in it."""
        if self.is_of_key:
            return present.get(name) is None
        if self.has_server_default:
            return server_defaults  # with one of them, all of them come
        return name not in present


def stored_column(column: Column[Any]) -> StoredColumn | None:
    """Return the facts of ``column``; None for one that takes more than a value to store."""
    default, on_update, is_of_key = column.default, column.onupdate, column.primary_key
    is_called = default is not None and (default.is_scalar or default.is_callable)
    is_counted = default is not None and default.is_sequence
    is_computed = default is not None and default.is_clause_element
    is_usual = (
        default is None
        or is_called
        or (is_counted and is_of_key)
        or (is_computed and not is_of_key)
    )
    if not is_usual or (on_update is not None and (is_of_key or on_update.is_sequence)):
        return None
    is_given_by_database = column.server_default is not None or is_computed
    stores_none = column.type.should_evaluate_none
    is_numbered = column.table.autoincrement_column is column
    return StoredColumn(
        column,
        key=column.key,
        is_of_key=is_of_key,
        is_filled_in=is_called or is_counted or is_given_by_database or is_numbered,
        is_null_if_left_out=not (
            is_of_key or column.server_default is not None or default is not None or stores_none
        ),
        stores_none=stores_none,
        has_server_default=is_given_by_database,
        is_asked_for=is_given_by_database
        or is_counted
        or is_numbered
        or (default is None and has_own_idea_of_null(column)),
        is_asked_for_again=column.server_onupdate is not None
        or (on_update is not None and on_update.is_clause_element),
    )


def has_own_idea_of_null(column: Any) -> bool:
    """Return whether its type may read NULL as something else than None."""
    return isinstance(getattr(column, "type", None), _OWN_IDEA_OF_NULL)
