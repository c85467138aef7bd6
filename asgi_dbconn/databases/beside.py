"""A second Database for the same database, for work that must not touch the application's pool."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Unpack

from asgi_dbconn.databases.database import Database
from asgi_dbconn.options import OptionArguments

__all__ = ["beside"]


def beside(database: Database, **options: Unpack[OptionArguments]) -> Database:
    """Return a Database of one connection to the same URL.

    It has the options of ``database`` but for ``options``.

    No task has to queue or pay for it: it is not counted by ``max_connections``, and ``optional``
    does not hide that it failed.
    """
    chosen: dict[str, Any] = {
        field.name: getattr(database.options, field.name) for field in fields(database.options)
    }
    chosen |= {"pool_size": 1, "max_waiting": None, "max_connections": None}
    chosen |= {"leak_after": None, "optional": False, **options}
    return Database(database.url, name=database.name, **chosen)
