"""Every error and warning of the package, as one small tree.

DBConnError
├── ConfigurationError (ValueError)        an argument, option or setting is wrong
│   ├── UnknownDatabase (LookupError)      no database of that name is registered
│   ├── UnsupportedURL                     the URL names no async driver we know, or cannot be read
│   ├── InvalidSchemaName                  PostgreSQL would refuse the name, or cut it off
│   └── FieldError (TypeError)             a filter names a field that the model does not have
├── DatabaseUnavailable (OSError)          the server did not give us a connection
│   ├── ConnectTimeout (TimeoutError)      it did not do so in time
│   └── ConnectionLost                     the connection died under a statement
│       └── QueryTimeout (TimeoutError)    the statement took too long
├── PoolError                              the server is fine, our pool refused
│   ├── PoolTimeout (TimeoutError)         every connection stayed busy until the deadline
│   ├── PoolOverloaded                     too many wait already
│   └── PoolClosed                         the database is being, or has been, disconnected
├── TransactionError (RuntimeError)
│   ├── TransactionAborted                 a statement failed before; the transaction is lost
│   └── TransactionClosed                  the block that owned the connection has ended
├── MigrationError (RuntimeError)
│   └── MigrationLocked (TimeoutError)     another process is migrating the same database
├── LifespanError (RuntimeError)
│   ├── StartupFailed                      the application refused to start
│   ├── ShutdownFailed                     the application did not stop cleanly
│   └── LifespanClosed                     the application asked for messages after the end
└── LoopError (RuntimeError)
    ├── DeadlockError                      the caller would wait for itself
    ├── LoopGoneError                      the loop is closed, or was closed meanwhile
    ├── NestingError (TransactionError)    blocks were left, or run_sync was nested, in no order
    └── RunSyncTimeout (TimeoutError)      the work took longer than run_sync was allowed to wait

DatabaseNotConnectedWarning (UserWarning)  a query had to open an engine for itself
UnclosedDatabaseWarning (ResourceWarning)  connections died with their event loop

Errors that SQLAlchemy users already catch (``ObjectNotFound``, ``MultipleObjectsReturned``) live
in ``asgi_dbconn.orm.errors``, because they derive from SQLAlchemy's own.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionLost",
    "DBConnError",
    "DatabaseNotConnectedWarning",
    "DatabaseUnavailable",
    "DeadlockError",
    "FieldError",
    "InvalidSchemaName",
    "LifespanClosed",
    "LifespanError",
    "LoopError",
    "LoopGoneError",
    "MigrationError",
    "MigrationLocked",
    "NestingError",
    "PoolClosed",
    "PoolError",
    "PoolOverloaded",
    "PoolTimeout",
    "QueryTimeout",
    "RunSyncTimeout",
    "ShutdownFailed",
    "StartupFailed",
    "TransactionAborted",
    "TransactionClosed",
    "TransactionError",
    "UnclosedDatabaseWarning",
    "UnknownDatabase",
    "UnsupportedURL",
]


class DBConnError(Exception):
    """The root: ``except DBConnError`` catches every error that this package raises itself.

    ``code`` never changes once released; ``docs/reference/errors.md`` has an anchor for each.
    """

    code: str | None = "DBC000"

    def __str__(self) -> str:
        # Not super(): SQLAlchemy's own errors print a link after the text, to their own pages.
        return f"{Exception.__str__(self)} [{self.code}]"


class ConfigurationError(DBConnError, ValueError):
    """Error raised before any I/O, while objects are built, if a name, option or value is wrong."""

    code = "DBC100"


class UnknownDatabase(ConfigurationError, LookupError):
    """Error raised if the registry has no database of a name; the text lists those that it has."""

    code = "DBC101"


class UnsupportedURL(ConfigurationError):
    """Error raised if a database URL cannot be read, or names a driver that cannot be awaited."""

    code = "DBC102"


class FieldError(ConfigurationError, TypeError):
    """Error raised while a query is built, if it names a field or a lookup that does not exist."""

    code = "DBC103"


class InvalidSchemaName(ConfigurationError):
    """Error raised if a schema name would not be used exactly as it is written.

    It is raised before any SQL; also if the database has no schemas (SQLite).
    """

    code = "DBC104"


class DatabaseUnavailable(DBConnError, OSError):
    """Error raised if no connection could be opened; ``__cause__`` is the driver's own error.

    The traceback below this error is dropped on purpose: the driver's frames hold the password.
    """

    code = "DBC200"


class ConnectTimeout(DatabaseUnavailable, TimeoutError):
    """Error raised if a connect took longer than ``connect_timeout``.

    Also if it took longer than the time that was left of the ``acquire_timeout``.
    """

    code = "DBC201"


class ConnectionLost(DatabaseUnavailable):
    """Error raised if the connection died while a statement was under way.

    Also if its server turned out to be a read-only standby (SQLSTATE 25006). Whether the statement
    took effect is not known.
    """

    code = "DBC202"


class QueryTimeout(ConnectionLost, TimeoutError):
    """Error raised if a statement was not answered within ``query_timeout`` seconds.

    It was cancelled on the server. In a block the connection stays, if the server answers in time.
    Outside of blocks it is closed in the background, and the caller waits for neither.
    """

    code = "DBC203"


class PoolError(DBConnError):
    """A refusal of the pool; nothing was sent to the server."""

    code = "DBC210"


class PoolTimeout(PoolError, TimeoutError):
    """Error raised if no connection came free within ``acquire_timeout`` seconds."""

    code = "DBC211"


class PoolClosed(PoolError):
    """Error raised to new work and to waiters from the moment a database starts to disconnect."""

    code = "DBC212"


class PoolOverloaded(PoolError):
    """Error raised immediately to an acquire that finds ``max_waiting`` others in the queue."""

    code = "DBC213"


class TransactionError(DBConnError, RuntimeError):
    """Error raised if a scope or transaction is used in a way that its state does not allow."""

    code = "DBC220"


class TransactionAborted(TransactionError):
    """Error raised by queries after one of their transaction failed; the text says how to go on."""

    code = "DBC221"


class TransactionClosed(TransactionError):
    """Error raised to a task that goes on using a scope whose ``async with`` block has ended."""

    code = "DBC222"


class LifespanError(DBConnError, RuntimeError):
    """A failure of the lifespan protocol between the server and the application."""

    code = "DBC300"


class StartupFailed(LifespanError):
    """Error raised by the lifespan call after the wrapped application reported a failed startup.

    Returning instead would hang test clients that wait for the reason. ``models.wsgi(app)`` raises
    it for requests while the databases cannot be connected.
    """

    code = "DBC301"


class ShutdownFailed(LifespanError):
    """Error raised by the lifespan call after the wrapped application reported a failed shutdown.

    As with a failed startup, returning would leave a waiting test client without the reason.
    """

    code = "DBC302"


class LifespanClosed(LifespanError):
    """Error raised into a wrapped application that calls ``receive`` after its lifespan."""

    code = "DBC303"


class LoopError(DBConnError, RuntimeError):
    """A combination of event loops that cannot work."""

    code = "DBC400"


class DeadlockError(LoopError):
    """Error raised instead of waiting for something that waits for the caller."""

    code = "DBC401"


class LoopGoneError(LoopError):
    """Error raised if the event loop for the work is closed, or is closed before the work ends."""

    code = "DBC402"


class NestingError(LoopError, TransactionError):
    """Error raised if a block ends while one inside it is open, or ``run_sync`` nests too deeply.

    Nothing of the block was committed.
    """

    code = "DBC403"


class RunSyncTimeout(LoopError, TimeoutError):
    """Error raised if the work has not finished within the ``timeout`` of ``run_sync``.

    The work has been cancelled, and has had up to 5 seconds to clean up.
    """

    code = "DBC404"


class MigrationError(DBConnError, RuntimeError):
    """Error raised if a revision failed, or if Alembic refused a command.

    ``__cause__`` is the error itself. The text says which revision of which database failed, and
    at which revision the database is now.
    """

    code = "DBC600"


class MigrationLocked(MigrationError, TimeoutError):
    """Error raised if another migration of the same database takes longer than ``lock_timeout``.

    Nothing was changed.
    """

    code = "DBC601"


class DatabaseNotConnectedWarning(UserWarning):
    """Warning at the caller's line about a query that runs on a transient engine.

    The database is not connected, so an engine is opened for this query alone. If the warning is
    turned into an error, it is raised before anything is opened.
    """

    code: ClassVar[str] = "DBC901"


class UnclosedDatabaseWarning(ResourceWarning):
    """Warning about an event loop that was closed while database connections were open on it."""

    code: ClassVar[str] = "DBC902"
