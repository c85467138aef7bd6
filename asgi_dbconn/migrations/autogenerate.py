"""The comparison of models with a database: what is a difference, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asgi_dbconn.migrations.constraint_names import name_constraints
from asgi_dbconn.migrations.enum_types import keep_enum_types, render_enum_type
from asgi_dbconn.migrations.target_databases import Subject

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript

__all__ = ["comparison"]


def comparison(
    subject: Subject,
    options: Mapping[str, Any],
    *,
    schema: str | None,
    tokens: tuple[str, str],
    is_last: bool,
) -> dict[str, Any]:
    """Return arguments for Alembic's ``context.configure``; ``options`` are the user's, and win.

    In a tenant's ``schema``, tables that name their own are not compared: all tenants share them.
    ``tokens`` are the names that the template knows the two halves of a revision by.
    """
    schemas = {table.schema for metadata in subject.metadatas for table in metadata.tables.values()}
    given = dict(options)
    hook, include_name = given.pop("process_revision_directives", None), given.get("include_name")
    if schema is not None:
        schemas = {None}
        given["include_object"] = _without_schema(given.get("include_object"))
    elif schemas - {None}:
        given["include_name"] = _within(schemas | {None}, include_name)
    given["render_item"] = _rendered_by(given.get("render_item"))
    return {
        "target_metadata": list(subject.metadatas),
        "compare_type": _has_other_type,
        "compare_server_default": True,
        "render_as_batch": subject.database.url.dialect == "sqlite",
        "include_schemas": bool(schemas - {None}),
        **given,
        "upgrade_token": tokens[0],
        "downgrade_token": tokens[1],
        "process_revision_directives": _directives(hook, is_last=is_last),
    }


def _rendered_by(theirs: Any) -> Any:
    def render(kind: str, thing: Any, context: Any) -> Any:
        rendered = theirs(kind, thing, context) if theirs is not None else False
        return render_enum_type(kind, thing, context) if rendered is False else rendered

    return render


def _within(schemas: set[str | None], theirs: Any) -> Any:
    # Others may live in the same database; what is theirs would be dropped.
    def include(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema" and name not in schemas:
            return False
        return theirs is None or bool(theirs(name, kind, parents))

    return include


def _without_schema(theirs: Any) -> Any:
    def include(thing: Any, name: Any, kind: str, reflected: bool, other: Any) -> bool:  # noqa: FBT001 - Alembic's
        if kind == "table" and thing.schema is not None:
            return False
        return theirs is None or bool(theirs(thing, name, kind, reflected, other))

    return include


def _has_other_type(
    context: Any, _: Any, __: Any, inspected_type: Any, metadata_type: Any
) -> bool | None:
    # Types that the database has no name for come back as what they are stored as, and would
    # differ for ever. None leaves the question to Alembic.
    dialect = context.dialect
    try:
        is_the_same = metadata_type.compile(dialect) == inspected_type.compile(dialect)
    except Exception:  # a type that cannot be compiled by itself
        return None
    return False if is_the_same else None


def _directives(theirs: Any, *, is_last: bool) -> Any:
    def process(context: Any, revision: Any, directives: list[MigrationScript]) -> None:
        for script in directives:
            name_constraints(script)
            keep_enum_types(script, context)
        if theirs is not None:
            theirs(context, revision, directives)
        is_automatic = getattr(context.config.cmd_opts, "autogenerate", False)
        # Alembic adds the next database to the same script, so only the last one may give it up.
        if is_automatic and is_last and all(_is_empty(script) for script in directives):
            directives.clear()

    return process


def _is_empty(script: MigrationScript) -> bool:
    return all(operations.is_empty() for operations in script.upgrade_ops_list)
