"""Loading of objects and values: by the fast path where that has the same result, else by a
Session.

It is work on one connection, on the greenlet's synchronous side. Each verb gets a Session of its
own that ends with it. So objects come back detached and complete: two queries share nothing, and
nothing is loaded that was not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Executable, Select
from sqlalchemy.engine import Connection, Row
from sqlalchemy.orm import Mapper, Session, selectin_polymorphic
from sqlalchemy.sql.base import ExecutableOption
from sqlalchemy.util import immutabledict

from asgi_dbconn.orm.fast_path.execution import execute
from asgi_dbconn.orm.fast_path.read_plans import ReadPlan, read_plan
from asgi_dbconn.orm.loaded_objects import note_states
from asgi_dbconn.orm.lookup_operators import is_expression
from asgi_dbconn.orm.origin import Origin
from asgi_dbconn.orm.query import Query, cached_statement
from asgi_dbconn.orm.target import Work
from asgi_dbconn.pools.undo_log import undo_log_of

__all__ = [
    "is_one_statement",
    "load",
    "load_by_key",
    "load_by_query",
    "load_rows",
    "scalar",
    "session_for",
    "whole_objects",
]

T = TypeVar("T")


_BY_A_STATEMENT: Final = ("selectin", "subquery", "immediate")
_BY_A_JOIN: Final = ("joined", False)


def load(
    connection: Connection,
    origin: Origin,
    *,
    statement: Select[Any],
    parameters: Mapping[str, Any] | None = None,
) -> Sequence[Any]:
    """Return the objects that ``statement`` selects, each once, with their origin set."""
    # For the whole session: further statements of the loader options use the same schema.
    token = {} if origin is None else {"identity_token": origin}
    with session_for(connection, token) as session:
        objects = session.execute(statement, parameters).scalars().unique().all()
        log = undo_log_of(connection)
        if log is not None:
            note_states(log, session.identity_map.all_states(), log.level)
    return objects


def load_rows(
    connection: Connection,
    _: Origin,
    *,
    statement: Select[Any],
    parameters: Mapping[str, Any] | None = None,
    in_session: bool,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the rows that ``statement`` selects."""
    if in_session:
        with session_for(connection) as session:
            result: Any = session.execute(statement, parameters)
            # The cursor's own rows: the Session gives anonymous expressions other names. A listener
            # may put a result of its own in the place.
            rows: Sequence[Any] = getattr(result, "raw", result).all()
            return rows
    return connection.execute(statement, parameters).all()


def scalar(
    connection: Connection,
    _: Origin,
    *,
    statement: Executable,
    parameters: Mapping[str, Any] | None = None,
    in_session: bool,
) -> Any:
    """Return the one value that ``statement`` selects."""
    if in_session:
        with session_for(connection) as session:
            return session.execute(statement, parameters).scalar_one()
    (row,) = execute(connection, statement, parameters).rows
    return row[0]


def whole_objects(mapper: Mapper[Any]) -> list[ExecutableOption]:
    """Return options that load the columns of subclasses, too.

    A detached object cannot load them later.
    """
    subclasses = [
        descendant.class_ for descendant in mapper.self_and_descendants if descendant is not mapper
    ]
    if not subclasses or mapper.with_polymorphic:
        return []
    return [selectin_polymorphic(mapper.class_, subclasses)]


def is_one_statement(mapper: Mapper[Any]) -> bool:
    """Return whether loading objects of this class by default takes a single SELECT."""
    return _is_one_statement(mapper, set())


def _is_one_statement(mapper: Mapper[Any], seen: set[Mapper[Any]]) -> bool:
    seen.add(mapper)
    relationships = [
        relationship
        for descendant in mapper.self_and_descendants
        for relationship in descendant.relationships
    ]
    if whole_objects(mapper) or any(
        relationship.lazy in _BY_A_STATEMENT for relationship in relationships
    ):
        return False
    # A joined relation loads its own default relations, in turn.
    joined = {
        relationship.mapper for relationship in relationships if relationship.lazy in _BY_A_JOIN
    }
    return all(_is_one_statement(target, seen) for target in joined - seen)


def session_for(
    connection: Connection, execution_options: Mapping[str, Any] = immutabledict()
) -> Session:
    """Return a Session for one verb.

    It neither begins nor commits: the owner of the connection does.
    """
    # A failed flush rolls the transaction back. Closing the session does not.
    return Session(
        connection,
        autoflush=False,
        expire_on_commit=False,
        join_transaction_mode="rollback_only",
        execution_options=execution_options,
    )


def load_by_query(query: Query[T]) -> tuple[Work[Sequence[T]], bool]:
    """Return the work that loads the objects, and whether that is a single statement."""
    mapper = query.mapper
    plan = None if query.options else read_plan(mapper)
    if plan is not None:
        selection = plan.selection
        statement, values = cached_statement(
            query, "objects", lambda query: query.one_row_each().apply_to(selection)
        )
        return partial(_load_fast, plan=plan, statement=statement, parameters=values), True
    statement, values = cached_statement(query, "whole objects", _whole_objects)
    is_single_statement = not query.takes_several and is_one_statement(mapper)
    return partial(load, statement=statement, parameters=values), is_single_statement


def _whole_objects(query: Query[T]) -> Select[T]:
    return query.one_row_each().objects().options(*whole_objects(query.mapper))


def load_by_key(query: Query[T], key: Any) -> Work[Sequence[T]] | None:
    """Return the work that loads the one object with this primary key.

    Its statement is always the same. None if the query asks for more, or the model needs a Session.
    """
    values = key if isinstance(key, tuple) else (key,)
    mapper = query.mapper
    if len(values) != len(mapper.primary_key) or not query.is_all:
        return None
    plan = read_plan(mapper)
    if plan is None:
        return None
    for bounds, value in zip(plan.key_bounds, values, strict=True):
        if is_expression(value) or (
            type(value) is int and bounds is not None and value not in bounds
        ):
            return None
    statement, parameters = plan.by_key(values)
    return partial(_load_fast, plan=plan, statement=statement, parameters=parameters)


def _load_fast(
    connection: Connection,
    origin: Origin,
    *,
    plan: ReadPlan[T],
    statement: Any,
    parameters: Mapping[str, Any] | None,
) -> Sequence[T]:
    return plan.load(connection, statement, parameters, origin)
