"""The part of a registry for migrations."""

from __future__ import annotations

from functools import cached_property
from typing import cast

from asgi_dbconn.migrations.migrations import Migrations
from asgi_dbconn.orm.binding import Binding

__all__ = ["MigratedUse"]


class MigratedUse:
    """A mixin for a class that is a ``Binding``."""

    @cached_property
    def migrations(self) -> Migrations:
        """The commands of ``asgi-dbconn db`` in code: ``await models.migrations.upgrade()``.

        Needs the extra ``migrations``. Nothing happens by itself.
        """
        return Migrations(cast("Binding", self))
