"""How the objects of a query are loaded: plainly where that gives the same, or by a Session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.sql import ClauseElement

from asgi_dbconn.orm import loading
from asgi_dbconn.orm.description import Description
from asgi_dbconn.orm.origin import Origin
from asgi_dbconn.orm.place import Work
from asgi_dbconn.orm.plain import Plan, plan_of

__all__ = ["by_key", "by_query"]

T = TypeVar("T")


def by_query(description: Description[T]) -> tuple[Work[Sequence[T]], bool]:
    """The work that loads the objects, and whether it is a single statement."""
    mapper = description.mapper
    plan = None if description.options else plan_of(mapper)
    if plan is not None:
        statement = description.shaped(plan.select())
        return partial(_plainly, plan=plan, statement=statement, parameters=None), True
    statement = description.objects().options(*loading.whole_objects(mapper))
    is_simple = not description.takes_several and loading.is_one_statement(mapper)
    return partial(loading.load, statement=statement), is_simple


def by_key(description: Description[T], key: Any) -> Work[Sequence[T]] | None:
    """The work that loads the one object with this primary key, by a statement that is always the
    same. None if more is asked for than that, or the model is not that plain.
    """
    values = key if isinstance(key, tuple) else (key,)
    mapper = description.mapper
    is_expression = any(
        isinstance(each, ClauseElement) or hasattr(each, "__clause_element__") for each in values
    )
    if is_expression or len(values) != len(mapper.primary_key) or not description.is_all:
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
