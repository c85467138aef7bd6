"""Names of schemas: used exactly as written, or refused before any SQL."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from asgi_dbconn.errors import InvalidSchemaName

__all__ = ["check_schema"]

_LONGEST: Final = 63
"""Bytes. PostgreSQL cuts longer names off without an error (NAMEDATALEN), so that two tenants whose
names begin alike would share one schema."""
_MISREAD: Final = re.compile(
    r"__\[SCHEMA_|__\[POSTCOMPILE_|__EXECMANY_TOKEN__|_IMV_VALUES_COUNTER|%|\$\d|'"
)
"""Texts that SQLAlchemy does not leave alone after it has put the schema into a statement: it
numbers the parameters of an INSERT of many rows anew, and names a sequence inside of quotes that a
quote in the schema's name would end."""


def check_schema(name: object) -> str | None:
    """Return ``name`` if PostgreSQL would use it as it is; None is no schema.

    Raises InvalidSchemaName. There is no normalisation: what looks alike and is not stays two.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise InvalidSchemaName(
            f"A schema is named by a string with something in it, or by None, not {name!r}."
        )
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise InvalidSchemaName(
            f"The schema name {name!r} contains a control character, or half of one that is "
            "written in two parts. Use letters, digits and punctuation."
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
            f"The schema name {name!r} contains {misread[0]!r}, which SQLAlchemy does not take for "
            "a part of the name in every statement. Use letters, digits and other punctuation."
        )
    return str.__str__(name)  # not a subclass of str that says how it is to be quoted
