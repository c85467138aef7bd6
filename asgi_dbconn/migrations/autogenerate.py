"""Comparison of models with a database: which differences count, and how they are rendered.

Defaults of columns are compared as texts as far as that is possible. Alembic lets PostgreSQL
compare them, which fails for json: that type has no equality, and the statement would abort the
transaction. On SQLite it counts a quote in a default as a difference.

Enum types of PostgreSQL exist apart from the tables that use them. Alembic alone creates a type
with each table that uses it, does not create it for a column that is added, and never drops it. An
upgrade after a downgrade would fail. Here a revision creates a type before its first use, and drops
it after its last use.

Constraints without a name get the one that PostgreSQL would choose. Without a name a constraint
cannot be dropped, so that a downgrade would fail, and SQLite's batch mode cannot even add one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ARRAY, JSON, Column, ForeignKeyConstraint, UniqueConstraint, inspect
from sqlalchemy.dialects.postgresql import ENUM, JSONB, CreateEnumType, DropEnumType

from asgi_dbconn.migrations.target_databases import TargetDatabase

__all__ = [
    "add_enum_type_operations",
    "compare_defaults_as_text",
    "compare_options",
    "name_constraints",
    "render_enum_type",
]

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript
    from alembic.runtime.migration import MigrationContext


_LONGEST: Final = 63
"""Bytes of a name in PostgreSQL; SQLite has no limit."""


def name_constraints(script: MigrationScript) -> None:
    """Name the unnamed constraints of a generated script; the models are not changed."""
    for container in (*script.upgrade_ops_list, *script.downgrade_ops_list):
        _name_constraints_in(container)


def _name_constraints_in(container: Any) -> None:
    from alembic.operations import ops

    for number, operation in enumerate(container.ops):
        if isinstance(operation, ops.CreateTableOp):
            container.ops[number] = _name_table_constraints(operation)
        elif isinstance(operation, ops.OpContainer):
            _name_constraints_in(operation)
        elif isinstance(operation, ops.DropConstraintOp) and operation.constraint_name is None:
            operation.constraint_name = _name_of(operation.reverse())
        elif isinstance(operation, ops.CreateUniqueConstraintOp | ops.CreateForeignKeyOp):
            operation.constraint_name = operation.constraint_name or _name_of(operation)


def _name_table_constraints(operation: Any) -> Any:
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


EnumTypes = dict[tuple[str | None, str], ENUM]


def render_enum_type(kind: str, thing: Any, context: Any) -> str | bool:
    """Render an enum type with ``create_type=False``: a ``render_item`` of Alembic."""
    enum = _enum_of(thing, context.dialect) if kind == "type" else None
    if enum is None or isinstance(thing, ARRAY):
        return False
    context.imports.add("from sqlalchemy.dialects import postgresql")
    named = f"name={enum.name!r}" + (f", schema={enum.schema!r}" if enum.schema else "")
    return f"postgresql.ENUM({', '.join(map(repr, enum.enums))}, {named}, create_type=False)"


def add_enum_type_operations(script: MigrationScript, context: Any) -> None:
    """Add the CREATE TYPE and DROP TYPE operations to the last database's part of ``script``."""
    dialect = context.dialect
    upgrade, downgrade = script.upgrade_ops_list[-1], script.downgrade_ops_list[-1]
    added, dropped = (
        _enums_of(_find_added(upgrade), dialect),
        _enums_of(_find_added(downgrade), dialect),
    )
    if not (added or dropped):
        return
    tables = [
        table for metadata in context.opts["target_metadata"] for table in metadata.tables.values()
    ]
    wanted = _enums_of((column for table in tables for column in table.columns), dialect)
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


def _enums_of(columns: Iterable[Any], dialect: Any) -> EnumTypes:
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
    """Let ``context`` compare defaults as texts; Alembic compares those that still differ."""
    impl: Any = context.impl
    impl.compare_server_default = partial(_has_other_default, impl)


def _has_other_default(
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
    target: TargetDatabase,
    options: Mapping[str, Any],
    *,
    schema: str | None,
    tokens: tuple[str, str],
    is_last: bool,
) -> dict[str, Any]:
    """Return arguments for Alembic's ``context.configure``; the user's ``options`` take priority.

    In a tenant's ``schema``, tables with a schema of their own are not compared: all tenants share
    them. ``tokens`` are the names of the two halves of a revision in the template.
    """
    schemas = {table.schema for metadata in target.metadatas for table in metadata.tables.values()}
    given = dict(options)
    hook, include_name = given.pop("process_revision_directives", None), given.get("include_name")
    if schema is not None:
        schemas = {None}
        given["include_object"] = _without_schema(given.get("include_object"))
    elif schemas - {None}:
        given["include_name"] = _include_schemas(schemas | {None}, include_name)
    given["render_item"] = _make_renderer(given.get("render_item"))
    return {
        "target_metadata": list(target.metadatas),
        "compare_type": _has_other_type,
        "compare_server_default": True,
        "render_as_batch": target.database.url.dialect == "sqlite",
        "include_schemas": bool(schemas - {None}),
        **given,
        "upgrade_token": tokens[0],
        "downgrade_token": tokens[1],
        "process_revision_directives": _directives(hook, is_last=is_last),
    }


def _make_renderer(users_hook: Any) -> Any:
    def render(kind: str, thing: Any, context: Any) -> Any:
        rendered = users_hook(kind, thing, context) if users_hook is not None else False
        return render_enum_type(kind, thing, context) if rendered is False else rendered

    return render


def _include_schemas(schemas: set[str | None], users_hook: Any) -> Any:
    # Other applications may use the same database; their tables would be dropped.
    def include(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema" and name not in schemas:
            return False
        return users_hook is None or bool(users_hook(name, kind, parents))

    return include


def _without_schema(users_hook: Any) -> Any:
    def include(thing: Any, name: Any, kind: str, reflected: bool, other: Any) -> bool:  # noqa: FBT001 - Alembic's
        if kind == "table" and thing.schema is not None:
            return False
        return users_hook is None or bool(users_hook(thing, name, kind, reflected, other))

    return include


def _has_other_type(
    context: Any, _: Any, __: Any, inspected_type: Any, metadata_type: Any
) -> bool | None:
    # A type that the database does not have is reflected as the one it is stored as, and would
    # always differ. With None the decision is Alembic's.
    dialect = context.dialect
    try:
        is_the_same = metadata_type.compile(dialect) == inspected_type.compile(dialect)
    except Exception:  # a type that cannot be compiled by itself
        return None
    return False if is_the_same else None


def _directives(users_hook: Any, *, is_last: bool) -> Any:
    def process(context: Any, revision: Any, directives: list[MigrationScript]) -> None:
        for script in directives:
            name_constraints(script)
            add_enum_type_operations(script, context)
        if users_hook is not None:
            users_hook(context, revision, directives)
        is_automatic = getattr(context.config.cmd_opts, "autogenerate", False)
        # Alembic adds the next database to the same script, so only the last one may discard it.
        if is_automatic and is_last and all(_is_empty(script) for script in directives):
            directives.clear()

    return process


def _is_empty(script: MigrationScript) -> bool:
    return all(operations.is_empty() for operations in script.upgrade_ops_list)
