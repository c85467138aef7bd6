"""Steps of a run: the revisions from the current heads of a database to the requested ones.

They come from private methods of Alembic's ``ScriptDirectory``, which its own commands use, too.
No other module uses these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from asgi_dbconn.errors import MigrationError
from asgi_dbconn.migrations.target_databases import TargetDatabase

__all__ = [
    "Applied",
    "Check",
    "Steps",
    "compare_steps",
    "downgrade_steps",
    "no_steps",
    "split_range",
    "stamp_steps",
    "upgrade_steps",
]

if TYPE_CHECKING:
    from alembic.autogenerate import RevisionContext
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory


Check = Callable[[Callable[[], None]], None]
"""A call of a revision's function that checks the database afterwards."""
Source = Callable[..., Iterable[Any]]
"""Alembic's ``fn``: it returns the steps from the current heads to the goal."""


@dataclass(frozen=True)
class Applied:
    """One revision that was run, or only recorded, in one database."""

    database: str | None
    """Its name in the registry; None is the default one."""
    verb: str
    """``upgrade``, ``downgrade`` or ``stamp``."""
    source: tuple[str, ...]
    destination: tuple[str, ...]
    message: str | None

    def __str__(self) -> str:
        way = f"{', '.join(self.source) or 'base'} -> {', '.join(self.destination) or 'base'}"
        told = f", {self.message}" if self.message else ""
        return f"{self.database or 'default'}: {self.verb} {way}{told}"


@dataclass
class Steps:
    """The steps of one database. Lives for one run."""

    target: TargetDatabase
    source: Source
    started: list[Applied] = field(default_factory=list)
    file: str | None = None
    """The file of the revision that was started last."""
    tell: Callable[[Applied], None] = lambda _: None
    check: Check = lambda function: function()

    def __call__(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        for step in self.source(heads, context):
            revision = getattr(step, "revision", None)
            applied = Applied(
                self.target.names[0],
                step.name.removesuffix("_revision"),
                step.from_revisions_no_deps,
                step.to_revisions_no_deps,
                step.doc,
            )
            self.file = getattr(revision, "path", None)
            if revision is not None:
                step.migration_fn = self._for_this_database(step.migration_fn, revision.module)
            self.started.append(applied)
            self.tell(applied)
            yield step

    def _for_this_database(self, function: Callable[..., None], module: Any) -> Callable[..., None]:
        verb = function.__name__

        def call() -> None:
            for name in self.target.engine_names:
                if not signature(function).parameters:
                    if not name:  # written for a single database
                        function()
                # A revision for several databases always has a part for the default one. It has
                # none for a database that was added later.
                elif hasattr(module, f"{verb}_{name}") or not hasattr(module, f"{verb}_"):
                    function(name)

        @wraps(function)
        def migrate(**_: Any) -> None:
            self.check(call)

        return migrate


def upgrade_steps(scripts: ScriptDirectory, revision: str) -> Source:
    """Return the source of the steps up to ``revision``."""
    return lambda heads, _: scripts._upgrade_revs(revision, heads)


def downgrade_steps(scripts: ScriptDirectory, revision: str) -> Source:
    """Return the source of the steps down to ``revision``."""
    return lambda heads, _: scripts._downgrade_revs(revision, heads)


def stamp_steps(scripts: ScriptDirectory, revisions: Sequence[str]) -> Source:
    """Return the source of the steps to ``revisions``, without running them."""
    return lambda heads, _: scripts._stamp_revs(tuple(revisions), heads)


def no_steps(scripts: ScriptDirectory, found: list[tuple[str, ...]]) -> Source:
    """Return a source without steps; it appends the heads of each database to ``found``."""

    def read(heads: Any, _: Any) -> Iterable[Any]:
        found.append(tuple(sorted(script.revision for script in scripts.get_all_current(heads))))
        return ()

    return read


def compare_steps(
    scripts: ScriptDirectory, generated: RevisionContext, differences: list[str]
) -> Source:
    """Return a source without steps, which compares each database with the models.

    The differences are added to ``generated``, and as code to ``differences``.
    """

    def compare(heads: Any, context: Any) -> Iterable[Any]:
        newest = {script.revision for script in scripts.get_revisions("heads")}
        present = {script.revision for script in scripts.get_revisions(heads)}
        if present != newest:
            raise MigrationError(
                f"it is at {_join(present)}, and the newest revision is {_join(newest)}. "
                "Upgrade it first: `asgi-dbconn db upgrade`"
            )
        generated.run_autogenerate(heads, context)
        differences.append(_as_code(generated, context))
        return ()

    return compare


def split_range(revision: str) -> tuple[str | None, str]:
    """Split ``from:to`` into start and goal; a goal alone has no start."""
    start, colon, end = revision.partition(":")
    return (start, end) if colon else (None, revision)


def _as_code(generated: RevisionContext, context: MigrationContext) -> str:
    from alembic.autogenerate import render_python_code
    from alembic.runtime.migration import MigrationContext

    operations = [script.upgrade_ops_list[-1] for script in generated.generated_revisions]
    if not operations or operations[-1].is_empty():
        return ""
    # In a context without a folder: otherwise Alembic would search it for an env.py.
    alone = MigrationContext.configure(dialect=context.dialect)
    code = render_python_code(
        operations[-1], render_as_batch=context.opts["render_as_batch"], migration_context=alone
    )
    lines = (line.removeprefix("    ") for line in code.splitlines())
    return "\n".join(line for line in lines if not line.startswith("# ###"))


def _join(revisions: set[str]) -> str:
    return ", ".join(sorted(revisions)) or "base"
