"""The Registry: an application's databases by name, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Self, TypeVar, Unpack, overload

from sqlalchemy import MetaData
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import class_mapper

from asgi_dbconn.call_site import find_call_site
from asgi_dbconn.databases.blocks import Block
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.tables import create_tables, drop_tables
from asgi_dbconn.errors import ConfigurationError, UnknownDatabase, UnsupportedURL
from asgi_dbconn.health.probe import Probe
from asgi_dbconn.health.report import HealthReport
from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.lifespan.missing_lifespan import WithoutLifespan
from asgi_dbconn.options import OptionArguments, hide_password
from asgi_dbconn.orm.binding import INHERIT, Choice, DatabaseChoice
from asgi_dbconn.orm.queryset import QuerySet
from asgi_dbconn.orm.target import refuse_on_sqlite
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.pools.statistics import DrainReport, PoolStats
from asgi_dbconn.registry.connect_all import connect_all, disconnect_all
from asgi_dbconn.registry.from_settings import read_settings
from asgi_dbconn.registry.migrated import MigratedUse
from asgi_dbconn.registry.schema_context import SchemaBlock, SchemaContext
from asgi_dbconn.registry.synchronous import SynchronousUse
from asgi_dbconn.registry.transactional import TransactionalUse
from asgi_dbconn.schema_names import check_schema
from asgi_dbconn.settings import Settings
from asgi_dbconn.types import ASGIApp
from asgi_dbconn.urls import MASK, DatabaseURL, parse_url

__all__ = ["Registry"]

T = TypeVar("T")
DatabaseArgument = str | URL | DatabaseURL | Database
_Given = DatabaseURL | Database | UnsupportedURL


class Registry(TransactionalUse, SynchronousUse, MigratedUse):
    """A registry that lives as long as the application.

    Making one opens nothing and needs no event loop.

    ``async with models``, ``connect()``/``disconnect()`` and ``models.asgi(app)`` count on every
    database of the registry; each is opened by the first and closed by the last who counts on it,
    in the whole process. Every method may be called from any task, thread and loop.

    Options are given to every database that is named by a URL, the extra ones too; ``Database``
    objects keep their own and are shared, not copied.
    """

    def __init__(
        self,
        database: DatabaseArgument,
        *,
        extra: Mapping[str, DatabaseArgument] = MappingProxyType({}),
        schema: str | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        # What is raised from here on must not find a secret in our local variables.
        given: dict[str | None, _Given] = {None: _parse(database)}
        given.update((name, _parse(argument)) for name, argument in extra.items())
        database, extra = MASK, {}
        options = hide_password(options)
        self._databases = {name: _database(source, name, options) for name, source in given.items()}
        self._metadatas: dict[str | None, MetaData] = {name: MetaData() for name in given}
        self._probe = Probe()
        self._schema = SchemaContext(schema)
        super().__init__()

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Return a registry of the databases that ``settings`` name, or else ``monkay.settings``.

        Raises ConfigurationError, saying where it was looked for, if no database is set.
        """
        database, extra, schema, options = read_settings(settings)
        return cls(database, extra=extra, schema=schema, **options)

    @property
    def database(self) -> Database:
        """The default database."""
        return self._databases[None]

    @property
    def databases(self) -> Mapping[str | None, Database]:
        """Every database by name; the default's is None."""
        return MappingProxyType(self._databases)

    @property
    def extra(self) -> Mapping[str, Database]:
        """The databases beside the default, by name."""
        return {name: database for name, database in self._databases.items() if name is not None}

    @property
    def metadata(self) -> MetaData:
        """The tables of the default database."""
        return self._metadatas[None]

    @property
    def metadatas(self) -> Mapping[str | None, MetaData]:
        """The tables of each database, by its name."""
        return MappingProxyType(self._metadatas)

    def adopt_metadata(self, name: str | None, metadata: MetaData) -> None:
        """Use ``metadata`` for the database ``name``; a declarative base with its own calls this.

        The MetaData of databases without tables get its naming convention, too. Raises
        ConfigurationError if tables were declared for that database before.
        """
        if self._metadatas[name].tables and self._metadatas[name] is not metadata:
            raise ConfigurationError(
                f"Tables of {self._label(name)} were declared before this base brought its own "
                "MetaData. Declare one base with a MetaData for each database, before any model."
            )
        self._metadatas[name] = metadata
        for other in self._metadatas.values():
            if not other.tables:
                other.naming_convention = metadata.naming_convention

    def find_database(self, choice: DatabaseChoice) -> Database:
        """Return the database so named (None: the default), or ``choice`` itself if it is one.

        Raises UnknownDatabase, naming the known ones.
        """
        if isinstance(choice, Database):
            return choice
        found = self._databases.get(choice)
        if found is None:
            names = ", ".join(repr(name) for name in self.extra)
            known = f"those named {names}" if names else "no other"
            raise UnknownDatabase(
                f"There is no database {choice!r} in this registry. It has the default (None) and "
                f"{known}. Add it to Registry(extra={{{choice!r}: ...}})."
            )
        return found

    # -- one lifetime for all

    @property
    def is_connected(self) -> bool:
        """True if every database is connected."""
        return all(database.is_connected for database in self._databases.values())

    async def connect(self) -> None:
        """Count on every database, opening those not counted on before; all of them or none.

        They connect concurrently. Raises DatabaseUnavailable, or an ExceptionGroup if several
        failed, once those that succeeded are given back.
        """
        await connect_all(self._distinct())

    async def disconnect(self, *, force: bool = False) -> DrainReport | None:
        """Stop counting on every database; see ``Database.disconnect``."""
        if force:
            self._persistent_loops.forget()
        return await disconnect_all(self._distinct(), force=force)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()

    @overload
    def asgi(
        self,
        app: ASGIApp,
        *,
        handle_lifespan: bool = False,
        without_lifespan: WithoutLifespan = "warn",
        include: Sequence[ASGIApp] = (),
    ) -> LifespanMiddleware: ...
    @overload
    def asgi(
        self,
        app: None = None,
        *,
        handle_lifespan: bool = False,
        without_lifespan: WithoutLifespan = "warn",
        include: Sequence[ASGIApp] = (),
    ) -> Callable[[ASGIApp], LifespanMiddleware]: ...
    def asgi(
        self,
        app: ASGIApp | None = None,
        *,
        handle_lifespan: bool = False,
        without_lifespan: WithoutLifespan = "warn",
        include: Sequence[ASGIApp] = (),
    ) -> LifespanMiddleware | Callable[[ASGIApp], LifespanMiddleware]:
        """Return ``app``, with this registry connected from before startup to after shutdown.

        Without ``app``, a decorator that does so. See ``LifespanMiddleware``.
        """

        def wrap(app: ASGIApp) -> LifespanMiddleware:
            return LifespanMiddleware(
                app,
                self,
                handle_lifespan=handle_lifespan,
                without_lifespan=without_lifespan,
                include=include,
            )

        return wrap if app is None else wrap(app)

    def stats(self) -> Mapping[str | None, PoolStats]:
        """Return a snapshot of each database, by name; see ``PoolStats``."""
        return {name: database.stats() for name, database in self._databases.items()}

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` what the pools of every database do; return how to stop."""
        stops = [database.observe(observer) for database in self._distinct()]

        def stop() -> None:
            for stop_observing in stops:
                stop_observing()

        return stop

    async def refresh(self) -> None:
        """Replace every connection of every database; see ``Database.refresh``."""
        await asyncio.gather(*(database.refresh() for database in self._distinct()))

    async def health(self, timeout: float = 1.0) -> HealthReport:
        """Ask every database, all together, for at most ``timeout`` seconds. Never raises.

        Concurrent callers share one ping per database. Cheap enough for a public endpoint: it uses
        a pooled connection, and none at all where the registry is not connected.
        """
        answers = await asyncio.gather(
            *(self._probe.ask(database, timeout) for database in self._databases.values())
        )
        return HealthReport(dict(zip(self._databases, answers, strict=True)))

    async def ping(self) -> None:
        """Send one statement to every database and back, together. Raises what a query would."""
        site = None if self.is_connected else find_call_site()  # gather's tasks have no line
        await asyncio.gather(*(database.ping(call_site=site) for database in self._distinct()))

    # -- using one of them

    def current_schema(self) -> str | None:
        """Return the schema of this context: that of ``with_schema``, or else of the registry."""
        return self._schema.current()

    def with_schema(self, schema: str | None) -> SchemaBlock:
        """Run queries, and scopes that are opened, in ``schema`` inside the ``with`` block.

        None is no schema. Tasks that are started inside inherit it, others never see it. May be
        entered again, and decorates async functions. Raises InvalidSchemaName, before any SQL.
        """
        return self._schema.choose(schema)

    def query(self, model: type[T]) -> QuerySet[T]:
        """Return a query over any class mapped by SQLAlchemy, on the database of its table."""
        return QuerySet.over(model, self, self._database_of(model))

    def connection(self, database: DatabaseChoice = None) -> Block[AsyncConnection]:
        """See ``Database.connection``. Carries the schema of this moment."""
        chosen = self.find_database(database)
        return self._schema.with_current_schema(chosen, chosen.connection())

    def session(self, database: DatabaseChoice = None) -> Block[AsyncSession]:
        """See ``Database.session``. Carries the schema of this moment."""
        chosen = self.find_database(database)
        return self._schema.with_current_schema(chosen, chosen.session())

    async def create_all(
        self, database: str | Choice | None = INHERIT, *, schema: str | Choice | None = INHERIT
    ) -> None:
        """Create the tables that do not exist yet, in every database or in one of them.

        In ``schema``, or else that of the context, which is created, too.
        """
        for owner, metadata, chosen in self._tables(database, schema):
            await create_tables(owner, metadata, chosen)

    async def drop_all(
        self, database: str | Choice | None = INHERIT, *, schema: str | Choice | None = INHERIT
    ) -> None:
        """Drop the tables of the models, with their rows, in every database or in one of them.

        In ``schema``, or else that of the context; the schema itself stays, and so do tables that
        name a schema of their own, unless there is none to choose.
        """
        for owner, metadata, chosen in self._tables(database, schema):
            await drop_tables(owner, metadata, chosen)

    def __repr__(self) -> str:
        if not hasattr(self, "_databases"):
            return "<Registry, unfinished>"  # __init__ raised, and an error reporter looks at us
        return f"<Registry {', '.join(repr(database) for database in self._databases.values())}>"

    def _release_from_closed_loop(self) -> None:
        for database in self._distinct():
            database.release_from_closed_loop()

    def _distinct(self) -> list[Database]:
        # One object under two names is one database, and gets one lease.
        return list(dict.fromkeys(self._databases.values()))

    def _names_of(self, database: str | Choice | None) -> list[str | None]:
        if isinstance(database, Choice):
            return list(self._databases)
        self.find_database(database)
        return [database]

    def _tables(
        self, database: str | Choice | None, schema: str | Choice | None
    ) -> list[tuple[Database, MetaData, str | None]]:
        # A list: what one of them refuses is refused before another has been touched.
        chosen = self.current_schema() if isinstance(schema, Choice) else check_schema(schema)
        names = self._names_of(database)
        for name in names:
            refuse_on_sqlite(self._databases[name], chosen)
        return [(self._databases[name], self._metadatas[name], chosen) for name in names]

    def _label(self, name: str | None) -> str:
        return "the default database" if name is None else f"database {name!r}"

    def _database_of(self, model: type[object]) -> Database:
        metadata = getattr(class_mapper(model).local_table, "metadata", None)
        for name, known_metadata in self._metadatas.items():
            if known_metadata is metadata:
                return self._databases[name]
        return self.database


def _parse(given: DatabaseArgument) -> _Given:
    return given if isinstance(given, Database) else parse_url(given)


def _database(given: _Given, name: str | None, options: OptionArguments) -> Database:
    if name is not None and not str(name).strip():
        raise ConfigurationError(
            f"A name in `extra` is a string with something in it, not {name!r}."
        )
    if isinstance(given, UnsupportedURL):
        raise given
    return given if isinstance(given, Database) else Database(given, name=name, **options)
