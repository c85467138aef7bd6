"""Database connections that live exactly as long as your ASGI application.

The words of the code are explained in ``docs/explanation/glossary.md``, and its layers in
``architecture.md`` beside it.

Importing this module opens nothing and loads nothing heavy: the errors are here, every other name
is imported from the module that defines it when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monkay import Monkay

from asgi_dbconn.errors import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    DatabaseNotConnectedWarning,
    DatabaseUnavailable,
    DBConnError,
    DeadlockError,
    FieldError,
    InvalidSchemaName,
    LifespanClosed,
    LifespanError,
    LoopError,
    LoopGoneError,
    MigrationError,
    MigrationLocked,
    NestingError,
    PoolClosed,
    PoolError,
    PoolOverloaded,
    PoolTimeout,
    QueryTimeout,
    RunSyncTimeout,
    ShutdownFailed,
    StartupFailed,
    TransactionAborted,
    TransactionClosed,
    TransactionError,
    UnclosedDatabaseWarning,
    UnknownDatabase,
    UnsupportedURL,
)

if TYPE_CHECKING:
    from asgi_dbconn.databases.database import Database
    from asgi_dbconn.databases.scopes import outside_scopes
    from asgi_dbconn.instance import Instance, monkay
    from asgi_dbconn.lifespan.middleware import LifespanMiddleware
    from asgi_dbconn.loops.run_sync import run_sync
    from asgi_dbconn.orm.errors import MultipleObjectsReturned, ObjectNotFound
    from asgi_dbconn.orm.queryable import Queryable
    from asgi_dbconn.orm.queryset import QuerySet
    from asgi_dbconn.pools.observer import Observer
    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.settings import Settings
    from asgi_dbconn.urls import DatabaseURL

__version__ = "0.1.0"

_HOMES: Final = {
    "asgi_dbconn.databases.database": ("Database",),
    "asgi_dbconn.databases.scopes": ("outside_scopes",),
    "asgi_dbconn.instance": ("Instance", "monkay"),
    "asgi_dbconn.lifespan.middleware": ("LifespanMiddleware",),
    "asgi_dbconn.loops.run_sync": ("run_sync",),
    "asgi_dbconn.orm.errors": ("MultipleObjectsReturned", "ObjectNotFound"),
    "asgi_dbconn.orm.queryable": ("Queryable",),
    "asgi_dbconn.orm.queryset": ("QuerySet",),
    "asgi_dbconn.pools.observer": ("Observer",),
    "asgi_dbconn.registry.registry": ("Registry",),
    "asgi_dbconn.settings": ("Settings",),
    "asgi_dbconn.urls": ("DatabaseURL",),
}

__all__ = [
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionLost",
    "DBConnError",
    "Database",
    "DatabaseNotConnectedWarning",
    "DatabaseURL",
    "DatabaseUnavailable",
    "DeadlockError",
    "FieldError",
    "Instance",
    "InvalidSchemaName",
    "LifespanClosed",
    "LifespanError",
    "LifespanMiddleware",
    "LoopError",
    "LoopGoneError",
    "MigrationError",
    "MigrationLocked",
    "MultipleObjectsReturned",
    "NestingError",
    "ObjectNotFound",
    "Observer",
    "PoolClosed",
    "PoolError",
    "PoolOverloaded",
    "PoolTimeout",
    "QuerySet",
    "QueryTimeout",
    "Queryable",
    "Registry",
    "RunSyncTimeout",
    "Settings",
    "ShutdownFailed",
    "StartupFailed",
    "TransactionAborted",
    "TransactionClosed",
    "TransactionError",
    "UnclosedDatabaseWarning",
    "UnknownDatabase",
    "UnsupportedURL",
    "__version__",
    "monkay",
    "outside_scopes",
    "run_sync",
]

_lazy: Final[Monkay[None, None]] = Monkay(
    globals(),
    lazy_imports={name: f"{home}:{name}" for home, names in _HOMES.items() for name in names},
    skip_all_update=True,
)
