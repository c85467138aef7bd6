"""Builder of runs: from a folder, the chosen databases, a schema, and options."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asgi_dbconn.migrations.alembic_errors import translate_errors
from asgi_dbconn.migrations.folder import Folder, scripts_of
from asgi_dbconn.migrations.locking import exclusive_alembic
from asgi_dbconn.migrations.revisions import Applied, Source, compare_steps, no_steps
from asgi_dbconn.migrations.runner import Run
from asgi_dbconn.migrations.target_databases import (
    Names,
    TargetDatabase,
    all_targets,
    select_targets,
)
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice
from asgi_dbconn.orm.target import refuse_on_sqlite
from asgi_dbconn.schema_names import check_schema

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

__all__ = ["LOCK_TIMEOUT", "RunBuilder", "Schema"]

_log = logging.getLogger("asgi_dbconn")
LOCK_TIMEOUT: Final = 60.0
"""Seconds to wait for another migration of the same database."""
_FROM_FILE: Final = ("version_table", "version_table_schema")
"""Arguments of ``context.configure`` that an env.py usually reads from alembic.ini."""
_REVISION: Final = ("branch_label", "version_path", "rev_id", "depends_on")

Schema = str | Choice | None
Goal = Callable[["ScriptDirectory", Any], Source]


@dataclass
class RunBuilder:
    """The common part of all verbs. The folder is read anew for each run."""

    binding: Binding
    folder: Folder = field(default_factory=lambda: Folder(Path("migrations")))
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments for ``context.configure``."""
    tell: Callable[[Applied], None] = lambda _: None

    async def run_for(self, context: Any, source: Source, *, writes: bool, is_online: bool) -> str:
        """Run the ``alembic`` command; return the SQL if offline, or else an empty string."""
        scripts = context.script
        run = self._make(context, scripts, source, all_targets(self.binding, scripts), INHERIT)
        run.lock_timeout = LOCK_TIMEOUT if writes else None
        if not is_online:
            return run.offline()
        await run.online()
        return ""

    async def change(
        self,
        goal: Goal,
        revision: str | list[str],
        database: Names,
        schema: Schema,
        lock_timeout: float,
        **context: Any,
    ) -> list[Applied]:
        """Run the steps of ``goal`` to ``revision``; ``context`` is for Alembic's context."""
        with translate_errors():
            config = self.folder.config()
            scripts = scripts_of(config)
            targets = select_targets(self.binding, database, scripts)
            context["destination_rev"] = revision
            source = goal(scripts, revision)
            return await self._run(
                config, scripts, source, targets, schema, lock_timeout, **context
            )

    async def current(self, database: Names, schema: Schema) -> dict[str | None, tuple[str, ...]]:
        """Return the heads in the version table of each database."""
        with translate_errors():
            config = self.folder.config()
            scripts = scripts_of(config)
            targets = select_targets(self.binding, database, scripts)
            found: list[tuple[str, ...]] = []
            await self._run(config, scripts, no_steps(scripts, found), targets, schema)
        return {target.names[0]: heads for target, heads in zip(targets, found, strict=True)}

    async def compare(
        self,
        message: str | None,
        database: Names,
        schema: Schema,
        options: Mapping[str, Any],
        *,
        autogenerate: bool,
    ) -> tuple[dict[str | None, str], Path | None]:
        """Return each database's differences as code; with ``autogenerate`` also the new file."""
        with translate_errors():
            from alembic.autogenerate import RevisionContext

            names = self.engine_names(scripts_of(self.folder.config()))
            config = self.folder.config_for_writing(names, autogenerate=autogenerate)
            scripts = scripts_of(config)
            asked: dict[str, Any] = dict.fromkeys(_REVISION)
            asked |= {"message": message, "sql": False, "head": "head", "splice": False, **options}
            generated = RevisionContext(config, scripts, asked)
            targets = select_targets(self.binding, database, scripts)
            found: list[str] = []
            source = compare_steps(scripts, generated, found)
            template_args = generated.template_args
            await self._run(config, scripts, source, targets, schema, template_args=template_args)
            written = list(generated.generate_scripts()) if autogenerate else []
        differences = {target.names[0]: code for target, code in zip(targets, found, strict=True)}
        return differences, Path(written[0].path) if written and written[0] else None

    def write_empty(self, message: str | None, options: Mapping[str, Any]) -> Path:
        """Write a revision that does nothing yet. Needs no database."""
        with translate_errors():
            from alembic.util import rev_id

            names = self.engine_names(scripts_of(self.folder.config()))
            given = dict(options)
            written = scripts_of(self.folder.config_for_writing(names)).generate_revision(
                given.pop("rev_id", None) or rev_id(),
                message,
                branch_labels=given.pop("branch_label", None),
                databases=names,
                **given,
            )
        return Path(written.path if written else "")

    async def write(
        self,
        goal: Goal,
        revision: str | list[str],
        start: str | None,
        database: Names,
        schema: Schema,
    ) -> str:
        """Return the SQL of the steps of ``goal``, from ``start`` on. Opens no connection."""
        with translate_errors():
            config = self.folder.config()
            scripts = scripts_of(config)
            source = goal(scripts, revision)
            targets = select_targets(self.binding, database, scripts)
            context = {"as_sql": True, "starting_rev": start, "destination_rev": revision}
            async with exclusive_alembic(LOCK_TIMEOUT):
                with self._environment(config, scripts, **context) as environment:
                    return self._make(environment, scripts, source, targets, schema).offline()

    def engine_names(self, scripts: ScriptDirectory) -> list[str]:
        targets = all_targets(self.binding, scripts)
        return [name for target in targets for name in target.engine_names]

    async def _run(
        self,
        config: Config,
        scripts: ScriptDirectory,
        source: Source,
        targets: list[TargetDatabase],
        schema: Schema,
        lock_timeout: float | None = None,
        **context: Any,
    ) -> list[Applied]:
        if lock_timeout is None:
            context["dont_mutate"] = True
        async with exclusive_alembic(LOCK_TIMEOUT if lock_timeout is None else lock_timeout):
            with self._environment(config, scripts, fn=source, **context) as environment:
                run = self._make(environment, scripts, source, targets, schema)
                run.lock_timeout = lock_timeout
                return await run.online()

    def _make(
        self,
        environment: EnvironmentContext,
        scripts: ScriptDirectory,
        source: Source,
        targets: list[TargetDatabase],
        schema: Schema,
    ) -> Run:
        chosen = (
            self.binding.current_schema() if isinstance(schema, Choice) else check_schema(schema)
        )
        for target in targets:
            refuse_on_sqlite(target.database, chosen)
        options: dict[str, Any] = {}
        for name in _FROM_FILE:
            value = environment.config.get_alembic_option(name)
            if value is not None:
                options[name] = value
        return Run(
            environment,
            source,
            targets,
            self.engine_names(scripts),
            {**options, **self.options},
            chosen,
            tell=self._tell_run,
        )

    def _environment(
        self, config: Config, scripts: ScriptDirectory, **context: Any
    ) -> AbstractContextManager[EnvironmentContext]:
        from alembic.runtime.environment import EnvironmentContext

        return EnvironmentContext(config, scripts, tag=self.folder.tag, **context)

    def _tell_run(self, applied: Applied) -> None:
        _log.info("migration of database %s", applied)
        self.tell(applied)
