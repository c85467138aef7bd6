"""Fast path: execute a statement that SQLAlchemy has compiled before, without its Connection.

``Connection.execute()`` begins a transaction, even where the driver commits each statement by
itself, and makes a result that can do far more than to be read once. Where no listener, log or
option could notice, and no transaction has to be begun, this module uses the parts below it:
SQLAlchemy's execution context, its dialect, the driver's cursor, and its error handling. The first
execution of a statement goes through the Connection, and leaves the compiled statement in
SQLAlchemy's cache.

The private names of SQLAlchemy that this needs are listed in ``orm/sqlalchemy_internals.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Executable
from sqlalchemy.engine import Connection
from sqlalchemy.util import immutabledict

from asgi_dbconn.orm.fast_path import AVAILABLE
from asgi_dbconn.pools.dialects.drivers import BUFFERING_DRIVERS
from asgi_dbconn.pools.dialects.profile import AUTOCOMMIT

__all__ = ["Result", "execute"]

Rows = Sequence[Sequence[Any]]

_NO_OPTIONS: Final[immutabledict[str, Any]] = immutabledict()


@dataclass(slots=True)
class Result:
    """The outcome of a statement."""

    rows: Rows
    """Rows as the types of their columns have them; none where the statement returns none."""
    rowcount: int
    is_committed: bool
    """True if the statement was committed by itself; False if that is not known."""
    _context: Any

    def name_columns(self) -> dict[Column[Any], Any]:
        """Return the values of Python-side defaults: constants and functions."""
        (parameters,) = self._context.compiled_parameters
        return {column: parameters[column.key] for column in self._context.prefetch_cols or ()}


def execute(
    connection: Connection,
    statement: Executable,
    parameters: Mapping[str, Any] | None,
) -> Result:
    """Execute ``statement`` and read all of its rows."""
    is_buffered = AVAILABLE and connection.dialect.driver in BUFFERING_DRIVERS
    if is_buffered and _can_bypass(connection):
        compiled = _cached_compiled(connection, statement, parameters)
        if compiled is not None:
            return _execute_compiled(connection, statement, parameters, compiled)
    is_committed = bool(connection.get_execution_options().get(AUTOCOMMIT))
    result = connection.execute(statement, parameters)
    if not result.returns_rows:
        return Result((), result.rowcount, is_committed, result.context)
    rows = result.all()
    return Result(rows, len(rows), is_committed, result.context)


def _can_bypass(connection: Any) -> bool:
    """Return whether SQLAlchemy has no transaction to begin and no listener that expects the
    statement.

    Ask for every statement: listeners may be added at any time.
    """
    engine, dialect = connection.engine, connection.dialect
    if (
        dialect.server_side_cursors
        or connection.invalidated
        or connection.get_execution_options()
        or connection._echo
        or connection._has_events
        or engine._has_events
        or dialect.dispatch.do_execute
    ):
        return False
    raw = connection._dbapi_connection.dbapi_connection
    return raw.isolation_level == "autocommit" or bool(connection.in_transaction())


def _cached_compiled(
    connection: Any, statement: Any, parameters: Mapping[str, Any] | None
) -> tuple[Any, Any] | None:
    """Return the compiled statement of an earlier execution, and its cache key."""
    cache, key = connection.engine._compiled_cache, statement._generate_cache_key()
    if cache is None or key is None or statement.get_execution_options():
        return None
    names = tuple(sorted(parameters)) if parameters else ()
    # The key that a Connection builds for one execution without schema translation.
    compiled = cache.get((connection.dialect, key.key, names, False, False))
    if compiled is None or compiled.has_out_parameters:
        return None
    # The types of its rows are known after the first execution.
    has_rows = compiled._cached_metadata is not None or not compiled._result_columns
    return (compiled, key) if has_rows else None


def _execute_compiled(
    connection: Connection,
    statement: Executable,
    parameters: Mapping[str, Any] | None,
    known: tuple[Any, Any],
) -> Result:
    compiled, key = known
    dialect: Any = connection.dialect
    every = [parameters] if parameters else []
    try:
        context = dialect.execution_ctx_cls._init_compiled(
            dialect,
            connection,
            connection._dbapi_connection,
            _NO_OPTIONS,
            compiled,
            every,
            statement,
            key.bindparams,
            cache_hit=dialect.CACHE_HIT,
            param_dict=key.params,
        )
    except BaseException as error:
        connection._handle_dbapi_exception(error, str(compiled), every, None, None)
    context.pre_exec()
    cursor = context.cursor
    try:
        dialect.do_execute(cursor, context.statement, context.parameters[0], context)
        context.post_exec()
        rows, rowcount = cursor.fetchall(), cursor.rowcount
        cursor.close()
    except BaseException as error:
        connection._handle_dbapi_exception(
            error, context.statement, context.parameters[0], cursor, context
        )
    return Result(
        _read(rows, compiled._cached_metadata), rowcount, not connection.in_transaction(), context
    )


def _read(rows: Rows, metadata: Any) -> Rows:
    """Return the driver's ``rows``, converted by the types of their columns."""
    read = None if metadata is None else metadata._effective_processors
    if read is None:
        return rows
    return [
        [
            value if process is None else process(value)
            for process, value in zip(read, row, strict=True)
        ]
        for row in rows
    ]
