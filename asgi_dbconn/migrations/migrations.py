"""``models.migrations``: the commands of ``asgi-dbconn db``, as methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from asgi_dbconn.migrations.alembic_errors import translate_errors
from asgi_dbconn.migrations.folder import Folder, create_folder
from asgi_dbconn.migrations.revisions import (
    Applied,
    Source,
    downgrade_steps,
    split_range,
    stamp_steps,
    upgrade_steps,
)
from asgi_dbconn.migrations.run_builder import LOCK_TIMEOUT, RunBuilder, Schema
from asgi_dbconn.migrations.target_databases import Names
from asgi_dbconn.orm.binding import INHERIT, Binding

__all__ = ["Migrations", "RevisionOptions"]


class RevisionOptions(TypedDict, total=False):
    """Options of a new revision, as Alembic's options of these names."""

    head: str
    splice: bool
    branch_label: str | None
    version_path: str | None
    rev_id: str | None
    depends_on: Sequence[str] | None


class Migrations:
    """The migrations of a registry's databases. The folder is read anew for each verb.

    Verbs may be called in any task and loop, whether the registry is connected or not. Each
    database is migrated on a connection of its own, outside of the pool. Verbs take ``database`` (a
    name, several, or None for the default; all by default) and ``schema`` (the current one by
    default). They raise MigrationError, or ConfigurationError without Alembic.
    """

    def __init__(self, binding: Binding) -> None:
        self._runs = RunBuilder(binding)

    def configure(self, directory: str | Path | None = None, **options: Any) -> None:
        """Set the folder, and arguments of Alembic's ``context.configure`` for every verb.

        ``include_object=``, ``compare_type=``, ``render_as_batch=``, ``version_table=``,
        ``transaction_per_migration=``, ``process_revision_directives=`` and so on.
        """
        if directory is not None:
            self._runs.folder = Folder(Path(directory))
        self._runs.options |= options

    def at(
        self,
        directory: str | Path | None = None,
        *,
        x: Sequence[str] = (),
        tag: str | None = None,
        tell: Callable[[Applied], None] = lambda _: None,
    ) -> Migrations:
        """Return the same migrations in another folder, with ``x`` and ``tag`` for the revisions.

        ``tell`` is called at the beginning of each revision.
        """
        runs = self._runs
        other = Migrations(runs.binding)
        path = runs.folder.directory if directory is None else Path(directory)
        other._runs = RunBuilder(
            runs.binding, Folder(path, tuple(x), tag), dict(runs.options), tell
        )
        return other

    @property
    def folder(self) -> Folder:
        return self._runs.folder

    # -- changing databases

    async def upgrade(
        self,
        revision: str = "head",
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> list[Applied]:
        """Run the revisions up to ``revision``, and return those that were run.

        Several processes may call it at the same time: one migrates, the others wait and find no
        revision to run. Raises MigrationLocked after ``lock_timeout`` seconds. ``schema`` is
        created if it does not exist.
        """
        return await self._runs.change(upgrade_steps, revision, database, schema, lock_timeout)

    async def downgrade(
        self,
        revision: str = "-1",
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> list[Applied]:
        """Undo the revisions after ``revision``; by default the newest one."""
        return await self._runs.change(downgrade_steps, revision, database, schema, lock_timeout)

    async def stamp(
        self,
        revision: str | Sequence[str] = "head",
        *,
        purge: bool = False,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> list[Applied]:
        """Record that the databases are at ``revision``, and change nothing else."""
        revisions = [revision] if isinstance(revision, str) else list(revision)
        return await self._runs.change(
            stamp_steps, revisions, database, schema, lock_timeout, purge=purge
        )

    # -- reading databases

    async def current(
        self, *, database: Names = INHERIT, schema: Schema = INHERIT
    ) -> dict[str | None, tuple[str, ...]]:
        """Return the revisions that each database is at, by its name."""
        return await self._runs.current(database, schema)

    async def check(
        self, *, database: Names = INHERIT, schema: Schema = INHERIT
    ) -> dict[str | None, str]:
        """Return the differences of the models from each database, by its name.

        They are the code of a revision. Databases without differences are left out.
        """
        differences, _ = await self._runs.compare(None, database, schema, {}, autogenerate=False)
        return {name: code for name, code in differences.items() if code}

    # -- writing revisions

    async def makemigrations(
        self,
        message: str | None = None,
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
        **options: Unpack[RevisionOptions],
    ) -> Path | None:
        """Write a revision with the differences of the models; None if there are none."""
        _, written = await self._runs.compare(message, database, schema, options, autogenerate=True)
        return written

    def revision(self, message: str | None = None, **options: Unpack[RevisionOptions]) -> Path:
        """Write an empty revision, with functions for each database."""
        return self._runs.write_empty(message, options)

    def merge(
        self,
        revisions: str | Sequence[str] = "heads",
        message: str | None = None,
        *,
        branch_label: str | None = None,
        rev_id: str | None = None,
    ) -> Path:
        """Write a revision that merges several heads, and changes nothing itself."""
        heads: Any = revisions if isinstance(revisions, str) else list(revisions)
        return self.revision(message, head=heads, branch_label=branch_label, rev_id=rev_id)

    def init(self) -> list[Path]:
        """Create the folder, and return its new files; the ``alembic`` command can use it, too."""
        with translate_errors():
            return create_folder(self.folder.directory, self._runs.binding)

    # -- SQL instead of running

    async def upgrade_sql(
        self,
        revision: str = "head",
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
    ) -> str:
        """Return the SQL that ``upgrade`` would send; ``revision`` may be a range, ``from:to``."""
        start, end = split_range(revision)
        return await self._runs.write(upgrade_steps, end, start, database, schema)

    async def downgrade_sql(
        self,
        revision: str = "head:-1",
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
    ) -> str:
        """Return the SQL that ``downgrade`` would send; ``revision`` is a range, ``from:to``."""
        start, end = split_range(revision)
        return await self._runs.write(downgrade_steps, end, start or "head", database, schema)

    async def stamp_sql(
        self,
        revision: str | Sequence[str] = "head",
        *,
        database: Names = INHERIT,
        schema: Schema = INHERIT,
    ) -> str:
        """Return the SQL that ``stamp`` would send; ``revision`` may be one range, ``from:to``."""
        revisions, start = [revision] if isinstance(revision, str) else list(revision), None
        if len(revisions) == 1:
            start, revisions[0] = split_range(revisions[0])
        return await self._runs.write(stamp_steps, revisions, start, database, schema)

    # -- for env.py

    async def run_for(self, context: Any, source: Source, *, writes: bool, is_online: bool) -> str:
        """Run the ``alembic`` command; return the SQL with ``--sql``, or else an empty string."""
        return await self._runs.run_for(context, source, writes=writes, is_online=is_online)
