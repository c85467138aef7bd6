"""Names for constraints that the models leave without one: those PostgreSQL would give them.

A constraint without a name cannot be dropped, so that a downgrade would fail, and SQLite's batch
mode cannot even add one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ForeignKeyConstraint, UniqueConstraint

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript

__all__ = ["name_constraints"]

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
            container.ops[number] = _named_table(operation)
        elif isinstance(operation, ops.OpContainer):
            _name_in(operation)
        elif isinstance(operation, ops.DropConstraintOp) and operation.constraint_name is None:
            operation.constraint_name = _name_of(operation.reverse())
        elif isinstance(operation, ops.CreateUniqueConstraintOp | ops.CreateForeignKeyOp):
            operation.constraint_name = operation.constraint_name or _name_of(operation)


def _named_table(operation: Any) -> Any:
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
