"""Aggregate expressions: recognised by the names of their functions, to group the other fields."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Exists,
    FunctionFilter,
    Over,
    ScalarSelect,
    SelectBase,
    WithinGroup,
)
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["is_aggregate"]

_ONE_ROW: Final = (SelectBase, ScalarSelect, Exists, Over)
"""They may contain aggregates, and have one value in each row all the same."""

# https://www.postgresql.org/docs/current/functions-aggregate.html
# https://www.sqlite.org/lang_aggfunc.html
_NAMES: Final = (
    {"any_value", "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "corr", "count"}
    | {"array_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "range_agg"}
    | {"covar_pop", "covar_samp", "every", "group_concat", "json_group_array", "max", "min"}
    | {"json_group_object", "jsonb_group_array", "jsonb_group_object", "median", "string_agg"}
    | {"stddev", "stddev_pop", "stddev_samp", "sum", "total", "var_pop", "var_samp", "variance"}
    | {"range_intersect_agg", "xmlagg", "percentile", "percentile_cont", "percentile_disc"}
)
_OF_ONE_VALUE: Final = ("max", "min")
"""With several arguments, SQLite's ``max()`` compares these within a row."""


def is_aggregate(expression: Any) -> bool:
    """Return whether the expression has one value for several rows, as ``func.count()``.

    Aggregates of the database's own that are not in its documentation are not recognised.
    """
    if not isinstance(expression, ClauseElement):
        attribute = getattr(expression, "__clause_element__", None)
        return attribute is not None and is_aggregate(attribute())
    if isinstance(expression, _ONE_ROW):
        return False
    if isinstance(expression, FunctionFilter | WithinGroup):
        return True
    if isinstance(expression, FunctionElement):
        name = getattr(expression, "name", "").lower()
        is_comparison = name in _OF_ONE_VALUE and len(expression.clauses) > 1
        if name in _NAMES and not is_comparison:
            return True
    return any(is_aggregate(child) for child in expression.get_children())
