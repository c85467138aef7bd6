"""UPDATE and DELETE of all matching rows, without loading them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Delete,
    FromClause,
    Table,
    TextClause,
    Update,
    delete,
    select,
    update,
)
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.visitors import iterate

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.fast_path.execution import execute
from asgi_dbconn.orm.fast_path.hydration import has_statement_listeners
from asgi_dbconn.orm.lookup_operators import is_expression
from asgi_dbconn.orm.lookups import column
from asgi_dbconn.orm.object_loading import session_for
from asgi_dbconn.orm.origin import Origin
from asgi_dbconn.orm.query import Query, cached_statement
from asgi_dbconn.orm.simple_terms import simple_columns
from asgi_dbconn.orm.target import Work

__all__ = ["build_delete", "build_update"]


def build_update(query: Query[Any], values: Mapping[str, Any]) -> Work[int]:
    """Return the work that updates all matching rows and counts them.

    Raises FieldError or ConfigurationError immediately.
    """
    if not values:
        raise ConfigurationError("update() needs at least one field=value.")
    if query.options:
        query = query.of_rows()
    new = _plain_values(query, values)
    if new is not None:
        return _run_fast(query, "update", update, new)
    mapper = query.mapper
    changes = {column(mapper, name): value for name, value in values.items()}
    others = [name for name in values if not _is_local(mapper, name)]
    if others:
        raise ConfigurationError(
            f"{', '.join(others)} of {mapper.class_.__name__} lie in another table than its "
            "own columns, and one UPDATE changes one table. Update them on the parent class."
        )
    return partial(_count_affected, statement=_of_all(update(mapper.class_).values(changes), query))


def build_delete(query: Query[Any]) -> Work[int]:
    """Return the work that deletes all matching rows and counts them.

    Raises ConfigurationError immediately.
    """
    if query.options:
        query = query.of_rows()
    mapper = query.mapper
    if _is_plain(query):
        return _run_fast(query, "delete", delete, {})
    if len(mapper.tables) > 1:
        raise ConfigurationError(
            f"A {mapper.class_.__name__} has rows in several tables, and one DELETE deletes "
            "from one. Load the objects and delete them in models.session()."
        )
    return partial(_count_affected, statement=_of_all(delete(mapper.class_), query))


# -- by names and values


def _plain_values(query: Query[Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the new values by column name, if they are plain values of columns."""
    if not _is_plain(query):
        return None
    names = simple_columns(query.mapper)
    new = {}
    for name, value in values.items():
        known = names.get(name)
        if known is None or is_expression(value):
            return None
        new[known.column.key] = value
    return new


def _is_plain(query: Query[Any]) -> bool:
    mapper = query.mapper
    return (
        query.cache_key is not None
        and not query.is_sliced
        and not has_statement_listeners()
        and mapper.inherits is None
        and len(mapper.self_and_descendants) == 1
        and isinstance(mapper.local_table, Table)
    )


def _run_fast(query: Query[Any], verb: str, make: Any, new: Mapping[str, Any]) -> Work[int]:
    def build(query: Query[Any]) -> Any:
        return make(query.mapper.local_table).where(*query.on_table)

    statement, values = cached_statement(query, verb, build)
    return partial(
        _count_affected_directly, statement=statement, parameters={**new, **(values or {})}
    )


def _count_affected_directly(
    connection: Connection,
    _: Origin,
    *,
    statement: Update | Delete,
    parameters: Mapping[str, Any],
) -> int:
    return execute(connection, statement, parameters).rowcount


# -- by expressions


def _count_affected(connection: Connection, _: Origin, *, statement: Update | Delete) -> int:
    with session_for(connection) as session:
        result = session.execute(statement, execution_options={"synchronize_session": False})
        count = result.rowcount if isinstance(result, CursorResult) else 0
        if count < 0:
            # Python's sqlite3 counts no statement that begins with WITH; SQLite itself does.
            count = connection.exec_driver_sql("SELECT changes()").scalar_one()
        return count


def _of_all(statement: Update | Delete, query: Query[Any]) -> Update | Delete:
    """Return ``statement``, restricted to the rows of ``query``, with its criteria."""
    is_plain = _is_about_one_table(query)
    if is_plain:
        # Repeat the conditions beside a slice: after waiting for a lock, PostgreSQL checks them
        # again on the changed row.
        statement = statement.where(*query.where)
    if not is_plain or query.is_sliced or query.lock is not None:
        # Neither UPDATE nor DELETE has a LIMIT, nor the joins of an inheritance: a condition on the
        # parent's table would match every row of the child's.
        statement = statement.where(query.key_column().in_(_pick(query)))
    return statement.options(*query.options)


def _is_about_one_table(query: Query[Any]) -> bool:
    mapper = query.mapper
    if len(mapper.tables) > 1:
        return False
    conditions = query.where
    inside = [element for condition in conditions for element in iterate(condition)]
    # Most conditions use only columns of the model, and that check is cheap.
    if not any(isinstance(element, FromClause | TextClause) for element in inside) and all(
        element.table is not None and element.table in mapper.tables
        for element in inside
        if isinstance(element, ColumnClause)
    ):
        return True
    # Others may contain tables of their own, as an EXISTS does, or join them.
    return len(select(*mapper.primary_key).where(*conditions).get_final_froms()) == 1


def _pick(query: Query[Any]) -> Any:
    keys = query.keys()
    if query.lock is None:
        return keys
    # Lock once, not for each row that is examined.
    picked = keys.with_for_update(**query.lock).cte("picked")
    return select(*picked.c)


def _is_local(mapper: Mapper[Any], name: str) -> bool:
    attribute = mapper.column_attrs.get(name)
    return attribute is None or any(
        getattr(column, "table", None) is mapper.local_table for column in attribute.columns
    )
