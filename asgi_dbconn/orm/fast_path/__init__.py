"""The fast path: reading and writing without a Session, where that has the same result.

It needs names of SQLAlchemy that are private or undocumented. Where this release of SQLAlchemy does
not have one of them, AVAILABLE is False, and every model takes the Session: slower, and right.
"""

from __future__ import annotations

import logging
from typing import Final

from asgi_dbconn.orm.sqlalchemy_internals import EXECUTION, HYDRATION, find_missing_names

__all__ = ["AVAILABLE"]

_missing: Final = find_missing_names(HYDRATION) + find_missing_names(EXECUTION)

AVAILABLE: Final = not _missing
"""Decided once, at import."""

if _missing:
    logging.getLogger("asgi_dbconn").warning(
        "the fast path of queries is switched off, and each takes a Session: SQLAlchemy has no %s",
        ", ".join(_missing),
    )
