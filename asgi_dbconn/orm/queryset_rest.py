"""``User.query``: an immutable description of a query, run when it is awaited."""

from __future__ import annotations

from typing import TypeVar

from asgi_dbconn.databases.database import Database
from asgi_dbconn.orm.binding import Binding
from asgi_dbconn.orm.query import Description
from asgi_dbconn.orm.queryset import Writing
from asgi_dbconn.orm.target import Place

__all__ = ["QuerySet"]

T = TypeVar("T")


class QuerySet(Writing[T]):
    """An immutable query: every building method returns a new one.

    Nothing is sent before ``await``. ``await queryset`` returns the list of its objects. May be
    kept, shared between tasks and loops, and awaited many times: each time it asks the database
    anew. Objects come back detached, with every column that is not deferred loaded, and know which
    database and schema they came from.
    """

    __slots__ = ()

    @classmethod
    def over(cls, model: type[T], binding: Binding, database: Database) -> QuerySet[T]:
        """Return the query of all rows of ``model``, whose table belongs to ``database``."""
        return cls(Description(model), Place(binding, database, database))
