"""Objects and values out of the database: work on one connection, on the greenlet's synchronous
side.

Each verb gets a Session of its own that ends with it, so objects come back detached and complete:
nothing is shared between two queries, and nothing is loaded behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, Select
from sqlalchemy.engine import Connection, Row
from sqlalchemy.orm import Mapper, Session, selectin_polymorphic
from sqlalchemy.sql.base import ExecutableOption

from asgi_dbconn.orm.origin import Origin

__all__ = ["is_one_statement", "load", "load_rows", "scalar", "session_for", "whole_objects"]


def load(
    connection: Connection, options: Mapping[str, Any], origin: Origin, *, statement: Select[Any]
) -> Sequence[Any]:
    """The objects that ``statement`` selects, each once; they know where they came from."""
    # For the whole session: what the options load by statements of their own comes from there, too.
    token = {} if origin is None else {"identity_token": origin}
    with session_for(connection, {**options, **token}) as session:
        objects = session.execute(statement).scalars().unique().all()
        session.expunge_all()
    return objects


def load_rows(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, statement: Select[Any]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The rows that ``statement`` selects, as they are."""
    return connection.execute(statement, execution_options=options).all()


def scalar(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, statement: Executable
) -> Any:
    """The one value that ``statement`` selects."""
    return connection.execute(statement, execution_options=options).scalar_one()


def whole_objects(mapper: Mapper[Any]) -> list[ExecutableOption]:
    """Options that load the columns of subclasses, too: a detached object cannot do so later."""
    subclasses = [each.class_ for each in mapper.self_and_descendants if each is not mapper]
    if not subclasses or mapper.with_polymorphic:
        return []
    return [selectin_polymorphic(mapper.class_, subclasses)]


def is_one_statement(mapper: Mapper[Any]) -> bool:
    """Whether loading objects of this class by default takes a single SELECT."""
    return not any(
        relation.lazy in ("selectin", "subquery", "immediate")
        for each in mapper.self_and_descendants
        for relation in each.relationships
    ) and not whole_objects(mapper)


def session_for(connection: Connection, options: Mapping[str, Any]) -> Session:
    """A Session for one verb. It neither begins nor commits: the connection's owner does."""
    # A failed flush rolls the transaction back here already; closing the session leaves it alone.
    return Session(
        connection,
        autoflush=False,
        expire_on_commit=False,
        join_transaction_mode="rollback_only",
        execution_options=options,
    )
