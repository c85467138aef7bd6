"""The Registry: an application's databases by name, with one lifetime for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from sqlalchemy import MetaData
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.util import greenlet_spawn

from asgi_dbconn.call_site import find_call_site
from asgi_dbconn.databases.blocks import Block
from asgi_dbconn.databases.cross_task_context_manager import SplitContext
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.transactions import Transaction
from asgi_dbconn.health.probe import Probe
from asgi_dbconn.health.report import HealthReport
from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.lifespan.missing_lifespan import WithoutLifespan
from asgi_dbconn.migrations.migrations import Migrations
from asgi_dbconn.options import OptionArguments, hide_password
from asgi_dbconn.orm.binding import INHERIT, Choice, DatabaseChoice
from asgi_dbconn.orm.queryset import QuerySet
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.pools.statistics import DrainReport, PoolStats
from asgi_dbconn.registry.connect_all import connect_all, disconnect_all, isolate_all
from asgi_dbconn.registry.from_settings import read_settings
from asgi_dbconn.registry.named_databases import (
    DatabaseArgument,
    create_databases,
    distinct_databases,
    find_database,
    observe_all,
    parse_arguments,
)
from asgi_dbconn.registry.schema_context import SchemaBlock, SchemaContext
from asgi_dbconn.registry.sync_blocks import AsyncEnvironment, PersistentLoops
from asgi_dbconn.registry.table_catalog import TableCatalog
from asgi_dbconn.registry.transaction_retry import run_transaction
from asgi_dbconn.registry.wsgi import WSGIApp, WSGIMiddleware
from asgi_dbconn.settings import Settings
from asgi_dbconn.types import ASGIApp
from asgi_dbconn.urls import MASK

__all__ = ["Registry"]

P = ParamSpec("P")
T = TypeVar("T")


class Registry:
    """The databases of an application, by name, and the methods to use them.

    Creating a registry opens nothing and needs no event loop. It lives as long as the application.

    ``async with models``, ``connect()``/``disconnect()`` and ``models.asgi(app)`` acquire and
    release a reference to every database of the registry. In the whole process, the first
    reference to a database connects it, and the release of the last one disconnects it. Every
    method may be called from any task, thread and loop.

    The options are for every database that is named by a URL, the extra ones too. ``Database``
    objects keep their own options and are shared, not copied.
    """

    def __init__(
        self,
        database: DatabaseArgument,
        *,
        extra: Mapping[str, DatabaseArgument] = MappingProxyType({}),
        schema: str | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        parsed = parse_arguments(database, extra)
        # An error from here on must not have a secret in the local variables of its traceback.
        database, extra, options = MASK, {}, hide_password(options)
        self._databases = create_databases(parsed, options)
        self._distinct = distinct_databases(self._databases)
        self._catalog = TableCatalog(self._databases)
        self._probe = Probe()
        self._schema = SchemaContext(schema)
        self._persistent_loops = PersistentLoops(self, self._release_from_closed_loop)

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """Return a registry of the databases in ``settings``, or else in ``monkay.settings``.

        Raises ConfigurationError, naming the variables that were read, if no database is set.
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
        """The databases other than the default, by name."""
        return {name: database for name, database in self._databases.items() if name is not None}

    @property
    def metadata(self) -> MetaData:
        """The tables of the default database."""
        return self._catalog.metadatas[None]

    @property
    def metadatas(self) -> Mapping[str | None, MetaData]:
        """The tables of each database, by its name."""
        return self._catalog.metadatas

    def adopt_metadata(self, name: str | None, metadata: MetaData) -> None:
        """Use ``metadata`` for the database ``name``; a declarative base with its own calls this.

        The MetaData of databases without tables get its naming convention, too. Raises
        ConfigurationError if tables were declared for that database before.
        """
        self._catalog.adopt(name, metadata)

    def find_database(self, choice: DatabaseChoice) -> Database:
        """Return the database of that name (None: the default), or ``choice`` itself if it is one.

        Raises UnknownDatabase, which lists the known names.
        """
        known = None if isinstance(choice, Database) else self._databases.get(choice)
        return known or find_database(self._databases, choice)

    # -- one lifetime for all databases

    @property
    def is_connected(self) -> bool:
        """True if every database is connected."""
        return all(database.is_connected for database in self._databases.values())

    async def connect(self) -> None:
        """Acquire a reference to every database, and connect those that had none; all or none.

        They connect concurrently. Raises DatabaseUnavailable, or an ExceptionGroup if several
        failed, after those that succeeded have been released.
        """
        await connect_all(self._distinct)

    async def disconnect(self, *, force: bool = False) -> DrainReport | None:
        """Release the reference to every database; see ``Database.disconnect``."""
        if force:
            self._persistent_loops.forget()
        return await disconnect_all(self._distinct, force=force)

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
        wrap = partial(
            LifespanMiddleware,
            registry=self,
            handle_lifespan=handle_lifespan,
            without_lifespan=without_lifespan,
            include=include,
        )
        return wrap if app is None else wrap(app)

    def stats(self) -> Mapping[str | None, PoolStats]:
        """Return a snapshot of each database, by name; see ``PoolStats``."""
        return {name: database.stats() for name, database in self._databases.items()}

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Notify ``observer`` of the pool events of every database; return a function to stop."""
        return observe_all(self._distinct, observer)

    async def refresh(self) -> None:
        """Replace every connection of every database; see ``Database.refresh``."""
        await asyncio.gather(*(database.refresh() for database in self._distinct))

    async def health(self, timeout: float = 1.0) -> HealthReport:
        """Ping every database concurrently, for at most ``timeout`` seconds. Never raises.

        Concurrent callers share one ping per database. It is cheap enough for a public endpoint: it
        uses a pooled connection, and none if the registry is not connected.
        """
        return await self._probe.ask_all(self._databases, timeout)

    async def ping(self) -> None:
        """Send one statement to every database, concurrently. Raises the errors of a query."""
        # Found here: the user's line is not on the stack of the tasks of gather().
        site = None if self.is_connected else find_call_site()
        await asyncio.gather(*(database.ping(call_site=site) for database in self._distinct))

    # -- queries, scopes and transactions

    def current_schema(self) -> str | None:
        """Return the schema of this context: that of ``with_schema``, or else of the registry."""
        return self._schema.current()

    def with_schema(self, schema: str | None) -> SchemaBlock:
        """Run the queries and scopes of the ``with`` block in ``schema``; None is no schema.

        Tasks that are started inside inherit it; no other task sees it. The block may be entered
        again, and decorates async functions. Raises InvalidSchemaName, before any SQL.
        """
        return self._schema.choose(schema)

    def query(self, model: type[T]) -> QuerySet[T]:
        """Return a query over any class mapped by SQLAlchemy, on the database of its table."""
        return QuerySet.over(model, self, self._catalog.database_of(model))

    def connection(self, database: DatabaseChoice = None) -> Block[AsyncConnection]:
        """See ``Database.connection``. It runs in the schema that is current when entered."""
        chosen = self.find_database(database)
        return self._schema.with_current_schema(chosen, chosen.connection())

    def session(self, database: DatabaseChoice = None) -> Block[AsyncSession]:
        """See ``Database.session``. It runs in the schema that is current when entered."""
        chosen = self.find_database(database)
        return self._schema.with_current_schema(chosen, chosen.session())

    def transaction(
        self,
        database: DatabaseChoice = None,
        *,
        isolation_level: IsolationLevel | None = None,
        readonly: bool = False,
        force_rollback: bool = False,
    ) -> Block[Transaction]:
        """See ``Database.transaction``. It runs in the schema that is current when entered."""
        chosen = self.find_database(database)
        transaction = chosen.transaction(
            isolation_level=isolation_level, readonly=readonly, force_rollback=force_rollback
        )
        return self._schema.with_current_schema(chosen, transaction)

    def run_transaction(
        self,
        fn: Callable[[], Awaitable[T]],
        *,
        database: DatabaseChoice = None,
        retries: int = 3,
        isolation_level: IsolationLevel | None = None,
        readonly: bool = False,
    ) -> Coroutine[Any, Any, T]:
        """Return the result of ``await fn()`` in a transaction; retry it after a conflict.

        A conflict is a serialization failure or a deadlock (SQLSTATE 40001, 40P01), or a lock that
        SQLite did not get, in any statement or in the commit. ``fn`` is called at most ``retries``
        more times, after short, growing pauses. So it must be able to repeat its effects outside
        of the database, or leave them to ``on_commit``. The last error is raised. Inside a scope
        ``fn`` is called once, in a savepoint: only the whole transaction could be repeated.
        """
        return run_transaction(
            self.find_database(database),
            self._schema,
            fn,
            retries=retries,
            isolation_level=isolation_level,
            readonly=readonly,
        )

    def rollback(self) -> AbstractAsyncContextManager[None]:
        """Roll back everything that is done with any of the databases in the block; for a test.

        The databases are connected for the block, and each is isolated by
        ``Database.force_rollback``.
        """
        return SplitContext(partial(isolate_all, self._distinct))

    # -- tables

    async def create_all(
        self, database: str | Choice | None = INHERIT, *, schema: str | Choice | None = INHERIT
    ) -> None:
        """Create the tables that do not exist yet, in every database or in one of them.

        They are created in ``schema``, or else in the current one. The schema is created, too.
        """
        await self._catalog.create_all(database, self._schema.resolve(schema))

    async def drop_all(
        self, database: str | Choice | None = INHERIT, *, schema: str | Choice | None = INHERIT
    ) -> None:
        """Drop the tables of the models, with their rows, in every database or in one of them.

        They are dropped in ``schema``, or else in the current one. The schema itself stays, and so
        do tables that name a schema of their own, unless the schema is None.
        """
        await self._catalog.drop_all(database, self._schema.resolve(schema))

    @cached_property
    def migrations(self) -> Migrations:
        """The commands of ``asgi-dbconn db`` in code: ``await models.migrations.upgrade()``.

        They need the extra ``migrations``. No migration runs unless one of them is called.
        """
        return Migrations(self)

    # -- synchronous code

    def with_async_env(
        self, loop: asyncio.AbstractEventLoop | None = None
    ) -> AbstractContextManager[object]:
        """Connect inside ``with models.with_async_env():``, for ``run_sync`` in any thread.

        It uses ``loop``, or else the loop of this thread or of an outer block, or else a new one
        for the block. It is re-entrant: an inner block opens nothing. Raises the errors of
        ``connect()``.
        """
        return AsyncEnvironment.connect(self, loop)

    def with_loop(self, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[object]:
        """Connect on a loop, and stay connected after the block: the next one opens nothing.

        It stays connected until the loop is closed, or until ``disconnect(force=True)``. If
        ``loop.run_until_complete(loop.shutdown_asyncgens())`` comes before ``loop.close()``, the
        connections are closed in an orderly way. Otherwise they are aborted, with an
        UnclosedDatabaseWarning.
        """
        return self._persistent_loops.environment(loop)

    def wsgi(self, app: WSGIApp) -> WSGIMiddleware:
        """Return the WSGI application ``app``, connected from its first request on.

        There is one loop and one pool for all threads of a process. Both are closed when the
        process ends.
        """
        return WSGIMiddleware(app, self)

    async def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the synchronous ``function`` so that ``run_sync`` inside it costs no thread.

        It runs on this loop, in this task, and in the open scope: same connection, same
        transaction. While it waits in ``run_sync`` the loop goes on. While it computes, the loop is
        blocked.
        """
        return await greenlet_spawn(partial(function, *args, **kwargs))

    def __repr__(self) -> str:
        if not hasattr(self, "_databases"):
            return "<Registry, unfinished>"  # __init__ raised, and an error reporter calls our repr
        return f"<Registry {', '.join(repr(database) for database in self._databases.values())}>"

    def _release_from_closed_loop(self) -> None:
        for database in self._distinct:
            database.release_from_closed_loop()
