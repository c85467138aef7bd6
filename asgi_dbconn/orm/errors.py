"""Errors that are SQLAlchemy's own as well, so that existing handlers go on catching them."""

from __future__ import annotations

from sqlalchemy.exc import MultipleResultsFound, NoResultFound

from asgi_dbconn.errors import DBConnError

__all__ = ["MultipleObjectsReturned", "ObjectNotFound"]


class ObjectNotFound(DBConnError, NoResultFound, LookupError):
    """Raised by ``get`` if no row matches; ``get_or_none`` gives None instead."""

    code: str | None = "DBC501"


class MultipleObjectsReturned(DBConnError, MultipleResultsFound):
    """Raised by ``get`` and ``get_or_none`` if more than one row matches."""

    code: str | None = "DBC502"
