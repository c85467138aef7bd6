"""The protocol of a registry that the query layer uses. The registry itself is layers above."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, Protocol

from sqlalchemy import MetaData

from asgi_dbconn.databases.database import Database

__all__ = ["INHERIT", "Binding", "Choice", "DatabaseChoice"]


class Choice(Enum):
    """The default of arguments for which ``None`` means the registry's default database."""

    INHERIT = "inherit"


INHERIT: Final = Choice.INHERIT
DatabaseChoice = str | Database | None
"""A name of the registry, a database object of one's own, or None for the default."""


class Binding(Protocol):
    """The databases of models, and the MetaData of their tables."""

    @property
    def databases(self) -> Mapping[str | None, Database]: ...

    @property
    def metadatas(self) -> Mapping[str | None, MetaData]: ...

    def adopt_metadata(self, name: str | None, metadata: MetaData) -> None:
        """Make ``metadata`` the MetaData of the database ``name``, if that has no tables yet."""
        ...

    def current_schema(self) -> str | None:
        """Return the schema that queries of this context use by default."""
        ...

    def find_database(self, choice: DatabaseChoice) -> Database:
        """Return the database of ``choice``. Raises UnknownDatabase, which lists the known ones."""
        ...
