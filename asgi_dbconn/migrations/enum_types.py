"""Enum types of PostgreSQL, which live beside the tables that use them.

Left alone, Alembic creates a type with each table that uses it, does not create it for a column
that is added, and never drops it, so that an upgrade after a downgrade fails. Here a revision
creates a type before it is first used, and drops it after it was last used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Column, inspect
from sqlalchemy.dialects.postgresql import ENUM, CreateEnumType, DropEnumType

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript

__all__ = ["keep_enum_types", "render_enum_type"]

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
    added, dropped = _types(_added(upgrade), dialect), _types(_added(downgrade), dialect)
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


def _added(container: Any) -> Iterator[Any]:
    from alembic.operations import ops

    for operation in container.ops:
        if isinstance(operation, ops.CreateTableOp):
            yield from operation.to_table().columns
        elif isinstance(operation, ops.AddColumnOp):
            yield operation.column
        elif isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
            yield Column(operation.column_name, operation.modify_type)
        elif isinstance(operation, ops.OpContainer):
            yield from _added(operation)


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
