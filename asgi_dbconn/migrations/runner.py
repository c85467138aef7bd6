"""Runner of Alembic for several databases, one after another: on connections, or as SQL text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.errors import DBConnError, MigrationError
from asgi_dbconn.migrations.alembic_errors import describe_error, is_refusal
from asgi_dbconn.migrations.autogenerate import compare_defaults_as_text, compare_options
from asgi_dbconn.migrations.connections import SQLiteForeignKeys, migration_connection
from asgi_dbconn.migrations.locking import lock_database
from asgi_dbconn.migrations.revisions import Applied, Source, Steps
from asgi_dbconn.migrations.target_databases import TargetDatabase

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext

__all__ = ["Run"]


@dataclass
class Run:
    """One run of Alembic for some databases. It lives as long as the verb."""

    environment: EnvironmentContext
    """Alembic's context, or the module ``alembic.context``, which has the same functions."""
    source: Source
    targets: list[TargetDatabase]
    engine_names: list[str]
    """Names of all databases that a revision is written for, also of those not in this run."""
    options: Mapping[str, Any]
    """Arguments of the user for ``context.configure``."""
    schema: str | None = None
    lock_timeout: float | None = None
    """Seconds to wait for the lock; None for a run that changes nothing, and needs no lock."""
    tell: Callable[[Applied], None] = lambda _: None
    applied: list[Applied] = field(default_factory=list)

    async def online(self) -> list[Applied]:
        """Migrate each database in a transaction of its own.

        Options and revisions can ask for more transactions. Raises MigrationError; the databases
        before the one that failed stay migrated.
        """
        for target in self.targets:
            async with migration_connection(
                target.database, self.schema, create_schema=self.lock_timeout is not None
            ) as connection:
                await self._migrate(connection, target)
        return self.applied

    def offline(self) -> str:
        """Return the SQL, for each database under a comment with its name. Opens no connection."""
        parts = []
        for target in self.targets:
            text = StringIO()
            self.environment.configure(
                url=target.database.url.without_password(),
                output_buffer=text,
                fn=Steps(target, self.source),
                **self._arguments(target),
            )
            self._run_migrations()
            dialect = target.database.url.dialect
            moved = f"SET search_path TO {self._quote_schema()};\n\n" if self.schema else ""
            parts.append(f"-- Database {target.label}, {dialect}\n\n{moved}{text.getvalue()}")
        return "\n".join(parts)

    async def _migrate(self, connection: AsyncConnection, target: TargetDatabase) -> None:
        sync_connection = connection.sync_connection
        steps = Steps(target, self.source, tell=self.tell)
        if target.database.url.dialect == "sqlite" and sync_connection is not None:
            steps.check = SQLiteForeignKeys(sync_connection).check
        # Before the lock, which may begin the transaction: Alembic would not manage a transaction
        # that it finds here.
        self.environment.configure(connection=sync_connection, fn=steps, **self._arguments(target))
        compare_defaults_as_text(self.environment.get_context())
        if self.lock_timeout is not None:
            await lock_database(connection, target.database, self.lock_timeout)
        try:
            await connection.run_sync(lambda _: self._run_migrations())
            if connection.in_transaction():
                await connection.commit()
        except Exception as error:
            if steps.started:
                raise await self._revision_error(connection, steps, error) from error
            if is_refusal(error):
                raise MigrationError(
                    f"Database {target.label!r}: {describe_error(error)}"
                ) from error
            raise
        self.applied += steps.started

    def _run_migrations(self) -> None:
        with self.environment.begin_transaction():
            self.environment.run_migrations()

    def _arguments(self, target: TargetDatabase) -> dict[str, Any]:
        single = self.engine_names == [""]
        prefix = "" if single else f"{target.engine_name}_"
        arguments = compare_options(
            target,
            self.options,
            schema=self.schema,
            tokens=(f"{prefix}upgrades", f"{prefix}downgrades"),
            is_last=target is self.targets[-1],
        )
        return {
            "literal_binds": self.environment.is_offline_mode(),
            # On SQLite, too: every BEGIN there is sent by this package.
            "transactional_ddl": True,
            "template_args": {"databases": self.engine_names},
            **arguments,
        }

    async def _revision_error(
        self, connection: AsyncConnection, steps: Steps, error: Exception
    ) -> MigrationError:
        where = f"{steps.file}{_line_in(steps.file, error)}: " if steps.file else ""
        return MigrationError(
            f"{steps.started[-1]} failed. {where}{describe_error(error)}\n"
            f"{await self._describe_state(connection)}"
        )

    async def _describe_state(self, connection: AsyncConnection) -> str:
        try:
            await connection.rollback()
            heads = await connection.run_sync(
                lambda _: self.environment.get_context().get_current_heads()
            )
        except (SQLAlchemyError, DBConnError):
            return (
                "The database's current revision could not be read; run `asgi-dbconn db current`."
            )
        return f"The database is at {', '.join(heads) or 'base: it has no revision'}."

    def _quote_schema(self) -> str:
        return '"' + (self.schema or "").replace('"', '""') + '"'


def _line_in(file: str, error: Exception) -> str:
    # By the file's name alone: Alembic resolves symbolic links, and a traceback may not.
    for frame in reversed(extract_tb(error.__traceback__)):
        if Path(frame.filename).name == Path(file).name:
            return f", line {frame.lineno}"
    return ""
