"""Running Alembic over databases, one after another: on connections, or into a text."""

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
from asgi_dbconn.migrations.locking import take_turn
from asgi_dbconn.migrations.revisions import Applied, Source, Steps
from asgi_dbconn.migrations.target_databases import Subject

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext

__all__ = ["Run"]


@dataclass
class Run:
    """One use of Alembic for some databases. Lives as long as the verb."""

    environment: EnvironmentContext
    """Alembic's context, or the module ``alembic.context``, which has the same functions."""
    source: Source
    subjects: list[Subject]
    engine_names: list[str]
    """Names of all databases that a revision is written for, whichever the run is about."""
    options: Mapping[str, Any]
    """Arguments of the user for ``context.configure``."""
    schema: str | None = None
    lock_timeout: float | None = None
    """Seconds to wait for others; None for what changes nothing, and may happen meanwhile."""
    tell: Callable[[Applied], None] = lambda _: None
    applied: list[Applied] = field(default_factory=list)

    async def online(self) -> list[Applied]:
        """Migrate each database in a transaction of its own.

        There are more transactions if the options or a revision say so. Raises MigrationError; the
        databases before the one that failed stay migrated.
        """
        for subject in self.subjects:
            async with migration_connection(
                subject.database, self.schema, create_schema=self.lock_timeout is not None
            ) as connection:
                await self._migrate(connection, subject)
        return self.applied

    def offline(self) -> str:
        """Return the SQL, for each database under a comment with its name. Opens no connection."""
        parts = []
        for subject in self.subjects:
            text = StringIO()
            self.environment.configure(
                url=subject.database.url.without_password(),
                output_buffer=text,
                fn=Steps(subject, self.source),
                **self._arguments(subject),
            )
            self._run_migrations()
            dialect = subject.database.url.dialect
            moved = f"SET search_path TO {self._quote_schema()};\n\n" if self.schema else ""
            parts.append(f"-- Database {subject.label}, {dialect}\n\n{moved}{text.getvalue()}")
        return "\n".join(parts)

    async def _migrate(self, connection: AsyncConnection, subject: Subject) -> None:
        sync_connection = connection.sync_connection
        steps = Steps(subject, self.source, tell=self.tell)
        if subject.database.url.dialect == "sqlite" and sync_connection is not None:
            steps.check = SQLiteForeignKeys(sync_connection).check
        # Before the lock, which may begin the transaction: one that was there would be taken for
        # somebody else's.
        self.environment.configure(connection=sync_connection, fn=steps, **self._arguments(subject))
        compare_defaults_as_text(self.environment.get_context())
        if self.lock_timeout is not None:
            await take_turn(connection, subject.database, self.lock_timeout)
        try:
            await connection.run_sync(lambda _: self._run_migrations())
            if connection.in_transaction():
                await connection.commit()
        except Exception as error:
            if steps.begun:
                raise await self._failure(connection, steps, error) from error
            if is_refusal(error):
                raise MigrationError(
                    f"Database {subject.label!r}: {describe_error(error)}"
                ) from error
            raise
        self.applied += steps.begun

    def _run_migrations(self) -> None:
        with self.environment.begin_transaction():
            self.environment.run_migrations()

    def _arguments(self, subject: Subject) -> dict[str, Any]:
        single = self.engine_names == [""]
        prefix = "" if single else f"{subject.engine_name}_"
        arguments = compare_options(
            subject,
            self.options,
            schema=self.schema,
            tokens=(f"{prefix}upgrades", f"{prefix}downgrades"),
            is_last=subject is self.subjects[-1],
        )
        return {
            "literal_binds": self.environment.is_offline_mode(),
            # On SQLite, too: every BEGIN there is ours.
            "transactional_ddl": True,
            "template_args": {"databases": self.engine_names},
            **arguments,
        }

    async def _failure(
        self, connection: AsyncConnection, steps: Steps, error: Exception
    ) -> MigrationError:
        where = f"{steps.file}{_line_in(steps.file, error)}: " if steps.file else ""
        return MigrationError(
            f"{steps.begun[-1]} failed. {where}{describe_error(error)}\n"
            f"{await self._whereabouts(connection)}"
        )

    async def _whereabouts(self, connection: AsyncConnection) -> str:
        try:
            await connection.rollback()
            heads = await connection.run_sync(
                lambda _: self.environment.get_context().get_current_heads()
            )
        except (SQLAlchemyError, DBConnError):
            return "Where the database is now could not be asked; `asgi-dbconn db current` tells."
        return f"The database is at {', '.join(heads) or 'base: it has no revision'}."

    def _quote_schema(self) -> str:
        return '"' + (self.schema or "").replace('"', '""') + '"'


def _line_in(file: str, error: Exception) -> str:
    # By the name alone: Alembic follows symbolic links, and a traceback need not.
    for frame in reversed(extract_tb(error.__traceback__)):
        if Path(frame.filename).name == Path(file).name:
            return f", line {frame.lineno}"
    return ""
