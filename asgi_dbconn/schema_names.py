"""Schema names: used exactly as written, or refused before any SQL."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from asgi_dbconn.errors import InvalidSchemaName

__all__ = ["check_schema"]

_LONGEST: Final = 63
"""Bytes. PostgreSQL cuts off longer names without an error (NAMEDATALEN). Two tenants with the same
63 bytes at the beginning of their names would share one schema."""
_MISREAD: Final = re.compile(
    r"__\[SCHEMA_|__\[POSTCOMPILE_|__EXECMANY_TOKEN__|_IMV_VALUES_COUNTER|%|\$\d|'"
)
"""Texts that SQLAlchemy changes after it has put the schema into a statement. It numbers the
parameters of an INSERT of many rows anew. It also puts the name of a sequence into quotes, which a
quote in the schema's name would end."""


def check_schema(name: object) -> str | None:
    """Return ``name`` if PostgreSQL would use it as it is; None is no schema.

    Raises InvalidSchemaName. Names are not normalised: two that only look alike stay different.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise InvalidSchemaName(
            f"A schema is named by a string that is not empty, or by None, not {name!r}."
        )
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise InvalidSchemaName(
            f"The schema name {name!r} contains a control character, or half of a surrogate pair. "
            "Use letters, digits and punctuation."
        )
    length = len(name.encode())
    if length > _LONGEST:
        raise InvalidSchemaName(
            f"The schema name {name!r} has {length} bytes, and PostgreSQL would cut it off after "
            f"{_LONGEST}. Choose a shorter name; letters outside of ASCII take several bytes."
        )
    if name.startswith("pg_") or name == "information_schema":  # as PostgreSQL: by the exact case
        raise InvalidSchemaName(f"The schema {name!r} belongs to PostgreSQL. Choose another name.")
    misread = _MISREAD.search(name)
    if misread is not None:
        raise InvalidSchemaName(
            f"The schema name {name!r} contains {misread[0]!r}, which SQLAlchemy changes or "
            "misreads in some statements. Use letters, digits and other punctuation."
        )
    return str.__str__(name)  # not a subclass of str, which could decide about its quotes
