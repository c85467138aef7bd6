"""The comparison of a column's default with its model's, as far as their texts can tell.

Alembic lets PostgreSQL compare the two, which it cannot for json: that type has no equality, and
the question would end the transaction. On SQLite it takes a quote in a default for a difference.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

__all__ = ["compare_defaults_as_text"]

_CAST: Final = re.compile(r"::[\w\s.\"\[\]()]+$")


def compare_defaults_as_text(context: MigrationContext) -> None:
    """Let ``context`` compare as Alembic does only where text does not settle it."""
    impl: Any = context.impl
    impl.compare_server_default = partial(_is_other, impl)


def _is_other(
    impl: Any, inspected_column: Any, column: Any, wanted: str | None, present: str | None
) -> bool:
    if wanted is not None and present is not None:
        is_text = isinstance(getattr(column.server_default, "arg", None), str)
        quoted = "'" + wanted.replace("'", "''") + "'" if is_text else _CAST.sub("", wanted)
        if _CAST.sub("", present) == quoted:
            return False
        if impl.dialect.name == "postgresql" and _has_no_equality(column.type):
            return True
    alembics = type(impl).compare_server_default
    return bool(alembics(impl, inspected_column, column, wanted, present))


def _has_no_equality(kind: Any) -> bool:
    return isinstance(kind, JSON) and not isinstance(kind, JSONB)
