"""The constraint that refused a row, parsed from the error of the database, for a form say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy.exc import DBAPIError

__all__ = ["Constraint", "Kind", "constraint_of"]

Kind = Literal["unique", "foreign_key", "not_null", "check", "exclusion"]

# https://www.postgresql.org/docs/current/errcodes-appendix.html, class 23
_BY_SQLSTATE: Final[Mapping[str, Kind]] = {
    "23001": "foreign_key",  # ON DELETE RESTRICT, from PostgreSQL 18 on
    "23502": "not_null",
    "23503": "foreign_key",
    "23505": "unique",
    "23514": "check",
    "23P01": "exclusion",
}
# https://www.sqlite.org/rescode.html
_BY_NAME: Final[Mapping[str, Kind]] = {
    "SQLITE_CONSTRAINT_CHECK": "check",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key",
    "SQLITE_CONSTRAINT_NOTNULL": "not_null",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_ROWID": "unique",
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """The constraint that an error reports, as far as the database names it. Nothing is guessed.

    PostgreSQL names every constraint but NOT NULL, and reports no columns of a foreign key or a
    check. SQLite reports the columns of a unique constraint or of NOT NULL, the name of a check (or
    its text, if it has none), and nothing about a foreign key.
    """

    kind: Kind
    name: str | None = None
    columns: tuple[str, ...] = ()
    """Names of the database, in the constraint's order; for an index of expressions, those."""
    table: str | None = None


def constraint_of(error: BaseException) -> Constraint | None:
    """Return the constraint that ``error`` is about, or None if it is about something else.

    ``error`` is SQLAlchemy's ``IntegrityError``, or the driver's own.
    """
    if isinstance(error, DBAPIError):
        if error.orig is None:
            return None
        error = error.driver_exception
    kind = _BY_SQLSTATE.get(getattr(error, "sqlstate", None) or "")
    if kind is not None:
        return _of_postgresql(kind, error)
    kind = _BY_NAME.get(getattr(error, "sqlite_errorname", None) or "")
    return None if kind is None else _of_sqlite(kind, str(error))


def _of_postgresql(kind: Kind, error: BaseException) -> Constraint:
    def said(field: str) -> str | None:
        return getattr(error, field, None)

    column = said("column_name")
    columns: tuple[str, ...] = () if column is None else (column,)
    if kind in ("unique", "exclusion"):
        columns = _columns_of_key(said("detail") or "")
    return Constraint(kind, said("constraint_name"), columns, said("table_name"))


def _columns_of_key(detail: str) -> tuple[str, ...]:
    # Key (a, b)=(1, 2) already exists. The parentheses are the same in every language. A user who
    # may not read the row gets no detail.
    _, opening, rest = detail.partition("(")
    names, separator, _ = rest.partition(")=(")
    if not (opening and separator):
        return ()
    return tuple(_unquote(name) for name in _apart(names))


def _apart(names: str) -> list[str]:
    """Split ``names`` at commas, but not inside an expression or a quoted name."""
    parts, depth, is_quoted = [""], 0, False
    for character in names:
        is_quoted ^= character == '"'
        if not is_quoted:
            depth += (character == "(") - (character == ")")
        if character == "," and not (depth or is_quoted):
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _unquote(name: str) -> str:
    is_quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return name[1:-1].replace('""', '"') if is_quoted else name


def _of_sqlite(kind: Kind, message: str) -> Constraint:
    # UNIQUE constraint failed: users.a, users.b
    _, _, what = message.partition(": ")
    if not what:
        return Constraint(kind)
    if kind == "check":
        return Constraint(kind, name=what)
    if what.startswith("index '"):  # of expressions
        return Constraint(kind, name=what.removeprefix("index '").removesuffix("'"))
    table, _, _ = what.partition(".")
    names = what.split(", ")
    return Constraint(
        kind, columns=tuple(name.removeprefix(f"{table}.") for name in names), table=table
    )
