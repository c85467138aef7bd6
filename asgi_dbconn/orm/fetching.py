"""The loading of a query's objects: plainly where that has the same result, or by a Session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.engine import Connection

from asgi_dbconn.orm import loading
from asgi_dbconn.orm.fast_path.read_plans import Plan, plan_of
from asgi_dbconn.orm.lookup_operators import is_expression
from asgi_dbconn.orm.origin_rest import Origin
from asgi_dbconn.orm.query import Description
from asgi_dbconn.orm.shapes import statement_for
from asgi_dbconn.orm.target import Work

__all__ = ["by_key", "by_query"]

T = TypeVar("T")


def by_query(description: Description[T]) -> tuple[Work[Sequence[T]], bool]:
    """Return the work that loads the objects, and whether it is a single statement."""
    mapper = description.mapper
    plan = None if description.options else plan_of(mapper)
    if plan is not None:
        selection = plan.selection
        statement, values = statement_for(
            description, "objects", lambda description: description.shaped(selection)
        )
        return partial(_plainly, plan=plan, statement=statement, parameters=values), True
    statement, values = statement_for(description, "whole objects", _whole_objects)
    is_simple = not description.takes_several and loading.is_one_statement(mapper)
    return partial(loading.load, statement=statement, parameters=values), is_simple


def _whole_objects(description: Description[T]) -> Select[T]:
    return description.objects().options(*loading.whole_objects(description.mapper))


def by_key(description: Description[T], key: Any) -> Work[Sequence[T]] | None:
    """Return the work that loads the one object with this primary key.

    Its statement is always the same. None if more is asked for than that, or the model is not
    that plain.
    """
    values = key if isinstance(key, tuple) else (key,)
    mapper = description.mapper
    if len(values) != len(mapper.primary_key) or not description.is_all:
        return None
    for value in values:
        if is_expression(value):
            return None
    plan = plan_of(mapper)
    if plan is None:
        return None
    statement, parameters = plan.by_key(values)
    return partial(_plainly, plan=plan, statement=statement, parameters=parameters)


def _plainly(
    connection: Connection,
    options: Mapping[str, Any],
    origin: Origin,
    *,
    plan: Plan[T],
    statement: Any,
    parameters: Mapping[str, Any] | None,
) -> Sequence[T]:
    return plan.load(connection, statement, parameters, options, origin)
