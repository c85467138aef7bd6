"""The tables of one registry: the MetaData of each database, and creating and dropping all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import MetaData
from sqlalchemy.orm import class_mapper

from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.tables import create_tables, drop_tables
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.binding import Choice
from asgi_dbconn.orm.target import refuse_on_sqlite
from asgi_dbconn.registry.named_databases import find_database

__all__ = ["TableCatalog"]


class TableCatalog:
    """One MetaData for each database of a registry, by the database's name."""

    def __init__(self, databases: Mapping[str | None, Database]) -> None:
        self._databases = databases
        self._metadatas: dict[str | None, MetaData] = {name: MetaData() for name in databases}

    @property
    def metadatas(self) -> Mapping[str | None, MetaData]:
        return MappingProxyType(self._metadatas)

    def adopt(self, name: str | None, metadata: MetaData) -> None:
        """Use ``metadata`` for the database ``name``, if none of its tables were declared before.

        The MetaData of databases without tables get its naming convention, too. Raises
        ConfigurationError.
        """
        if self._metadatas[name].tables and self._metadatas[name] is not metadata:
            owner = "the default database" if name is None else f"database {name!r}"
            raise ConfigurationError(
                f"Tables of {owner} were declared before this base brought its own "
                "MetaData. Declare one base with a MetaData for each database, before any model."
            )
        self._metadatas[name] = metadata
        for other in self._metadatas.values():
            if not other.tables:
                other.naming_convention = metadata.naming_convention

    def database_of(self, model: type[object]) -> Database:
        """Return the database of the model's table; the default, if its MetaData is unknown."""
        metadata = getattr(class_mapper(model).local_table, "metadata", None)
        for name, known_metadata in self._metadatas.items():
            if known_metadata is metadata:
                return self._databases[name]
        return self._databases[None]

    async def create_all(self, name: str | Choice | None, schema: str | None) -> None:
        """Create the missing tables in ``schema``, in every database (INHERIT) or in one."""
        for database, metadata in self._select(name, schema):
            await create_tables(database, metadata, schema)

    async def drop_all(self, name: str | Choice | None, schema: str | None) -> None:
        """Drop the tables in ``schema``, in every database (INHERIT) or in one."""
        for database, metadata in self._select(name, schema):
            await drop_tables(database, metadata, schema)

    def _select(
        self, name: str | Choice | None, schema: str | None
    ) -> list[tuple[Database, MetaData]]:
        # A list: everything that one database refuses is refused before another is touched.
        if isinstance(name, Choice):
            names = list(self._databases)
        else:
            find_database(self._databases, name)
            names = [name]
        for selected in names:
            refuse_on_sqlite(self._databases[selected], schema)
        return [(self._databases[selected], self._metadatas[selected]) for selected in names]
