"""The revisions of a run, one after another: which one it is at, and whom each is written for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from asgi_dbconn.migrations.target_databases import Subject

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

__all__ = ["Applied", "Check", "Steps"]

Check = Callable[[Callable[[], None]], None]
"""A call of a revision's function that looks afterwards whether the database is well."""
Source = Callable[..., Iterable[Any]]
"""Alembic's ``fn``: it returns the steps that lead from the present heads to the goal."""


@dataclass(frozen=True)
class Applied:
    """One revision that was run, or whose number was written down, in one database."""

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

    subject: Subject
    source: Source
    begun: list[Applied] = field(default_factory=list)
    file: str | None = None
    """The file of the revision that was begun last."""
    tell: Callable[[Applied], None] = lambda _: None
    check: Check = lambda function: function()

    def __call__(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        for step in self.source(heads, context):
            revision = getattr(step, "revision", None)
            applied = Applied(
                self.subject.names[0],
                step.name.removesuffix("_revision"),
                step.from_revisions_no_deps,
                step.to_revisions_no_deps,
                step.doc,
            )
            self.file = getattr(revision, "path", None)
            if revision is not None:
                step.migration_fn = self._for_this_database(step.migration_fn, revision.module)
            self.begun.append(applied)
            self.tell(applied)
            yield step

    def _for_this_database(self, function: Callable[..., None], module: Any) -> Callable[..., None]:
        verb = function.__name__

        def call() -> None:
            for name in self.subject.engine_names:
                if not signature(function).parameters:
                    if not name:  # it was written when there was one database
                        function()
                # The default database has a part wherever there are parts; others may have come
                # later than the revision.
                elif hasattr(module, f"{verb}_{name}") or not hasattr(module, f"{verb}_"):
                    function(name)

        @wraps(function)
        def migrate(**_: Any) -> None:
            self.check(call)

        return migrate
