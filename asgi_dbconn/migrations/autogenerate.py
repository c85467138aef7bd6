"""The comparison of models with a database: what is a difference, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, JSON, Column, ForeignKeyConstraint, UniqueConstraint, inspect
from sqlalchemy.dialects.postgresql import ENUM, JSONB, CreateEnumType, DropEnumType

from asgi_dbconn.migrations.target_databases import Subject

__all__ = [
    "compare_defaults_as_text",
    "compare_options",
    "keep_enum_types",
    "name_constraints",
    "render_enum_type",
]

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript
    from alembic.runtime.migration import MigrationContext


_LONGEST: Final = 63
"""Bytes of a name in PostgreSQL; SQLite has no limit."""


def name_constraints(script: MigrationScript) -> None:
    """Fill in what is missing in a generated script; the models are not touched."""
    for container in (*script.upgrade_ops_list, *script.downgrade_ops_list):
        _name_in(container)


def _name_in(container: Any) -> None:
    from alembic.operations import ops

    for number, operation in enumerate(container.ops):
        if isinstance(operation, ops.CreateTableOp):
            container.ops[number] = _table_name(operation)
        elif isinstance(operation, ops.OpContainer):
            _name_in(operation)
        elif isinstance(operation, ops.DropConstraintOp) and operation.constraint_name is None:
            operation.constraint_name = _name_of(operation.reverse())
        elif isinstance(operation, ops.CreateUniqueConstraintOp | ops.CreateForeignKeyOp):
            operation.constraint_name = operation.constraint_name or _name_of(operation)


def _table_name(operation: Any) -> Any:
    from alembic.operations.ops import CreateTableOp

    table = operation.to_table()  # a copy
    for constraint in table.constraints:
        columns = [column.name for column in constraint.columns]
        if constraint.name is not None:
            continue
        if isinstance(constraint, UniqueConstraint):
            constraint.name = _name(table.name, columns, "key")
        elif isinstance(constraint, ForeignKeyConstraint):
            constraint.name = _name(table.name, columns, "fkey")
    return CreateTableOp.from_table(table)


def _name_of(operation: Any) -> str | None:
    from alembic.operations import ops

    if isinstance(operation, ops.CreateUniqueConstraintOp):
        return _name(operation.table_name, operation.columns, "key")
    if isinstance(operation, ops.CreateForeignKeyOp):
        return _name(operation.source_table, operation.local_cols, "fkey")
    return None


def _name(table: str, columns: Any, suffix: str) -> str:
    name = f"{table}_{'_'.join(map(str, columns))}"
    return f"{name.encode()[: _LONGEST - len(suffix) - 1].decode(errors='ignore')}_{suffix}"


Types = dict[tuple[str | None, str], ENUM]


def render_enum_type(kind: str, thing: Any, context: Any) -> str | bool:
    """Render types of columns that do not create themselves: a ``render_item`` of Alembic."""
    enum = _enum_of(thing, context.dialect) if kind == "type" else None
    if enum is None or isinstance(thing, ARRAY):
        return False
    context.imports.add("from sqlalchemy.dialects import postgresql")
    named = f"name={enum.name!r}" + (f", schema={enum.schema!r}" if enum.schema else "")
    return f"postgresql.ENUM({', '.join(map(repr, enum.enums))}, {named}, create_type=False)"


def keep_enum_types(script: MigrationScript, context: Any) -> None:
    """Add to the newest database's part of ``script`` what creates and drops its types."""
    dialect = context.dialect
    upgrade, downgrade = script.upgrade_ops_list[-1], script.downgrade_ops_list[-1]
    added, dropped = _types(_find_added(upgrade), dialect), _types(_find_added(downgrade), dialect)
    if not (added or dropped):
        return
    tables = [
        table for metadata in context.opts["target_metadata"] for table in metadata.tables.values()
    ]
    wanted = _types((column for table in tables for column in table.columns), dialect)
    default = dialect.default_schema_name
    present = {
        (None if enum["schema"] == default else enum["schema"], enum["name"])
        for enum in inspect(context.bind).get_enums(schema="*")
    }
    created = {key: enum for key, enum in added.items() if key not in present}
    unused = {key: enum for key, enum in dropped.items() if key not in wanted and key in present}
    for container, first, last in ((upgrade, created, unused), (downgrade, unused, created)):
        container.ops[:0] = [_execute(CreateEnumType(enum), dialect) for enum in first.values()]
        container.ops += [_execute(DropEnumType(enum), dialect) for enum in last.values()]


def _find_added(container: Any) -> Iterator[Any]:
    from alembic.operations import ops

    for operation in container.ops:
        if isinstance(operation, ops.CreateTableOp):
            yield from operation.to_table().columns
        elif isinstance(operation, ops.AddColumnOp):
            yield operation.column
        elif isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
            yield Column(operation.column_name, operation.modify_type)
        elif isinstance(operation, ops.OpContainer):
            yield from _find_added(operation)


def _types(columns: Iterable[Any], dialect: Any) -> Types:
    enums = (_enum_of(column.type, dialect) for column in columns)
    return {(enum.schema, enum.name or ""): enum for enum in enums if enum is not None}


def _enum_of(kind: Any, dialect: Any) -> ENUM | None:
    if dialect.name != "postgresql":
        return None
    impl = (kind.item_type if isinstance(kind, ARRAY) else kind).dialect_impl(dialect)
    return impl if isinstance(impl, ENUM) and impl.name else None


def _execute(statement: Any, dialect: Any) -> Any:
    from alembic.operations.ops import ExecuteSQLOp

    return ExecuteSQLOp(str(statement.compile(dialect=dialect)).strip())


_CAST: Final = re.compile(r"::[\w\s.\"\[\]()]+$")


def compare_defaults_as_text(context: MigrationContext) -> None:
    """Let ``context`` compare as Alembic does only where text does not settle it."""
    impl: Any = context.impl
    impl.compare_server_default = partial(_is_other, impl)


def _is_other(
    impl: Any, inspected_column: Any, column: Any, wanted: str | None, present: str | None
) -> bool:
    if wanted is not None and present is not None:
        is_text = isinstance(getattr(column.server_default, "arg", None), str)
        quoted = "'" + wanted.replace("'", "''") + "'" if is_text else _CAST.sub("", wanted)
        if _CAST.sub("", present) == quoted:
            return False
        if impl.dialect.name == "postgresql" and _has_no_equality(column.type):
            return True
    alembics = type(impl).compare_server_default
    return bool(alembics(impl, inspected_column, column, wanted, present))


def _has_no_equality(kind: Any) -> bool:
    return isinstance(kind, JSON) and not isinstance(kind, JSONB)


def compare_options(
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
    given["render_item"] = _make_renderer(given.get("render_item"))
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


def _make_renderer(theirs: Any) -> Any:
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
