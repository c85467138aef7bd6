"""Errors that are SQLAlchemy's own as well, so that existing handlers go on catching them."""

from __future__ import annotations

from sqlalchemy.exc import MultipleResultsFound, NoResultFound

from asgi_dbconn.errors import DBConnError

__all__ = ["MultipleObjectsReturned", "ObjectNotFound"]


class ObjectNotFound(DBConnError, NoResultFound, LookupError):
    """The error of ``get`` if no row matches; ``get_or_none`` returns None instead."""

    code: str | None = "DBC501"


class MultipleObjectsReturned(DBConnError, MultipleResultsFound):
    """The error of ``get`` and ``get_or_none`` if more than one row matches."""

    code: str | None = "DBC502"
