"""Statements that are built once for all queries of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy.orm import Mapper

from asgi_dbconn.orm.fast_path.hydration import noted
from asgi_dbconn.orm.query import Description

__all__ = ["statement_for"]

T = TypeVar("T")
S = TypeVar("S")

_KEY: Final = "asgi_dbconn.statements"
_MOST: Final = 256
"""Statements kept for one mapped class. An application has some tens; more are made on the way."""


def statement_for(
    description: Description[T], what: Hashable, build: Callable[[Description[T]], S]
) -> tuple[S, Mapping[str, Any] | None]:
    """Return the statement that ``build`` makes of ``description``, and its parameters.

    ``what`` is all that the statement depends on besides. Where the description consists of names
    and values, ``build`` is called once for all of its shape, and gets one without the values.
    """
    shape = description.shape
    if shape is None:
        return build(description), None
    statements: dict[Hashable, S] = noted(description.mapper, _KEY, _no_statements)
    key = (what, shape)
    statement = statements.get(key)
    if statement is None:
        statement = build(description.without_values())
        if len(statements) >= _MOST:
            statements.clear()
        # SQLAlchemy keeps its cache key with a statement: one that is used again is found in the
        # cache of compiled statements at a fifth of the price.
        statements[key] = statement
    return statement, description.values


def _no_statements(_: Mapper[Any]) -> dict[Hashable, Any]:
    return {}
